"""The mutants of a module, as mutmut's operators make them.

mutmut itself mutates functions only, and none that is decorated, because it puts every mutant of
a function beside it. The linker's tables stand outside functions, so here its visitor sees whole
modules, and each mutant is the text of a module in which one place differs.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import libcst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

from scripts.mutation.values import MODULE_LEVEL, Made, Mutant

TEXT_OPERATOR = "string"
"""mutmut's operator on string literals. Literals with a space in them are sentences for people."""


def mutants_of(module: str, path: str, source: str) -> Made:
    """Return the mutants of a module with a name, a file and a text.

    Mutants that are the same program as the module or as an earlier mutant are left out as well.
    """
    tree = ast.parse(source)
    names: dict[int, str] = {}
    wrapper = MetadataWrapper(libcst.parse_module(_undecorated(source, tree)))
    visitor = MutationVisitor(
        [(kind, _named(operator, names)) for kind, operator in mutation_operators],
        IgnoredCode(set(), set(), set()),
    )
    wrapper.visit(visitor)
    positions = wrapper.resolve(PositionProvider)
    places = _Places(source)
    functions = _functions(tree)
    statements = _statements(tree)
    blocks = _blocks(tree)
    found: list[Mutant] = []
    sentences = 0
    alike: Counter[str] = Counter()
    seen: set[tuple[int, str]] = set()
    for mutation in visitor.mutations:
        before = mutation.original_node
        operator = names[id(mutation.mutated_node)]
        place = positions[before]
        start = places.at(place.start.line, place.start.column)
        end = places.at(place.end.line, place.end.column)
        old = source[start:end]
        if operator == TEXT_OPERATOR and " " in old:
            sentences += 1
            continue
        new = wrapper.module.code_for_node(mutation.mutated_node)
        mutated = source[:start] + new + source[end:]
        first, last = blocks[place.start.line]
        begin, end = places.at(first, 0), places.at(last + 1, 0)
        block, changed = source[begin:end], mutated[begin : end + len(mutated) - len(source)]
        program = (first, _program(changed))
        if program == (first, _program(block)) or program in seen:
            continue
        seen.add(program)
        function = functions.get(place.start.line, MODULE_LEVEL)
        removed, added = _difference(source, mutated)
        what = f"{module}\0{function}\0{block}\0{changed}"
        alike[what] += 1
        found.append(
            Mutant(
                key=hashlib.sha256(f"{what}\0{alike[what]}".encode()).hexdigest()[:20],
                path=path,
                function=function,
                operator=operator,
                lines=tuple(range(statements(place.start.line), place.end.line + 1)),
                removed=removed,
                added=added,
                source=mutated,
            )
        )
    return Made(tuple(found), sentences)


def _named(operator: Callable[[Any], Iterable[Any]], names: dict[int, str]) -> Callable[[Any], Any]:
    """Return the operator, which now also notes by what name each of its nodes was made."""
    name = operator.__name__.removeprefix("operator_")
    kept: list[Any] = []  # an id is unique among living objects only

    def noting(node: Any) -> Iterator[Any]:
        for made in operator(node):
            names[id(made)] = name
            kept.append(made)
            yield made

    return noting


def _undecorated(source: str, tree: ast.Module) -> str:
    """Return the source with blanks for the decorators of functions, everything in its place."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                for number in range(decorator.lineno, (decorator.end_lineno or 0) + 1):
                    lines[number - 1] = "\n"
    return "".join(lines)


class _Places:
    """Offsets in a text by line (from 1) and column (from 0)."""

    def __init__(self, source: str) -> None:
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column


def _functions(tree: ast.Module) -> dict[int, str]:
    """Return the outermost function or method of each line of a body.

    Signatures belong to none: they are executed when the module is imported.
    """
    found: dict[int, str] = {}

    def visit(body: Sequence[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                for line in range(node.body[0].lineno, (node.end_lineno or 0) + 1):
                    found[line] = prefix + node.name

    visit(tree.body, "")
    return found


def _statements(tree: ast.Module) -> Callable[[int], int]:
    """Return a function that tells where the innermost statement around a line begins."""
    begins: dict[int, int] = {}
    for node in ast.walk(tree):  # from the outside to the inside
        if isinstance(node, ast.stmt):
            for line in range(node.lineno, (node.end_lineno or 0) + 1):
                begins[line] = node.lineno
    return lambda line: begins.get(line, line)


def _blocks(tree: ast.Module) -> dict[int, tuple[int, int]]:
    """Return for each line the first and last line of the smallest part that can be read alone:
    a function, a method, or a statement of a module or class.
    """
    found: dict[int, tuple[int, int]] = {}

    def visit(body: Sequence[ast.stmt]) -> None:
        for node in body:
            block = (node.lineno, node.end_lineno or 0)
            for line in range(block[0], block[1] + 1):
                found[line] = block
            if isinstance(node, ast.ClassDef):
                visit(node.body)

    visit(tree.body)
    return found


@lru_cache(maxsize=512)
def _program(text: str) -> str:
    """Return what a block says, apart from how it is written."""
    return ast.dump(ast.parse(f"if True:\n{text}" if text[:1].isspace() else text))


def _difference(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, without what is the same around them."""
    old, new = before.splitlines(), after.splitlines()
    first = 0
    while old[first] == new[first]:
        first += 1
    last = 1
    while len(old) - last > first and len(new) - last > first and old[-last] == new[-last]:
        last += 1
    ending = 1 - last or None
    return (
        " ".join(line.strip() for line in old[first:ending]),
        " ".join(line.strip() for line in new[first:ending]),
    )
