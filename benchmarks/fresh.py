"""A fresh, private filesystem beside what it takes with the usual programs. One command:

    python -m benchmarks.fresh [--rounds N] [--json PATH] [--plot PATH]

As root (everything is made in a private mount namespace, images in memory). Per filesystem: made
and removed in at most a third of the time of mkfs + mount + umount, and in less than 10 ms. Ends
with 1 if a limit is not kept.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

from benchmarks import measure
from benchmarks.measure import Contender, Row
from pytest_linkmode.config import Settings
from pytest_linkmode.filesystems import FILESYSTEMS
from pytest_linkmode.filesystems.loop import Loop
from pytest_linkmode.layouts import Workshop, parse
from pytest_linkmode.namespaces import Place, find_place

NAMES = ("btrfs", "xfs", "ext4")
A_THIRD = 1 / 3
TEN_MILLISECONDS = 10.0


def rows_of(name: str, place: Place) -> Iterator[Row]:
    """Give the two rows of one filesystem."""
    kind, settings = FILESYSTEMS[name], Settings()
    image, point = os.path.join(place.path, "image"), os.path.join(place.path, "point")
    os.makedirs(point, exist_ok=True)

    def by_programs() -> None:
        with open(image, "wb") as file:
            file.truncate(settings.image_size)
        subprocess.run((*kind.mkfs, image), check=True, stdout=subprocess.DEVNULL)
        subprocess.run(("mount", "-o", "loop", image, point), check=True)
        subprocess.run(("umount", point), check=True)
        os.unlink(image)

    def fresh() -> None:
        with Loop().open(kind, place, settings):
            pass

    peer = Contender("mkfs + mount + umount", by_programs)
    yield Row(f"{name}, fresh: made and removed", Contender(name, fresh), A_THIRD, peer)
    alone = Contender(name, lambda: _milliseconds(fresh), figure=True)
    yield Row(f"{name}, fresh: made and removed", alone, TEN_MILLISECONDS, unit="ms")


def proven(name: str, place: Place) -> Row:
    """Return the row of all that a test with `fresh=True` waits for: made, proven, removed."""

    def all_of_it() -> None:
        with closing(Workshop(place, Settings())) as workshop:
            workshop.layout(parse(name))

    each = Contender(name, lambda: _milliseconds(all_of_it), figure=True)
    return Row(f"{name}, fresh: a whole layout, proven", each, 3 * TEN_MILLISECONDS, unit="ms")


def _milliseconds(work: object) -> float:
    import time

    assert callable(work)
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def main() -> int:
    """Run everything, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.fresh")
    parser.add_argument("--rounds", type=int, default=25, metavar="N")
    parser.add_argument("--json", metavar="PATH")
    parser.add_argument("--plot", metavar="PATH")
    given = parser.parse_args()
    place = find_place()
    rows = [row for name in NAMES for row in (*rows_of(name, place), proven(name, place))]
    measure.run(rows, given.rounds)
    print(f"medians of {given.rounds}, in one run\n\n{measure.table(rows)}")
    for path, text in ((given.json, measure.as_json), (given.plot, measure.plot)):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text(rows))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
