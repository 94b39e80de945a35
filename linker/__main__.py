"""``python -m linker``."""

from __future__ import annotations

import gc
import os
import sys

# One run makes many small objects, keeps them to its end, and ends: neither looking for cycles
# among them nor taking them apart one by one is of use to anybody.
gc.disable()

try:
    from linker.cli import main  # what is imported are such objects too

    status = main()
except KeyboardInterrupt:  # before `main` could tell of it, or while it did
    os.write(2, b"interrupted\n")
    status = 130
for stream in (sys.stdout, sys.stderr):
    try:
        if stream is not None:  # as it is where the descriptor was closed
            stream.flush()
    except (OSError, ValueError):  # a pipe that was closed; `main` has told what could be told
        continue
os._exit(status)
