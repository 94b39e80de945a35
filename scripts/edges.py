"""The list of what is verified of each edge on Linux, with why some are never more than injected.

`edges.txt` is a list as `linkmode merge --expect` reads it; behind `#` on the line of an edge that
is not real stands why no real filesystem shows it. The documentation shows these.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

LIST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "edges.txt")


def rows(path: str = LIST) -> Iterator[tuple[str, str, str]]:
    """Yield each edge, its proof and the reason behind it, which may be empty."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            said, _, reason = line.partition("#")
            match said.split():
                case ["edge", edge, proof]:
                    yield edge, proof, reason.strip()


def table() -> str:
    """Return how many edges are real, and the others with their reasons, those alike in one row."""
    found = list(rows())
    real = sum(proof == "real" for _, proof, _ in found)
    reasons: dict[str, list[str]] = {}
    for edge, proof, reason in found:
        if proof != "real":
            reasons.setdefault(reason, []).append(edge.partition("/")[2])
    lines = [
        f"Of {len(found)} edges, {real} are real and {len(found) - real} injected:",
        "",
        "| only injected | because |",
        "|---|---|",
    ]
    for reason, edges in reasons.items():
        names = ", ".join(f"`{edge}`" for edge in edges)
        lines.append(f"| {names} | {reason} |")
    return "\n".join(lines)
