"""``python -m pytest_linkmode``, which is what the script `linkmode` runs."""

from __future__ import annotations

import sys
from contextlib import suppress


def main() -> int:
    """Run `linkmode`; return its exit status."""
    try:
        from pytest_linkmode import cli

        return cli.main()
    except KeyboardInterrupt:  # while that was loaded, or told of another
        if sys.stderr is not None:
            with suppress(OSError, ValueError):  # nobody is there to read it
                sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
