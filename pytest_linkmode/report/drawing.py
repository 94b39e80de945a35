"""The pictures of the HTML report, as inline SVG: the fallback graph, and how long tests took.

Of the graph each mode and primitive is a picture of its own: what it meets in the middle, one row
an edge, and what is done next at the right. A policy of a hundred edges stays readable so, on a
telephone as well. The documentation draws its graphs with the same code. What the classes of the
graph look like is in `graph.css`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_linkmode.report.markup import Markup, joined, tag

NOT_VERIFIED = "none"
SIGNS: Mapping[str, tuple[str, str]] = {
    "real": ("●", "real: taken on a real filesystem"),
    "injected": ("◆", "injected: by a fault or a schedule"),
    "modelled": ("▲", "modelled: through a model under contract"),
    NOT_VERIFIED: ("○", "not verified"),
}
"""Each way in which an edge can be verified: its sign, so that colour is not all, and its words."""

ROW, LINE_HEIGHT = 25, 15
MODE_WIDTH, PILL_LEFT, PILL_WIDTH, NEXT_LEFT, NEXT_WIDTH = 104, 150, 156, 352, 130
WIDTH = NEXT_LEFT + NEXT_WIDTH


@dataclass(frozen=True)
class Arrow:
    """One edge as it is drawn, or several that lead to the same.

    `condition` may have several lines; the second line of `then` is written small. `anchor` is the
    id of what lists its tests: without a proof there is none.
    """

    mode: str
    primitive: str
    condition: str
    then: str
    proof: str = ""
    tests: int = 0
    anchor: str = ""

    @property
    def height(self) -> int:
        """How high its row is."""
        return ROW + LINE_HEIGHT * self.condition.count("\n")


def graph(arrows: Sequence[Arrow]) -> Markup:
    """Return one picture for each mode and primitive of `arrows`."""
    groups: dict[tuple[str, str], list[Arrow]] = {}
    for arrow in arrows:
        groups.setdefault((arrow.mode, arrow.primitive), []).append(arrow)
    return joined(tag("figure", _picture(*key, group)) for key, group in groups.items())


def _picture(mode: str, primitive: str, arrows: Sequence[Arrow]) -> Markup:
    inner = sum(arrow.height for arrow in arrows)
    nodes = sum(_node_height(then) + 4 for then in {arrow.then for arrow in arrows})
    height = max(inner, nodes, 44) + 8
    middles, top = [], (height - inner) / 2
    for arrow in arrows:
        middles.append(top + arrow.height / 2)
        top += arrow.height
    centre = height / 2
    nexts = _places(arrows, middles, height)
    body = [_node(0, centre, MODE_WIDTH, 40, mode, primitive)]
    body += [
        _node(NEXT_LEFT, y, NEXT_WIDTH, _node_height(then), *then.split("\n"))
        for then, y in nexts.items()
    ]
    body += [
        _arrow(arrow, centre, y, nexts[arrow.then])
        for arrow, y in zip(arrows, middles, strict=True)
    ]
    return tag(
        "svg",
        *body,
        viewBox=f"-2 0 {WIDTH + 4} {height:g}",
        role="group",
        aria_label=f"{mode}, {primitive}: what it can meet and what is done then",
    )


def _node_height(then: str) -> int:
    return 38 if "\n" in then else 26


def _places(arrows: Sequence[Arrow], middles: Sequence[float], height: float) -> dict[str, float]:
    """Return how high each next step stands: amid its arrows, and clear of the others."""
    wished: dict[str, list[float]] = {}
    for arrow, y in zip(arrows, middles, strict=True):
        wished.setdefault(arrow.then, []).append(y)
    means = {then: sum(ys) / len(ys) for then, ys in wished.items()}
    order = sorted(means, key=means.__getitem__)
    room = [(_node_height(then) + 4) / 2 for then in order]
    placed: dict[str, float] = {}
    lowest = 0.0
    for index, then in enumerate(order):
        room_below = 2 * sum(room[index + 1 :])
        highest = height - room_below - room[index]
        placed[then] = min(max(means[then], lowest + room[index]), highest)
        lowest = placed[then] + room[index]
    return placed


def _node(x: float, y: float, width: float, height: float, text: str, small: str = "") -> Markup:
    middle = x + width / 2
    rows = [
        tag(
            "text", text, x=f"{middle:g}", y=f"{y + (-1 if small else 4.5):g}", text_anchor="middle"
        )
    ]
    if small:
        at = f"{y + 14:g}"
        rows.append(tag("text", small, x=f"{middle:g}", y=at, text_anchor="middle", class_="small"))
    box = tag(
        "rect", x=f"{x:g}", y=f"{y - height / 2:g}", width=width, height=height, rx=7, class_="node"
    )
    return tag("g", box, *rows)


def _arrow(arrow: Arrow, centre: float, y: float, end: float) -> Markup:
    sign, words = SIGNS.get(arrow.proof, ("", ""))
    pill_right = PILL_LEFT + PILL_WIDTH
    height = arrow.height - ROW + 21
    lines = f"{sign} {arrow.condition}".strip().split("\n")
    first = y + 4.5 - LINE_HEIGHT * (len(lines) - 1) / 2
    drawn = (
        tag("path", d=_curve(MODE_WIDTH, centre, PILL_LEFT, y)),
        tag("path", d=_curve(pill_right, y, NEXT_LEFT, end)),
        tag(
            "rect",
            x=PILL_LEFT,
            y=f"{y - height / 2:g}",
            width=PILL_WIDTH,
            height=height,
            rx=10.5,
            class_="pill",
        ),
        *(
            tag("text", line, x=PILL_LEFT + 10, y=f"{first + LINE_HEIGHT * number:g}")
            for number, line in enumerate(lines)
        ),
    )
    name = " ".join(
        f"{arrow.mode}, {arrow.primitive}: {arrow.condition}, then {arrow.then}".split("\n")
    )
    if not arrow.proof:
        return tag("g", tag("title", name), *drawn, class_="said")
    tests = f"{arrow.tests} test" + "s" * (arrow.tests != 1)
    name = f"{name}: {words}, {tests}"
    return tag(
        "a",
        tag("title", name),
        *drawn,
        href=f"#{arrow.anchor}",
        class_=arrow.proof,
        data_edge=arrow.anchor,
        aria_label=name,
    )


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = (x + to_x) / 2
    return f"M{x:g} {y:g}C{bend:g} {y:g} {bend:g} {to_y:g} {to_x:g} {to_y:g}"


DOTS = 1500
"""How many tests are drawn; more are evenly sampled."""
LAYOUTS = 40
LEFT, RIGHT, PLOT, LINE = 190, 120, 570, 24
LANES = ("clone", "hardlink", "symlink", "copy", "any")


def timings(tests: Sequence[Mapping[str, Any]]) -> tuple[Markup, str]:
    """Return how long tests took, one dot each, a row for each layout; and what is not drawn."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for test in tests:
        rows.setdefault(test["layout"] or "no layout", []).append(test)
    totals = {name: sum(test["seconds"] for test in found) for name, found in rows.items()}
    order = sorted(rows, key=lambda name: (-totals[name], name))
    shown = order[:LAYOUTS]
    stride = max(1, math.ceil(sum(len(rows[name]) for name in shown) / DOTS))
    left_out = []
    if stride > 1:
        left_out.append(f"of {stride} tests one is drawn")
    if len(order) > len(shown):
        rest = sum(totals[name] for name in order[LAYOUTS:])
        left_out.append(
            f"{len(order) - len(shown)} more layouts, with {rest:.1f} s in all, are not drawn"
        )
    slowest = max((test["seconds"] for test in tests), default=0.0)
    top = math.ceil(math.log10(max(slowest, 0.1)))
    decades = range(-3, top + 1)
    height = len(shown) * LINE + 40

    def across(seconds: float) -> float:
        share = (math.log10(max(seconds, 0.001)) + 3) / (top + 3)
        return LEFT + PLOT * min(max(share, 0.0), 1.0)

    body = [
        joined(
            (
                tag(
                    "line",
                    x1=f"{across(10**decade):.1f}",
                    x2=f"{across(10**decade):.1f}",
                    y1=22,
                    y2=height,
                ),
                tag(
                    "text",
                    _duration(10**decade),
                    x=f"{across(10**decade):.1f}",
                    y=14,
                    text_anchor="middle",
                    class_="small",
                ),
            )
        )
        for decade in decades
    ]
    for index, name in enumerate(shown):
        y = 34 + index * LINE
        total = f"{totals[name]:.1f} s, {len(rows[name])}"
        body += [
            tag(
                "text",
                _short(name, 25),
                tag("title", name),
                x=LEFT - 10,
                y=y + 4,
                text_anchor="end",
            ),
            tag("text", total, x=LEFT + PLOT + 12, y=y + 4, class_="small"),
            joined(_dots(rows[name][::stride], y, across)),
        ]
    picture = tag(
        "svg",
        *body,
        class_="plot",
        viewBox=f"0 0 {LEFT + PLOT + RIGHT} {height}",
        role="img",
        aria_label="how long each test took, by layout",
    )
    return picture, "; ".join(left_out)


def _dots(tests: Iterable[Mapping[str, Any]], y: float, across: Any) -> Iterable[Markup]:
    for test in tests:
        mode = test["mode"] if test["mode"] in LANES else "any"
        lane = y + (LANES.index(mode) - 2) * 3.6
        title = f"{test['id']}: {_duration(test['seconds'])}"
        yield tag(
            "circle",
            tag("title", title),
            cx=f"{across(test['seconds']):.1f}",
            cy=f"{lane:.1f}",
            r=2.6,
            class_=f"dot-{mode}",
        )


def _duration(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def sign(proof: str) -> Markup:
    """Return the sign of a proof, in its colour, with its words for those who do not see it."""
    mark, words = SIGNS[proof]
    return tag("span", mark, class_=f"mark {proof}", title=words, role="img", aria_label=words)
