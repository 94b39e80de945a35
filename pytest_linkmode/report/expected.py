"""The committed list of what must be verified, and how a report falls short of it.

A text file, one line for each edge (``edge ID PROOF``) and for each cell of the matrix (``cell
PLATFORM LAYOUT MODE``), so that a shorter list is a diff that a reviewer sees. An edge is met by
its proof or a stronger one, a cell by a test that passed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_linkmode.coverage import PROOFS, Outcome
from pytest_linkmode.errors import UsageError
from pytest_linkmode.report.document import Document

EDGE, CELL = "edge", "cell"
HOW_TO_WRITE = (
    f"{EDGE} ID PROOF (one of {', '.join(PROOFS)}), {CELL} PLATFORM LAYOUT MODE, or # and a comment"
)


@dataclass(frozen=True)
class Expected:
    """What must be verified: for each edge the least proof, and the cells."""

    edges: Mapping[str, str] = field(default_factory=dict)
    cells: frozenset[tuple[str, str, str]] = frozenset()

    def __or__(self, other: Expected) -> Expected:
        """Return what meets both lists."""
        edges = dict(self.edges)
        for edge, proof in other.edges.items():
            edges[edge] = min(proof, edges.get(edge, proof), key=PROOFS.index)
        return Expected(edges, self.cells | other.cells)


def parse(text: str, name: str) -> Expected:
    """Read a list, called `name` in errors. Raises UsageError for a line that means nothing."""
    edges: dict[str, str] = {}
    cells: set[tuple[str, str, str]] = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        match words:
            case []:
                continue
            case [kind, edge, proof] if kind == EDGE and proof in PROOFS and edge not in edges:
                edges[edge] = proof
            case [kind, platform, layout, mode] if kind == CELL:
                cells.add((platform, layout, mode))
            case _:
                repeated = len(words) > 1 and words[1] in edges
                raise UsageError(
                    f"{name}:{number}: cannot understand {line.strip()!r}",
                    why="the edge is there already" if repeated else "not a line of such a list",
                    hint=f"write {HOW_TO_WRITE}",
                )
    return Expected(edges, frozenset(cells))


def read(path: str) -> Expected:
    """Read the list in a file. Raises UsageError, also for one that asks for nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            found = parse(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}", why=str(error)) from None
    if found == Expected():
        raise UsageError(
            f"{path} expects nothing",
            why="no edge and no cell is in it",
            hint=f"write {HOW_TO_WRITE}",
        )
    return found


def of(document: Document) -> Expected:
    """Return the longest list that a report meets."""
    edges = {
        edge: found["proof"] for edge, found in document["union"]["edges"].items() if found["proof"]
    }
    return Expected(edges, _verified_cells(document))


def _verified_cells(document: Document) -> frozenset[tuple[str, str, str]]:
    return frozenset(
        (run["platform"], layout, mode)
        for run in document["runs"]
        for layout, row in run["layouts"].items()
        for mode, cell in row["modes"].items()
        if cell["outcomes"].get(str(Outcome.PASSED))
    )


def text(document: Document) -> str:
    """Return the longest list that a report meets, as a file."""
    found = of(document)
    lines = [f"# What is verified of the policy {document['policy']['name']}, and by what proof."]
    lines += [f"{EDGE} {edge} {proof}" for edge, proof in found.edges.items()]
    lines += [f"{CELL} {' '.join(cell)}" for cell in sorted(found.cells)]
    return "\n".join(lines) + "\n"


def unmet(document: Document, expected: Expected) -> list[str]:
    """Return one sentence for each line of a list that a report does not meet."""
    there = of(document)
    known = document["union"]["edges"].keys()
    sentences = []
    for edge, wanted in expected.edges.items():
        got = there.edges.get(edge)
        if edge not in known:
            policy = document["policy"]["name"]
            sentences.append(f"{edge}: expected {wanted}, but it is no edge of {policy}")
        elif got is None:
            sentences.append(f"{edge}: expected {wanted}, but it is not verified")
        elif PROOFS.index(got) > PROOFS.index(wanted):
            sentences.append(f"{edge}: expected {wanted}, but it is {got} only")
    sentences += [
        f"{platform} {layout} {mode}: expected a test that passes there"
        for platform, layout, mode in sorted(expected.cells - there.cells)
    ]
    return sentences
