"""One process of the matrix: ``python -m pytest_linkmode.installers.part DIRECTORY``.

`matrix.run` starts it, writes PROGRAM LAYOUT DEPTH in a line, and reads a line when that is done.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator

from pytest_linkmode import kernel, namespaces
from pytest_linkmode.installers import kit as kits
from pytest_linkmode.installers.matrix import Asked, Part


def leave_network() -> bool:
    """Leave the network, for good; return False where that may not be done.

    What is run afterwards is offline whether it wants to be or not. An ordinary user may do so in
    the user namespace of a private place, which is entered first.
    """
    namespaces.find_place()
    try:
        kernel.unshare(kernel.CLONE_NEWNET)
    except OSError:
        return False
    return True


def main(directory: str, lines: Iterable[str]) -> None:
    """Run the cells that the lines name."""

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def wanted() -> Iterator[Asked]:
        for line in lines:
            program, layout, depth = line.split()
            yield Asked(program, layout, int(depth))

    kit = kits.ensure(directory, lambda _: None)
    Part(directory, kit, say, offline=leave_network()).run(wanted())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, and so unmounts
    main(sys.argv[1], iter(sys.stdin.readline, ""))
