"""The cache as it should be: what one file cannot do says nothing of the others.

It asks again for every file. To remember a refusal would save a call a file, and would have to know
how far each error reaches: `EXDEV` that pair of mounts, `EMLINK` and `EINVAL` that file alone.
"""

import os
import shutil

from shelf.links import LINKS, copy


class Cache:
    """Trees below `root`, restored in a mode: clone, hardlink or copy."""

    def __init__(self, root, mode="clone"):
        self.root = root
        self.mode = mode

    def restore(self, name, target):
        tree = os.path.join(self.root, name)
        shutil.copytree(tree, target, symlinks=True, dirs_exist_ok=True, copy_function=self._place)

    def _place(self, source, target):
        link = LINKS.get(self.mode)
        if link is not None:
            try:
                return link(source, target)
            except OSError:
                pass  # this file, and the next is asked again
        return copy(source, target)
