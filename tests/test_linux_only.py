"""The table of what is about Linux speaks of tests that exist, and says why."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import linux_only

HERE = Path(__file__).parent


def names_in(module: str) -> set[str]:
    tree = ast.parse((HERE / module).read_text())
    return {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}


@pytest.mark.parametrize("module", sorted({*linux_only.MODULES, *linux_only.TESTS}))
def test_what_the_table_names_exists(module: str) -> None:
    assert (HERE / module).is_file()
    named = {
        test.partition("[")[0]
        for tests in linux_only.TESTS.get(module, {}).values()
        for test in tests
    }
    assert named <= names_in(module)


def test_a_module_is_left_out_whole_or_test_by_test() -> None:
    assert not linux_only.MODULES.keys() & linux_only.TESTS.keys()
    for reasons in linux_only.TESTS.values():
        named = [test for tests in reasons.values() for test in tests]
        assert len(named) == len(set(named)), "a test has one reason"


def test_a_test_is_found_by_its_name_or_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux_only, "MODULES", {"a.py": "whole"})
    monkeypatch.setattr(
        linux_only, "TESTS", {"b.py": {"some": ("test_one", "test_two[x]", "test_three[x-*")}}
    )
    assert linux_only.why("a.py", "test_any[case]") == "whole"
    assert linux_only.why("b.py", "test_one[case]") == "some"
    assert linux_only.why("b.py", "test_two[x]") == "some"
    assert not linux_only.why("b.py", "test_two[y]")
    assert linux_only.why("b.py", "test_three[x-y]") == "some"
    assert not linux_only.why("b.py", "test_three[y-x-]")
    assert not linux_only.why("b.py")
    assert not linux_only.why("c.py", "test_one")


def test_what_is_left_out_is_counted_by_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux_only, "MODULES", {"a/x.py": "some", "b/x.py": "some"})
    monkeypatch.setattr(linux_only, "TESTS", {"a/y.py": {"some": ("test_one", "test_two")}})
    assert linux_only.summary(["a"]) == ["   1 modules: some", "   2 tests: some"]
    assert linux_only.summary(["a", "b/x.py"])[0] == "   2 modules: some"
    assert not linux_only.summary(["ab"])


def test_an_entry_that_means_no_test_of_a_module_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = ("test_one", "test_two[x]", "test_three[x-*")
    monkeypatch.setattr(linux_only, "TESTS", {"a.py": {"some": entries}, "b.py": {"some": entries}})
    there = [("a.py", "test_one"), ("a.py", "test_two[x]"), ("a.py", "test_three[x-1]")]
    assert not linux_only.meaningless(there), "a module that was not collected says nothing"
    assert linux_only.meaningless([("a.py", "test_one[1]"), ("a.py", "test_two[y]")]) == [
        "a.py::test_two[x]",
        "a.py::test_three[x-*",
    ]
