"""Link a tree as DVC does: one `dvc_objects.fs.generic.transfer` for all files.

Usage: dvc.py LINK SOURCE TARGET, where LINK is a type of link that may become a copy.
"""

from __future__ import annotations

import os
import sys

from dvc_objects.fs.generic import transfer
from dvc_objects.fs.local import localfs

wanted, source, target = sys.argv[1:4]
links = [wanted] if wanted == "copy" else [wanted, "copy"]
ours: list[str] = []
theirs: list[str] = []
for above, directories, names in os.walk(source):
    directories.sort()
    into = os.path.normpath(os.path.join(target, os.path.relpath(above, source)))
    os.makedirs(into, exist_ok=True)
    ours += [os.path.join(above, name) for name in sorted(names)]
    theirs += [os.path.join(into, name) for name in sorted(names)]
transfer(localfs, ours, localfs, theirs, links=links)
