"""The reference linker conforms under the policy of a modelled system, as far as that promises."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from linker.policies import ALL
from linker.policy import Promise

Suite = Callable[..., pytest.RunResult]


@pytest.mark.parametrize("name", ["uv", "coreutils"])
def test_what_a_system_does_not_promise_is_not_asked_of_it(outside: Suite, name: str) -> None:
    result = outside(
        *("--pyargs", "pytest_linkmode.conformance", "--linkmode-layout=tmpfs", "-rs"),
        *(f"--linkmode-policy={name}", "-k", "stat or every_file_ends or merged", "-m", "not slow"),
    )
    outcomes = result.parseoutcomes()
    assert not outcomes.keys() & {"failed", "errors"}, result.stdout.str()
    assert outcomes["passed"] > 4
    waived = set(re.findall(rf"{re.escape(name)} does not promise ([\w, -]+)", result.stdout.str()))
    promises = {each for line in waived for each in line.split(", ")}
    of_stat = {Promise.FILE_PERMISSIONS, Promise.FILE_TIMES, Promise.DIRECTORY_PERMISSIONS}
    of_stat |= {Promise.DIRECTORY_TIMES}
    assert promises == {str(each) for each in ALL[name].waives & of_stat}
