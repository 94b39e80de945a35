"""What a link did: the report, its transitions, the error, and the observers of all that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from linker.conditions import Condition, Primitive, Scope
from linker.light import Protocol, record
from linker.modes import LinkMode
from linker.policy import Edge


@record(frozen=True, slots=True)
class Transition:
    """One fallback taken, once per cause and scope.

    `path` is relative to the target and names the first file that met it; `error` is the
    operating system's; `scope` how far it reached.
    """

    edge: Edge
    path: str
    error: OSError | None
    scope: Scope = Scope.FILE
    proof: str = "real"
    """How this was met: ``real``, ``injected`` (a fault) or ``modelled``."""


@record(frozen=True, slots=True)
class LinkReport:
    """What `link_tree` did.

    `counts` maps each mode to the number of files that ended in it; source symlinks, which are
    recreated in every mode, are counted in `symlinks`, directories in `directories`.
    `leftovers` lists what could not be cleaned up after success (paths relative to the target).
    """

    requested: LinkMode
    counts: Mapping[LinkMode, int]
    transitions: tuple[Transition, ...]
    policy: str = "reference"
    directories: int = 0
    symlinks: int = 0
    replaced: int = 0
    leftovers: tuple[str, ...] = ()


class LinkError(Exception):
    """Linking failed. What, why, and how to mend it; and what could not be undone.

    `left` is empty unless the undo itself was refused, or it could not be decided whose a name
    is (rule 4 of the reference linker); paths are relative to the target.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        hint: str = "",
        path: str = "",
        primitive: Primitive | None = None,
        condition: Condition | None = None,
        edge: Edge | None = None,
        left: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint
        self.path = path
        self.primitive = primitive
        self.condition = condition
        self.edge = edge
        self.left = left

    def __reduce__(self) -> tuple[object, ...]:
        return again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        lines = [self.what + (f": {self.why}" if self.why else "")]
        if self.left:
            lines.append(left_line(self.left))
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


def again(
    kind: type[BaseException], args: tuple[object, ...], has: dict[str, object]
) -> BaseException:
    """Return an error as it was, in another process or as a copy."""
    error = kind.__new__(kind, *args)
    error.__setstate__(has)
    return error


def left_line(left: tuple[str, ...]) -> str:
    """Return the line that names what remains."""
    return "could not be undone: " + ", ".join(left)


class Observer(Protocol):
    """Somebody who is told what linking does, while it does it."""

    def transition(self, transition: Transition) -> None:
        """Take note of one edge taken."""

    def linked(self, report: LinkReport) -> None:
        """Take note of one tree or file that was linked to the end."""


_observers: list[Observer] = []


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Tell `observer` of every link in this process while the context lasts."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def observers() -> tuple[Observer, ...]:
    """Return those who listen now."""
    return tuple(_observers)
