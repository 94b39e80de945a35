"""Properties that users ask for, read off the cells: one row of the scoreboard each.

A property holds for a program if every cell that speaks of it agrees, fails if one does not, and is
open where none does: nothing here is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from linker.modes import LinkMode
from pytest_linkmode.installers.matrix import Cell
from pytest_linkmode.installers.observing import DONE, FAILED
from pytest_linkmode.installers.programs import PROGRAMS
from pytest_linkmode.installers.scenarios import (
    APPEARS,
    HARDLINKED,
    IMMUTABLE,
    MOUNTED_FILE,
    NESTED,
    NOCOW,
    OWNER,
    RACE,
    SWAPPED,
    SYMLINKED,
    THEIRS,
    TWIN,
)

ONE_FILE = (
    *("EAGAIN", "EMLINK", "EINVAL", "EPERM", "EXDEV", "EOPNOTSUPP"),
    *("ENOTTY", "ENOSYS", "EACCES", "EBADF", "ETXTBSY", "EISDIR"),
)
"""Errors that say something of one file: no reason for an installation to fail."""


CACHES = ".cache/"
"""Where caches lie in a home directory."""
HOSTILE = (SYMLINKED, HARDLINKED)
"""The kinds of scenarios with a target that leads out of itself."""


@dataclass(frozen=True)
class Score:
    """How a program stands to a property: held in so many of the cells that speak of it.

    `example` is the first cell in which it does not hold, `seen` what was seen there.
    """

    held: int
    of: int
    example: str = ""
    seen: str = ""

    @property
    def word(self) -> str:
        """The word in the table."""
        if not self.of:
            return "-"
        return "yes" if self.held == self.of else "no" if not self.held else "partly"


@dataclass(frozen=True)
class Property:
    """A row: its name, and the cells that speak of it with whether they agree."""

    name: str
    of: Callable[[Cell], bool | None]
    any_is_enough: bool = False


def _default(cell: Cell) -> bool:
    program = next(each for each in PROGRAMS if each.name == cell.program)
    return cell.mode == program.modes[0].word


def _seen(cell: Cell, key: str) -> object:
    return (cell.seen or {}).get(key)


def _whole(cell: Cell) -> bool:
    return (
        _seen(cell, "ended") == DONE and not _seen(cell, "missing") and not _seen(cell, "damaged")
    )


def _kind(cell: Cell) -> str:
    return cell.scenario.partition(":")[0]


def _strict(cell: Cell) -> bool:
    program = next(each for each in PROGRAMS if each.name == cell.program)
    return any(mode.strict for mode in program.modes if mode.word == cell.mode)


def _fell_back(cell: Cell) -> bool:
    """Whether it ended well in another mode than was asked for."""
    found = set((cell.seen or {}).get("found", {}))
    if not _whole(cell) or not found or cell.asks == LinkMode.COPY.value:
        return False
    return found != {cell.asks}


def _falls_back(cell: Cell) -> bool | None:
    refused = cell.scenario == "plain" and ":" in cell.layout
    refused |= cell.scenario.endswith(":every") and "EXDEV" in cell.scenario
    return _whole(cell) if refused and _default(cell) and cell.seen else None


def tells(cell: Cell) -> bool | None:
    """Return whether a program that fell back said so; None if it did not."""
    return bool(_seen(cell, "told")) if _fell_back(cell) else None


def tells_rightly(cell: Cell) -> bool | None:
    """Return whether what it said of a fallback names the mode that failed; None if nothing."""
    told = f"{_seen(cell, 'told')} {_seen(cell, 'said')}".lower()
    if not _fell_back(cell) or not _seen(cell, "told"):
        return None
    others = {mode.value for mode in LinkMode} - {cell.asks, LinkMode.COPY.value}
    return not any(f"failed to {other}" in told for other in others)


def _can_be_strict(cell: Cell) -> bool | None:
    if cell.seen is None or cell.asks == LinkMode.COPY.value or cell.scenario != "plain":
        return None
    if ":" not in cell.layout or cell.asks == LinkMode.SYMLINK.value:
        return None
    return _seen(cell, "ended") == FAILED


def _isolates(cell: Cell) -> bool | None:
    if cell.seen is None or cell.scenario != "plain" or not _default(cell) or not _whole(cell):
        return None
    sharing = {LinkMode.HARDLINK.value, LinkMode.SYMLINK.value}
    return not sharing & set(cell.seen["found"])


def _keeps(key: str, kind: str) -> Callable[[Cell], bool | None]:
    def of(cell: Cell) -> bool | None:
        if _kind(cell) != kind or not _whole(cell) or cell.asks == LinkMode.SYMLINK.value:
            return None
        return bool(_seen(cell, key))

    return of


def _survives_one_file(cell: Cell) -> bool | None:
    parts = cell.scenario.split(":")
    if len(parts) < 4 or parts[2] not in ONE_FILE or parts[3] == "every" or not cell.seen:
        return None
    return _whole(cell) if _default(cell) else None


def _all_or_nothing(cell: Cell) -> bool | None:
    if _kind(cell) != "fault" or _seen(cell, "ended") != FAILED:
        return None
    return not _seen(cell, "found") and not _seen(cell, "damaged")


def _resumes(cell: Cell) -> bool | None:
    resumed = _seen(cell, "resumed")
    return resumed if isinstance(resumed, bool) else None


def _stays_inside(cell: Cell) -> bool | None:
    hostile = _kind(cell) in HOSTILE or cell.scenario == f"{RACE}:{SWAPPED}"
    return not _seen(cell, "escaped") if hostile and cell.seen and _hit(cell) else None


def _hit(cell: Cell) -> bool:
    """Whether somebody else had a turn, where there was to be a race."""
    return _kind(cell) != RACE or bool(_seen(cell, "fired"))


def _survives(*scenarios: str) -> Callable[[Cell], bool | None]:
    """Return a property that a program has which ends well in these scenarios."""

    def of(cell: Cell) -> bool | None:
        if cell.scenario not in scenarios or not _default(cell) or not cell.seen or not _hit(cell):
            return None
        return _whole(cell)

    return of


def _survives_oddity(cell: Cell) -> bool | None:
    odd = _survives(NOCOW, IMMUTABLE)(cell)
    return _works_on("+nocow")(cell) if odd is None else odd


def _tidies(cell: Cell) -> bool | None:
    if _kind(cell) not in ("plain", "fault", "umask", "kill") or not cell.seen:
        return None
    if _kind(cell) == "kill" and not _seen(cell, "resumed"):
        return None
    left = _seen(cell, "left") or _seen(cell, "temporary")
    return not left if _whole(cell) or _kind(cell) == "kill" else None


def _spares_the_cache(cell: Cell) -> bool | None:
    return not _seen(cell, "polluted") if cell.seen else None


def _writes_nowhere_else(cell: Cell) -> bool | None:
    if not cell.seen:
        return None
    own = [name for name in cell.seen["home"] if not name.startswith(CACHES)]
    return not own and not cell.seen["beside"]


def _works_on(ending: str) -> Callable[[Cell], bool | None]:
    def of(cell: Cell) -> bool | None:
        if not cell.layout.endswith(ending) or cell.scenario != "plain" or not cell.seen:
            return None
        return None if not _default(cell) else _whole(cell)

    return of


PROPERTIES: Sequence[Property] = (
    Property("falls back instead of failing", _falls_back),
    Property("says that it fell back", tells),
    Property("names the mode that failed, if it says anything", tells_rightly),
    Property("can be told to fail instead", _can_be_strict, any_is_enough=True),
    Property("isolates the cache where nobody asks for links", _isolates),
    Property("never changes a file of the cache", _spares_the_cache),
    Property("writes to nothing but its target and its caches", _writes_nowhere_else),
    Property("keeps exec bits", _keeps("exec_bits", "plain")),
    Property("keeps permission bits whatever the umask", _keeps("permissions", "umask")),
    Property("keeps modification times", _keeps("times", "plain")),
    Property("survives an error of one file", _survives_one_file),
    Property("leaves nothing of a package after an error", _all_or_nothing),
    Property("leaves nothing of its own behind after success", _tidies),
    Property("finishes what a kill interrupted", _resumes),
    Property("survives a race", _survives(f"{RACE}:{TWIN}", f"{RACE}:{APPEARS}")),
    Property("survives an odd attribute", _survives_oddity),
    Property("survives files of another owner", _survives(OWNER, THEIRS)),
    Property("follows nothing out of a hostile target", _stays_inside),
    Property("works on overlay", _works_on("overlay-lower")),
    Property("works across subvolumes", _works_on("+subvolume")),
    Property("works across bind mounts", _works_on("+bind")),
    Property("works with nested mounts", _survives(NESTED, MOUNTED_FILE)),
)
"""The rows of the scoreboard, in the order in which they are shown."""


def score(row: Property, cells: Iterable[Cell]) -> Score:
    """Return how the cells of one program stand to a property."""
    held = of = 0
    example = seen = ""
    for cell in cells:
        if _strict(cell) and not row.any_is_enough:
            continue  # it fails because it is asked to
        agrees = row.of(cell)
        if agrees is None:
            continue
        of += 1
        held += agrees
        if not agrees and not example:
            example, seen = f"{cell.mode} on {cell.layout}, {cell.scenario}", cell.shown
    if row.any_is_enough and held:
        return Score(of, of)
    return Score(held, of, example, seen)


def scoreboard(cells: Sequence[Cell]) -> dict[str, dict[str, Score]]:
    """Return property -> program -> score, for the programs that have cells."""
    names = [program.name for program in PROGRAMS if any(c.program == program.name for c in cells)]
    return {
        row.name: {
            name: score(row, [cell for cell in cells if cell.program == name]) for name in names
        }
        for row in PROPERTIES
    }
