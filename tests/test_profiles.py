"""Every test of hypothesis looks for examples as `tests.profiles` says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def calls(definition: ast.FunctionDef) -> Iterator[ast.Call]:
    """Yield the decorators of a test that are called."""
    for decorator in definition.decorator_list:
        if isinstance(decorator, ast.Call):
            yield decorator


def drawn(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each test of a module that hypothesis draws for, and whether it has the profile."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            said = {ast.unparse(call.func): [*map(ast.unparse, call.args)] for call in calls(node)}
            if "given" in said:
                yield node.name, said.get("settings") == ["PROFILE"]


def test_no_test_of_hypothesis_asks_for_time_or_chance() -> None:
    found = dict(each for path in Path(__file__).parent.rglob("test_*.py") for each in drawn(path))
    assert len(found) >= 10
    assert [name for name, has_profile in found.items() if not has_profile] == []
