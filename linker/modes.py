"""The four link modes, and what to do where a name is taken already.

These two enums are the words in which callers speak to the linker and in which reports,
evidence and test ids answer.
"""

from __future__ import annotations

import enum


class LinkMode(enum.Enum):
    """One way to make a file of the source appear in the target."""

    CLONE = "clone"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    COPY = "copy"

    __hash__ = object.__hash__  # there is one of each; `Enum`'s own is a call in Python

    @classmethod
    def parse(cls, text: str) -> LinkMode:
        """Return the mode that `text` names; ``reflink`` is an alias of ``clone``.

        Raises ValueError, naming the accepted words, for anything else.
        """
        word = text.strip().lower()
        if word == "reflink":
            return cls.CLONE
        for mode in cls:
            if mode.value == word:
                return mode
        accepted = ", ".join(mode.value for mode in cls)
        raise ValueError(f"unknown link mode {text!r}: choose one of {accepted} (or reflink)")

    @property
    def isolating(self) -> bool:
        """Whether later edits of the target leave the source alone."""
        return self in (LinkMode.CLONE, LinkMode.COPY)

    @property
    def sharing(self) -> bool:
        """Whether later edits of the target are edits of the source."""
        return not self.isolating

    def __str__(self) -> str:
        return self.value


class Existing(enum.Enum):
    """What `link_tree` does where the target holds something already."""

    MERGE = "merge"
    """Directories are merged, files and symlinks are replaced."""

    FAIL = "fail"
    """Any name that is there already is an error, before anything is touched."""
