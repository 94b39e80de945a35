"""One process of the matrix: ``python -m pytest_linkmode.installers.part DIRECTORY PROGRAM LAYOUT
DEPTH ...``, started by `matrix.run`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from pytest_linkmode.installers import kit as kits
from pytest_linkmode.installers.matrix import Asked, Part


def main(arguments: Sequence[str]) -> None:
    """Run the cells that the arguments name."""
    directory, *words = arguments
    triples = zip(words[::3], words[1::3], words[2::3], strict=True)
    wanted = [Asked(program, layout, int(depth)) for program, layout, depth in triples]

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    Part(directory, kits.ensure(directory, lambda _: None), say).run(wanted)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, and so unmounts
    main(sys.argv[1:])
