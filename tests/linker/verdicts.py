"""What must hold after a link that met an error or was killed, by rules 3, 4 and 8.

`wrong` judges a link that came to an end, `Ends` one that was killed and the run after it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from linker import LinkError, LinkMode, LinkReport, link_tree
from linker.journal import RESERVED
from linker.platforms.linux import Calls
from tests.linker import model, trees
from tests.linker.scenes import Scene
from tests.linker.seams import REFLINKING, Deed, Tap
from tests.linker.trees import Snapshot


@dataclass
class Ended:
    """How one case ended."""

    report: LinkReport | None
    error: LinkError | None


def wrong(scene: Scene, mode: LinkMode, ended: Ended) -> list[str]:
    """Return what is wrong with the target after a case."""
    if ended.error is not None:
        listed = [f"left names {ended.error.left}"] if ended.error.left else []
        return listed + scene.untouched()
    assert ended.report is not None
    after, leftovers = scene.now(), ended.report.leftovers
    found = model.problems(
        scene.wanted,
        scene.before,
        {path: seen for path, seen in after.items() if RESERVED not in path},
        mode.value,
        source_path=scene.source,
        fallback=bool(ended.report.transitions),
    )
    # What could not be cleaned up or given back is allowed to be there, if the report says so.
    found = [said for said in found if not any(f"{name!r}" in said for name in leftovers)]
    remaining = {path for path in after if path.rpartition("/")[2].startswith(RESERVED)}
    remaining |= {f"../{name}" for name in scene.beside()}
    named = {
        name for name in leftovers if RESERVED in name and "/" not in name.partition(RESERVED)[2]
    }
    if remaining != named:
        found.append(f"{remaining} remain, the report names {named}")
    return found


def reserved(path: str) -> bool:
    return any(name.startswith(RESERVED) for name in path.split("/"))


def everything(scene: Scene) -> Snapshot:
    """Return the target and what lies beside it, by paths from the directory of both."""
    found: Snapshot = {}
    for name in os.listdir(scene.root):
        if name != "source":
            for path, seen in trees.snapshot(f"{scene.root}/{name}").items():
                found[f"{name}/{path}" if path else name] = seen
    return found


def comparable(taken: Snapshot, mode: LinkMode) -> dict[str, object]:
    """Return what two runs must agree on. The times of symlinks that stand for files are free."""
    found: dict[str, object] = {}
    for path, seen in trees.content(taken).items():
        made_now = mode is LinkMode.SYMLINK and seen[0] == "symlink" and seen[3].startswith(b"/")
        found[path] = (*seen[:2], 0, seen[3]) if made_now else seen
    return found


class Ends:
    """What a scene is before, and after an undisturbed run."""

    def __init__(self, scene: Scene, mode: LinkMode, way: Calls = REFLINKING) -> None:
        self.scene = scene
        self.mode = mode
        self.way = way
        self.stages = 0
        self.before = comparable(everything(scene), mode)
        tap = self.tap()
        link_tree(scene.source, scene.target, mode=mode, platform=tap.platform)
        self.calls = tap.count
        self.after = comparable(everything(scene), mode)
        assert not any(reserved(path) for path in self.after)
        scene.rebuild()

    def tap(self, deed: Deed | None = None) -> Tap:
        """Return the calls that a link makes here."""
        return Tap(deed, self.way)

    def torn(self) -> list[str]:
        """Return in words what is not whole, right after a kill; count the stages."""
        taken = everything(self.scene)
        self.stages = sum(path.rpartition("/")[2].startswith(RESERVED) for path in taken)
        now = comparable(taken, self.mode)
        found = [f"{path!r} is missing" for path in self.before if path not in now]
        for path, seen in now.items():
            either = [known[path] for known in (self.before, self.after) if path in known]
            directory = isinstance(seen, tuple) and seen[0] == "directory"
            if reserved(path):
                continue
            if not either or (seen not in either and not directory):
                found.append(f"{path!r} is neither old nor new: {seen}")
        return found

    def mended(self) -> list[str]:
        """Link once more; return in words what is not as after an undisturbed run."""
        tap = self.tap()
        try:
            report = link_tree(
                self.scene.source, self.scene.target, mode=self.mode, platform=tap.platform
            )
        except LinkError as error:
            return [f"the next run failed: {error}"]
        now = comparable(everything(self.scene), self.mode)
        found = [f"{name} is left by the next run" for name in report.leftovers]
        for path in sorted({*now, *self.after}):
            if now.get(path) != self.after.get(path):
                found.append(f"{path!r} ended as {now.get(path)}, not {self.after.get(path)}")
        return found
