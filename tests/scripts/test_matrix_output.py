"""The table, the progress and the JSON of the main job."""

from __future__ import annotations

import io
import json

import pytest

from scripts import matrix_output
from scripts.cells import Cell
from scripts.matrix_output import Gap, Outcome, Screen
from scripts.wheels import Tree

GOOD = Cell(
    layout="btrfs",
    mode="clone",
    expected="clone",
    happened={"clone": 6000, "clone or copy": 1843},
    proofs={"shared extents": 6000, "independence": 1843},
    linked_in=0.31,
    proven_in=12.4,
)
FELL = Cell(
    layout="btrfs:tmpfs",
    mode="hardlink",
    expected="copy",
    happened={"copy": 7843},
    proofs={"different filesystems": 7843},
    fallbacks=("linux/hardlink/hardlink/cross-device",),
    linked_in=0.5,
    proven_in=0.2,
)
BAD = Cell(
    layout="xfs",
    mode="hardlink",
    expected="hardlink",
    happened={"hardlink": 7842, "copy": 1},
    proofs={"same inode": 7842, "different extents": 1},
    differences=2,
    told=("a: copy, not hardlink (they have different inodes)",),
)
TREE = Tree("/somewhere", ("one 1.0",), 7843, 2882, 224_125_371)


def outcome(*cells: Cell, gaps: tuple[Gap, ...] = ()) -> Outcome:
    return Outcome(TREE, cells, gaps, 125.2, {"kernel": "6.1"})


def test_the_table_has_a_line_for_each_cell() -> None:
    assert matrix_output.table([GOOD, FELL]).splitlines() == [
        "layout       mode      expected  happened  "
        "proven by                                 linked  proven",
        "-----------  --------  --------  --------  "
        "----------------------------------------  ------  ------",
        "btrfs        clone     clone     clone     "
        "shared extents 6,000, independence 1,843  0.31 s  12.4 s  ok",
        "btrfs:tmpfs  hardlink  copy      copy      "
        "different filesystems                     0.50 s  0.20 s  ok",
    ]


def test_a_cell_that_differs_shows_all_that_happened() -> None:
    line = matrix_output.table([BAD]).splitlines()[-1]
    assert "hardlink 7,842, copy 1" in line
    assert line.endswith("DIFFERS")


def test_what_the_disk_cannot_tell_is_admitted_where_it_occurs() -> None:
    assert matrix_output.UNDECIDED in matrix_output.summary(outcome(GOOD))
    assert matrix_output.UNDECIDED not in matrix_output.summary(outcome(FELL))


def test_a_layout_is_named_once() -> None:
    lines = matrix_output.table([GOOD, GOOD, FELL]).splitlines()
    assert lines[2].startswith("btrfs ")
    assert lines[3].startswith("      ")
    assert lines[4].startswith("btrfs:tmpfs ")


def test_what_differs_is_told_below_the_table() -> None:
    text = matrix_output.summary(outcome(GOOD, BAD))
    assert "DIFFERS" in text
    assert "xfs, hardlink: 2 differences\n  a: copy, not hardlink" in text
    assert "  ...\n" in text
    assert text.endswith(
        "1 of 2 cells not as expected: 2 layouts, 15,686 outcomes of files proven, in 2 min 05 s."
    )


def test_when_all_is_well_the_last_line_says_so() -> None:
    text = matrix_output.summary(outcome(GOOD, FELL))
    assert text.endswith(
        "2 cells as expected: 2 layouts, 15,686 outcomes of files proven, in 2 min 05 s."
    )


def test_what_cannot_be_had_is_said_once_with_what_would_add_it() -> None:
    gaps = [
        Gap(
            name,
            "no xfs here",
            ("mkfs.xfs: not found",),
            ("apt-get install xfsprogs", "name one: --linkmode-dir=xfs=PATH", "sudo pytest ..."),
        )
        for name in ("xfs", "xfs:tmpfs")
    ]
    text = matrix_output.gaps([*gaps, Gap("odd", "nobody knows how")])
    assert text == (
        "Not on this machine: xfs, xfs:tmpfs, odd\n"
        "Checked:\n"
        "  - mkfs.xfs: not found\n"
        "  - nobody knows how\n"
        "To add them:\n"
        "  - apt-get install xfsprogs\n"
        "  - name one: --dir=xfs=PATH\n"
        "  - sudo ./scripts/run-matrix"
    )


@pytest.mark.parametrize(
    ("cells", "ok"), [((), False), ((GOOD,), True), ((GOOD, FELL), True), ((GOOD, BAD), False)]
)
def test_only_cells_that_are_all_well_are_a_success(cells: tuple[Cell, ...], *, ok: bool) -> None:
    assert outcome(*cells).ok is ok


def test_no_cell_at_all_is_said_to_be_nothing() -> None:
    gap = Gap("btrfs", "no btrfs here")
    text = matrix_output.summary(outcome(gaps=(gap,)))
    assert text.endswith("Nothing was linked: no layout can be had here.")


def test_the_json_holds_what_the_table_shows() -> None:
    gap = Gap("xfs", "no xfs here", ("c",), ("m",))
    data = json.loads(json.dumps(matrix_output.as_json(outcome(GOOD, BAD, gaps=(gap,)))))
    assert data["schema"] == matrix_output.SCHEMA
    assert data["ok"] is False
    assert data["tree"] == {
        "wheels": ["one 1.0"],
        "files": 7843,
        "directories": 2882,
        "bytes": 224_125_371,
    }
    good, bad = data["cells"]
    assert good["happened"] == {"clone": 6000, "clone or copy": 1843}
    assert (good["ok"], bad["ok"]) == (True, False)
    assert bad["told"] == ["a: copy, not hardlink (they have different inodes)"]
    assert data["unavailable"] == [
        {"layout": "xfs", "why": "no xfs here", "checked": ["c"], "mends": ["m"]}
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (9.99, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125.2, "2 min 05 s"),
        (3599.7, "60 min 00 s"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert matrix_output.duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_progress_is_one_line_a_cell() -> None:
    stream = io.StringIO()
    with Screen(stream, total=2) as screen:
        screen.doing("btrfs clone: linking")
        screen.finished(GOOD)
        screen.doing("btrfs:tmpfs hardlink: linking")
        screen.finished(FELL)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("[1/2] btrfs  clone  clone")
    assert second.startswith("[2/2] btrfs:tmpfs  hardlink  copy")
    assert "\x1b" not in stream.getvalue()


def test_on_a_terminal_progress_is_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Screen(stream, total=2) as screen:
        screen.doing("btrfs clone: linking")
        screen.finished(GOOD)
        screen.doing("btrfs clone: removing")
    shown = stream.getvalue()
    assert "[0/2] btrfs clone: linking" in shown
    assert "[1/2] btrfs clone: removing" in shown
    assert "\n" not in shown
    assert shown.endswith("\r\x1b[K")


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Screen(stream, total=1) as screen:
        screen.doing("btrfs clone: linking")
        screen.finished(GOOD)
    assert stream.getvalue().count("\n") == 1
