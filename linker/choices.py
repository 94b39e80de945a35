"""Asks the policy what to do about a failure, and remembers what came of it.

This is rule 2 of the reference linker: how far a refusal reaches, and how much evidence it takes
before a mode is given up for a pair of filesystems.
"""

from __future__ import annotations

from collections.abc import Sequence

from linker.conditions import Condition, Primitive, Scope
from linker.failures import condition, link_error
from linker.modes import LinkMode
from linker.platforms.base import Failed, Platform
from linker.policy import Edge, Memory, Policy, Step
from linker.report import LinkError, Observer, Transition
from linker.tree import Node


class Pair:
    """What is known of one source filesystem and one stage: one pair of rule 2.

    `mode` is where files begin now; `worked` the modes that have worked; `suspects` the failures
    that would retire a mode if they went on: (edge, path, error, inode) each.
    """

    __slots__ = ("mode", "suspects", "worked")

    def __init__(self, mode: LinkMode, worked: set[LinkMode]) -> None:
        self.mode = mode
        self.worked = worked
        self.suspects: list[tuple[Edge, str, OSError, int]] = []


_process_modes: dict[tuple[str, LinkMode], LinkMode] = {}
"""Where policies that remember for the whole process begin: (policy, requested) -> mode."""
_process_settled: set[tuple[str, LinkMode]] = set()
"""What was established for the whole process: (policy, mode)."""


def forget_process() -> None:
    """Begin like a new process, for policies that remember something for the whole of one.

    For whoever lets the reference linker stand for a program that is started again and again.
    """
    _process_modes.clear()
    _process_settled.clear()


class StartAgain(LinkError):
    """The policy links the whole tree again in another mode, from its first file."""


class LeftOut(Exception):
    """The policy goes on without this file, and raises in the end."""


