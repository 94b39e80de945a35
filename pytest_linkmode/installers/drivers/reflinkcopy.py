"""Link a tree by the crate reflink-copy: `reflink_or_copy` for each file.

Usage: reflinkcopy.py reflink-or-copy SOURCE TARGET
"""

from __future__ import annotations

import os
import sys

from reflink_copy import reflink_or_copy

_, source, target = sys.argv[1:4]
for above, directories, names in os.walk(source):
    directories.sort()
    into = os.path.join(target, os.path.relpath(above, source))
    os.makedirs(into, exist_ok=True)
    for name in sorted(names):
        reflink_or_copy(os.path.join(above, name), os.path.join(into, name))
