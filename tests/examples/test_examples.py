"""The examples, as a stranger runs them: a copy of each, against the built wheel."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.examples.environments import EXAMPLES, Environment

EnvironmentOf = Callable[[str], Environment]

QUIETLY = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
PLACED = ("linkmode", "run", "--env", "CACHE_DIR=btrfs", "--env", "TARGET_DIR=btrfs", "--")

mounting = pytest.mark.usefixtures("mounting")


def _outcomes(said: str) -> dict[str, int]:
    return {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|errors?)", said)
    }


def _on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("project", [name], indirect=True)


@mounting
@_on("cache")
def test_the_plugin_finds_what_the_ordinary_tests_of_a_cache_do_not(
    project: Path, environment_of: EnvironmentOf
) -> None:
    environment = environment_of("cache")
    command = (environment.python, *QUIETLY)
    hasty = environment.run(*command, "--linkmode-fs=btrfs", cwd=project, SHELF="shelf.hasty")
    assert hasty.returncode == pytest.ExitCode.TESTS_FAILED
    assert {line.split()[1] for line in hasty.stdout.splitlines() if line.startswith("FAILED")} == {
        f"tests/test_links.py::{test}"
        for test in (
            "test_one_file_that_cannot_be_linked_is_the_only_copy[btrfs]",
            "test_files_with_too_many_names_do_not_cost_the_others_theirs"
            "[btrfs+too-many-links-hardlink]",
        )
    }
    mended = environment.run(*command, "--linkmode-fs=btrfs", cwd=project)
    assert mended.returncode == pytest.ExitCode.OK, mended.stdout
    assert _outcomes(mended.stdout) == {"passed": sum(_outcomes(hasty.stdout).values())}


@mounting
@_on("installed-tool")
def test_an_installed_tool_is_tested_through_nothing_but_the_plugin(
    project: Path, environment_of: EnvironmentOf
) -> None:
    environment = environment_of("installed-tool")
    ran = environment.run(
        environment.python,
        *QUIETLY,
        "--linkmode-layout=btrfs,btrfs:tmpfs",
        cwd=project,
    )
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout
    assert _outcomes(ran.stdout) == {"passed": 2 * 4 + 1}


@mounting
@_on("unchanged")
def test_an_unchanged_suite_meets_another_filesystem(
    project: Path, environment_of: EnvironmentOf
) -> None:
    environment = environment_of("unchanged")

    def outcomes(*arguments: str) -> dict[str, int]:
        ran = environment.run(environment.python, *QUIETLY, *arguments, cwd=project)
        return _outcomes(ran.stdout)

    assert outcomes("--linkmode-tmp=btrfs") == {"passed": 3}
    assert outcomes("--linkmode-tmp=ext2") == {"passed": 2, "failed": 1}


@mounting
@_on("shell")
def test_tests_in_sh_find_their_filesystems_by_environment_variables(
    project: Path, environment_of: EnvironmentOf
) -> None:
    environment = environment_of("shell")
    ran = environment.run(
        *PLACED,
        *("sh", "tests/run.sh"),
        cwd=project,
    )
    ended = [line for line in ran.stdout.splitlines() if "ok - " in line]
    assert (ran.returncode, ended) == (
        0,
        ["ok - clone ends in clone", "ok - hardlink ends in hardlink", "ok - copy ends in copy"],
    ), ran.stderr


@mounting
@_on("shell")
def test_a_linker_that_does_other_than_it_says_is_not_ok_in_sh_either(
    project: Path, environment_of: EnvironmentOf
) -> None:
    script = project / "place.sh"
    script.write_text(script.read_text().replace("--reflink=auto", "--reflink=never"))
    ran = environment_of("shell").run(
        *PLACED,
        *("sh", "tests/run.sh"),
        cwd=project,
    )
    assert ran.returncode == 1
    assert "not ok - clone ends in clone" in ran.stdout


@pytest.mark.parametrize(
    "project", sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")), indirect=True
)
def test_an_environment_has_the_wheel_and_nothing_of_the_checkout(
    project: Path, environment_of: EnvironmentOf
) -> None:
    environment = environment_of(project.name)
    ran = environment.run(
        environment.python,
        "-c",
        "import linker, pytest_linkmode as p; print(p.__file__)",
        cwd=project,
    )
    assert Path(ran.stdout.strip()).is_relative_to(environment.path), ran.stderr