class Choices:
    """The choices of one run.

    `requested` is the mode asked for; `strict` makes every fallback an error; `watchers` are told
    of every edge taken; `transitions` collects the fallbacks for the report. `before` are the
    choices of a run that ended with `StartAgain`: this one goes on where it left off.
    """

    def __init__(
        self,
        policy: Policy,
        platform: Platform,
        requested: LinkMode,
        watchers: Sequence[Observer],
        *,
        strict: bool,
        before: Choices | None = None,
    ) -> None:
        self.policy = policy
        self.platform = platform
        self.requested = requested
        self.watchers = watchers
        self.strict = strict
        self.transitions: list[Transition] = list(before.transitions) if before else []
        self.start: LinkMode = before.start if before else requested
        self.skipped: LinkError | None = None
        """The first error of those for which files were left out."""
        self._told: set[tuple[str, str, Scope]] = set()
        self._pairs: dict[tuple[int, str], Pair] = {}
        self._knows_one_pair = policy.memory in (Memory.TREE, Memory.PROCESS)
        self._taken = self._edge_of_names(Primitive.RENAME, Condition.EXISTS)

    def _edge_of_names(self, primitive: Primitive, meaning: Condition) -> Edge | None:
        """Return what the policy says, in every mode, of an entry that gets its name."""
        return self.policy.edge(self.platform.name, None, primitive, meaning)

    def pair(self, device: int, stage: str) -> Pair:
        """Return what is known of files of the filesystem `device` linked through `stage`."""
        key = (0, "") if self._knows_one_pair else (device, stage)
        pair = self._pairs.get(key)
        if pair is None:
            start = self.start
            if self.policy.memory is Memory.PROCESS:
                start = _process_modes.get((self.policy.name, self.requested), start)
            pair = self._pairs[key] = Pair(start, set())
        return pair

    def step(self, failed: Failed, path: str) -> LinkMode | Step:
        """Ask what to do about a failure that, as a rule, has nothing to do with a mode."""
        meaning = condition(self.platform, failed)
        # What hinders a hard link from getting its name at once is nothing that the mode knows.
        mode = None if failed.primitive is Primitive.HARDLINK else self.requested
        edge = self.policy.edge(self.platform.name, mode, failed.primitive, meaning)
        if edge is None:
            return Step.ABORT
        self._tell(edge, path, failed.error, meaning.scope)
        return edge.then

    def persisting(self, failed: Failed, attempts: int, path: str) -> LinkMode | Step:
        """Ask as `step` does, after so many attempts: a retry has its bound, and a way on then."""
        meaning = condition(self.platform, failed)
        edge = self.policy.edge(self.platform.name, self.requested, failed.primitive, meaning)
        if edge is None:
            return Step.ABORT
        self._tell(edge, path, failed.error, meaning.scope)
        ended = edge.then is Step.RETRY and attempts >= self.policy.retries
        return edge.otherwise if ended else edge.then

    def otherwise(self, failed: Failed, path: str) -> bool:
        """Ask whether a file that could not be placed directly is to go through the stage.

        False for a failure that says something of the mode; raises `LinkError` where the policy
        knows no other way.
        """
        if failed.primitive is Primitive.HARDLINK:
            meaning = condition(self.platform, failed)
            structural = meaning is Condition.EXISTS
            if meaning is Condition.MISSING:
                # The source's file, or by now the directory? Some systems do not ask.
                structural = self._edge_of_names(Primitive.HARDLINK, meaning) is not None
        else:
            structural = failed.primitive in (Primitive.CREATE, Primitive.RENAME)
        if not structural:
            return False
        if self.step(failed, path) is Step.ABORT:
            raise link_error(self.platform, failed, path) from failed.error
        return True

    def replaces(self, node: Node, name: str) -> bool:
        """Ask whether an entry that was seen to be there is to be replaced, without trying."""
        edge = self._taken
        if edge is None or edge.then is not Step.REPLACE:
            return False
        if self.watchers:
            self._tell(edge, node.join(name), None, Scope.FILE)
        return True

    def following(
        self,
        pair: Pair,
        mode: LinkMode,
        failed: Failed,
        attempts: int,
        path: str,
        handle: int,
        name: str,
    ) -> LinkMode:
        """Ask how to go on with the file `name` of the source directory `handle`.

        Return the mode to try now, which is `mode` itself for a retry. Raises `LeftOut` where the
        policy goes on without the file, and `LinkError` where it does not go on.
        """
        meaning = condition(self.platform, failed)
        edge = self.policy.edge(
            self.platform.name,
            mode,
            failed.primitive,
            meaning,
            established=self._established(pair, mode),
            error=self.platform.error_name(failed.error),
        )
        step: LinkMode | Step = Step.ABORT
        if edge is not None:
            step = edge.then
            if step is Step.RETRY:
                self._tell(edge, path, failed.error, Scope.RETRY)
                if attempts < self.policy.retries:
                    self.platform.pause(attempts + 1)
                    return mode
                step = edge.otherwise
        if not isinstance(step, LinkMode) or edge is None:
            if edge is not None:
                self._tell(edge, path, failed.error, Scope.ABORT)
            error = link_error(self.platform, failed, path, edge)
            if step is Step.SKIP:
                self.skipped = self.skipped or error
                raise LeftOut from failed.error
            raise error from failed.error
        if self.strict:
            self._tell(edge, path, failed.error, Scope.ABORT)
            hint = f"without strict it would be linked by {step}"
            raise link_error(self.platform, failed, path, edge, hint) from failed.error
        if self._may_reach_further(pair, mode, meaning, edge):
            self._suspect(pair, edge, path, failed.error, handle, name)
            if self.policy.restarts and mode in pair.worked and pair.mode is step:
                self.start = step
                raise StartAgain(f"{path} is linked by {step}, and so is all before it")
        else:
            self._tell(edge, path, failed.error, Scope.FILE)
        return step

    def _established(self, pair: Pair, mode: LinkMode) -> bool:
        if self.policy.settles is Memory.FILE:
            return mode in pair.worked
        return (self.policy.name, mode) in _process_settled

    def settle(self) -> None:
        """Take note that the whole tree was linked."""
        if self.policy.settles is not Memory.FILE:
            for pair in self._pairs.values():
                _process_settled.update((self.policy.name, mode) for mode in pair.worked)

    def _may_reach_further(
        self, pair: Pair, mode: LinkMode, meaning: Condition, edge: Edge
    ) -> bool:
        """Return whether this failure may say something of more than one file."""
        if mode is not pair.mode:
            return False
        memory = edge.memory or self.policy.memory
        if memory is Memory.PAIR:
            return meaning.scope is Scope.PAIR and mode not in pair.worked
        return memory is not Memory.FILE

    def _suspect(
        self, pair: Pair, edge: Edge, path: str, error: OSError, handle: int, name: str
    ) -> None:
        """Note a failure of the pair's mode; retire the mode once enough files failed alike."""
        try:
            seen = self.platform.look(handle, name)
        except Failed:
            seen = None
        if self.policy.confirmations > 1 and (seen is None or seen.size == 0):
            self._tell(edge, path, error, Scope.FILE)  # an empty file proves little
            return
        inode = seen.inode if seen is not None else 0
        alike = [other for other in pair.suspects if other[0] is edge and other[3] != inode]
        pair.suspects.append((edge, path, error, inode))
        if len(alike) + 1 < self.policy.confirmations:
            return
        _, first, its_error, _ = (alike or pair.suspects)[0]
        self._tell(edge, first, its_error, Scope.PAIR)
        pair.suspects = [other for other in pair.suspects if other[0] is not edge]
        step = edge.otherwise if edge.then is Step.RETRY else edge.then
        if isinstance(step, LinkMode):
            pair.mode = step
            if self.policy.memory is Memory.PROCESS:
                _process_modes[(self.policy.name, self.requested)] = step

    def tell_suspects(self) -> None:
        """Report the refusals that were never confirmed: each was one file's own."""
        for pair in self._pairs.values():
            for edge, path, error, _ in pair.suspects:
                self._tell(edge, path, error, Scope.FILE)
            pair.suspects.clear()

    def _tell(self, edge: Edge, path: str, error: OSError | None, scope: Scope) -> None:
        if not self.watchers and edge.fallback is None:
            return
        key = (edge.id, path, scope)
        if key in self._told:
            return
        self._told.add(key)
        proof = "injected" if getattr(error, "injected", False) else self.platform.proof
        transition = Transition(edge, path, error, scope, proof)
        if edge.fallback is not None and scope in (Scope.FILE, Scope.PAIR):
            self.transitions.append(transition)
        for watcher in self.watchers:
            watcher.transition(transition)
