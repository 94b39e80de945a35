"""The fallback graph as data: what is done next when a primitive fails.

A `Policy` is a set of `Edge`s and a few words on how a system behaves around them. The engine
asks it at every failure, expectations are computed from it, diagrams, documentation and
coverage are made from it. Nothing else decides a fallback.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from functools import cached_property

from linker.conditions import Condition, Primitive
from linker.light import record
from linker.modes import LinkMode


class Step(enum.StrEnum):
    """What is done next, where it is not simply another link mode."""

    RETRY = "retry"
    """The same again, a bounded number of times; then `Edge.otherwise`."""
    DESCEND = "descend"
    """A directory is there: go into it and place entry by entry."""
    REPLACE = "replace"
    """A file is there: swap it with the new one; the old one is the backup."""
    EMULATE = "emulate"
    """The filesystem lacks the atomic call: a slower pair of calls with the same end."""
    STAGE = "stage"
    """It cannot get its name right away: make it in the stage first."""
    RESTAGE = "restage"
    """The directory lies on another mount: stage inside it."""
    PROCEED = "proceed"
    """Go on without it."""
    SKIP = "skip"
    """Leave this file out, go on with the next, and raise in the end."""
    ABORT = "abort"
    """Stop, undo, raise."""


class State(enum.StrEnum):
    """Whether a mode has worked already, for policies that care."""

    ANY = "any"
    """Whether or not."""
    INITIAL = "initial"
    """It has not worked yet."""
    ESTABLISHED = "established"
    """It has worked."""


class Memory(enum.StrEnum):
    """How far a refusal, once believed, is remembered."""

    FILE = "file"
    PAIR = "pair"
    TREE = "tree"
    PROCESS = "process"


class Promise(enum.StrEnum):
    """What the reference linker keeps beside the mode, and a system that is modelled may not."""

    FILE_PERMISSIONS = "file-permissions"
    """Files have the permission bits of the source, whatever the umask (rule 6)."""
    FILE_TIMES = "file-times"
    """Files have the modification time of the source (rule 6)."""
    DIRECTORY_PERMISSIONS = "directory-permissions"
    """So have new directories their permission bits (rule 6)."""
    DIRECTORY_TIMES = "directory-times"
    """And their modification time (rule 6)."""
    PLAIN_COPY = "plain-copy"
    """A copy is new bytes on disk, not what the kernel makes of copy_file_range (rule 7)."""
    WHOLE_NAMES = "whole-names"
    """No name ever shows a part of a file (rule 3)."""
    TOLD = "told"
    """Every fallback is told (rule 8)."""


PRIMITIVES: Mapping[LinkMode, Primitive] = {
    LinkMode.CLONE: Primitive.CLONE_FILE,
    LinkMode.HARDLINK: Primitive.HARDLINK,
    LinkMode.SYMLINK: Primitive.SYMLINK,
    LinkMode.COPY: Primitive.COPY,
}
"""The primitive that makes one file in a mode."""


@record(frozen=True, slots=True)
class Edge:
    """One line of a fallback graph.

    `mode` is the mode in which the file was being linked, or None where the line holds in
    every mode (making directories, giving entries their final names). `error` narrows the line
    to one error by name, for systems that tell errors apart which mean the same; such a line goes
    before that of the condition. `memory` is how far this fallback reaches where that is not what
    the policy says of all.
    """

    platform: str
    mode: LinkMode | None
    primitive: Primitive
    condition: Condition
    then: LinkMode | Step
    otherwise: LinkMode | Step = Step.ABORT
    state: State = State.ANY
    error: str = ""
    memory: Memory | None = None

    @property
    def id(self) -> str:
        """A stable name, as in ``linux/clone/clone-file/cross-device``."""
        mode = self.mode.value if self.mode else "*"
        parts = [self.platform, mode, str(self.primitive), str(self.condition)]
        if self.state is not State.ANY:
            parts.append(str(self.state))
        if self.error:
            parts.append(self.error)
        return "/".join(parts)

    @property
    def meets(self) -> str:
        """What the line is about: a condition, or one error of those that mean it."""
        return f"{self.condition} ({self.error})" if self.error else str(self.condition)

    @property
    def fallback(self) -> LinkMode | None:
        """The mode that this edge ends in, if it leads to another mode."""
        for step in (self.then, self.otherwise if self.then is Step.RETRY else self.then):
            if isinstance(step, LinkMode):
                return step
        return None

    def __str__(self) -> str:
        then = str(self.then)
        if self.then is Step.RETRY:
            then += f", then {self.otherwise}"
        return f"{self.id} -> {then}"


@record(frozen=True, slots=True)
class Outcome:
    """Where a policy leads: the mode a file ends in (None: an error), and by which edges."""

    mode: LinkMode | None
    edges: tuple[Edge, ...]


_NO_DEFAULTS: Mapping[str, LinkMode] = {}


@record(frozen=True)
class Policy:
    """A whole fallback graph.

    `confirmations` is how many different non-empty files must fail alike before a refusal of
    pair scope is believed; `memory` how far it then reaches; `retries` bounds `Step.RETRY`;
    `undo` whether a failure puts the target back as it was; `source` says where the graph was
    read, with version and date.

    `default` is the mode without a wish, `defaults` the same for single platforms. `settles` is
    what makes a mode established: one file, or a whole tree that was linked by it in this process.
    With `restarts`, a fallback that reaches further than one file begins the tree again from its
    first file. `waives` are the promises that the modelled system does not make: the reference
    linker is not held to them under this policy, nor is the system itself.
    """

    name: str
    edges: tuple[Edge, ...]
    source: str
    default: LinkMode = LinkMode.CLONE
    memory: Memory = Memory.PAIR
    confirmations: int = 2
    retries: int = 3
    undo: bool = True
    defaults: Mapping[str, LinkMode] = _NO_DEFAULTS
    settles: Memory = Memory.FILE
    restarts: bool = False
    waives: frozenset[Promise] = frozenset()

    def __post_init__(self) -> None:
        """Refuse two edges for one failure."""
        assert self._index is not None

    @cached_property
    def _index(
        self,
    ) -> Mapping[tuple[str, LinkMode | None, Primitive, Condition, State, str], Edge]:
        index = {}
        for edge in self.edges:
            key = (
                edge.platform,
                edge.mode,
                edge.primitive,
                edge.condition,
                edge.state,
                edge.error,
            )
            if key in index:
                raise ValueError(f"policy {self.name!r} has two edges for {edge.id}")
            index[key] = edge
        return index

    def edge(
        self,
        platform: str,
        mode: LinkMode | None,
        primitive: Primitive,
        condition: Condition,
        *,
        established: bool = False,
        error: str = "",
    ) -> Edge | None:
        """Return the edge for this failure, or None where the policy knows of no way on.

        `error` is the name of the error, for the lines that speak of one alone.
        """
        state = State.ESTABLISHED if established else State.INITIAL
        for candidate_mode in (mode, None):
            for name in (error, "") if error else ("",):
                for candidate_state in (state, State.ANY):
                    found = self._index.get(
                        (platform, candidate_mode, primitive, condition, candidate_state, name)
                    )
                    if found is not None:
                        return found
        return None

    def default_on(self, platform: str) -> LinkMode:
        """Return the mode in which files are linked on a platform where nobody asks for one."""
        return self.defaults.get(platform, self.default)

    def platforms(self) -> tuple[str, ...]:
        """Return the platforms that the policy speaks of."""
        return tuple(dict.fromkeys(edge.platform for edge in self.edges))

    def outcome(
        self,
        platform: str,
        mode: LinkMode,
        results: Mapping[Primitive, Condition | None],
    ) -> Outcome:
        """Return where a file requested in `mode` ends, given what the primitives do there.

        `results` maps each primitive to the condition it meets between a source and a target,
        or to None where it works, as `pytest_linkmode.capabilities.probe` finds them.
        """
        taken: list[Edge] = []
        while True:
            primitive = PRIMITIVES[mode]
            condition = results[primitive]
            if condition is None:
                return Outcome(mode, tuple(taken))
            edge = self.edge(platform, mode, primitive, condition)
            if edge is None:
                return Outcome(None, tuple(taken))
            taken.append(edge)
            step = edge.otherwise if edge.then is Step.RETRY else edge.then
            if not isinstance(step, LinkMode) or len(taken) > len(self.edges):
                return Outcome(None, tuple(taken))
            mode = step

    def of(self, platform: str) -> tuple[Edge, ...]:
        """Return the edges that concern one platform."""
        return tuple(edge for edge in self.edges if edge.platform == platform)


def edges(
    platform: str,
    mode: LinkMode | None,
    primitive: Primitive,
    conditions: Iterable[Condition],
    then: LinkMode | Step,
    otherwise: LinkMode | Step = Step.ABORT,
    state: State = State.ANY,
    memory: Memory | None = None,
) -> tuple[Edge, ...]:
    """Return one edge for each of `conditions`: a row of a table."""
    return tuple(
        Edge(platform, mode, primitive, condition, then, otherwise, state, memory=memory)
        for condition in conditions
    )
