"""``python -m linker``."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

# One run makes many small objects, the modules among them, keeps them to its end, and ends: neither
# looking for cycles among them nor taking them apart one by one is of use to anybody.
gc.disable()

try:
    from linker.cli import main

    status = main()
except KeyboardInterrupt:  # before `main` could tell of it, or while it did
    status = 130
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # nobody is there to read it
            sys.stderr.write("interrupted\n")
for stream in (sys.stdout, sys.stderr):
    if stream is not None:  # as it is where the descriptor was closed
        with suppress(OSError, ValueError):  # a pipe that was closed: what could be told was told
            stream.flush()
os._exit(status)
