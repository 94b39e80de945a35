"""What a program did, read from its calls and mapped onto the edges of a policy.

A program tells nobody of its fallbacks. But a call that failed has a condition, and the next call
for the same file is what was done then: together they are an edge. One that the policy does not
have, or that leads elsewhere there, gets a name that no policy has, so that the report shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from linker.conditions import Condition, Primitive, condition_of
from linker.failures import printable
from linker.modes import LinkMode
from linker.policy import PRIMITIVES, Edge, Policy, Step
from pytest_linkmode.coverage import INJECTED, REAL, recorders

if TYPE_CHECKING:
    from pytest_linkmode.faults.log import Call
    from pytest_linkmode.faults.running import Run

PLATFORM = "linux"
"""Where calls of programs can be read."""

MODES: Mapping[str, LinkMode] = {mode.value: mode for mode in LinkMode}
"""Op of the log -> the mode that it makes a file in."""

MADE = "create"
"""The op by which a copy begins; of an empty file there is no other."""

Next = LinkMode | Step | None
Taken = tuple[str, str]
"""The name of an edge, and its proof."""


def witness(run: Run, policy: Policy, mode: LinkMode | None = None) -> None:
    """Tell those who take notes which edges a program took, and what was closed to it; `mode` is
    what it was asked for.
    """
    if notes := recorders():
        taken = dict.fromkeys(edges(run.calls, policy, run.returncode, mode))
        program = os.path.basename(run.command[0])
        closed = dict.fromkeys(printable(f"{program}: {escape}") for escape in run.escapes)
        for recorder in notes:
            recorder.edges.update(taken)
            recorder.notes.update(closed)


def witness_by(policy: Policy) -> Callable[[Run], None]:
    """Return what tells of a run by this policy."""
    return lambda run: witness(run, policy)


def _has_no_data(path: str) -> bool:
    """Whether there is a file without data: empty, or one hole."""
    from pytest_linkmode.evidence import is_hole

    if not os.path.isfile(path):  # a fifo would be waited for
        return False
    try:
        with open(path, "rb") as file:
            return is_hole(file.fileno())
    except OSError:
        return False


def edges(
    calls: Sequence[Call],
    policy: Policy,
    returncode: int,
    mode: LinkMode | None = None,
    *,
    has_no_data: Callable[[str], bool] = _has_no_data,
) -> Iterator[Taken]:
    """Yield the edges that calls show, in their order.

    From the first fault on nothing is real any more: it may come of that. Whether a file of the
    source `has_no_data`, no call tells.
    """
    linking = [call for call in calls if call.op in MODES]
    worked: set[str] = set()
    proof = REAL
    for index, call in enumerate(linking):
        if call.fault:
            proof = INJECTED
        if call.error is None:
            worked.add(call.op)
            continue
        made = MODES[call.op]
        means = condition_of(PLATFORM, PRIMITIVES[made], call.error)
        then = _next(call, linking[index + 1 :], calls, returncode, has_no_data)
        edge = policy.edge(PLATFORM, made, PRIMITIVES[made], means, established=call.op in worked)
        if edge is not None and _leads(edge, then):
            yield edge.id, proof
        else:
            yield _unknown(made, PRIMITIVES[made], means, then), proof
    tried = {call.op for call in linking}
    if mode is not None and tried and mode.value not in tried:
        # Nothing failed: it did not even try.
        yield _unknown(mode, PRIMITIVES[mode], "untried", MODES[linking[-1].op]), proof


def _next(
    failed: Call,
    later: Sequence[Call],
    calls: Sequence[Call],
    returncode: int,
    has_no_data: Callable[[str], bool],
) -> Next:
    """Return what was done for the same source after a call had failed."""
    source = failed.paths[0] if failed.paths else ""
    for call in later:
        if call.paths and call.paths[0] == source:
            return MODES[call.op] if call.op != failed.op else Step.RETRY
        if call.op == LinkMode.COPY.value and call.path == failed.path:
            return LinkMode.COPY  # by write(2), which has no source
    # The calls of one op are in the log in their order; a file without data is only made.
    after = calls[calls.index(failed) + 1 :]
    if any(_makes(call, failed.path) for call in after):
        return LinkMode.COPY
    if returncode:
        return Step.ABORT
    # A clone is asked of a file that is made before: if that has no data, it is a copy already.
    if any(_makes(call, failed.path) for call in calls) and has_no_data(source):
        return LinkMode.COPY
    return None


def _makes(call: Call, path: str) -> bool:
    return call.op == MADE and call.path == path


def _leads(edge: Edge, then: Next) -> bool:
    """Whether an edge of the policy leads where a program went."""
    if edge.then in (Step.RETRY, Step.REPLACE):
        # The same once more, perhaps under another name; the last time, what comes after that.
        return then is Step.RETRY or then is edge.otherwise
    if edge.then is Step.SKIP:  # others may follow: the program fails in the end
        return then is Step.ABORT
    return then is edge.then


def _unknown(mode: LinkMode, primitive: Primitive, means: Condition | str, then: Next) -> str:
    done = "nothing" if then is None else str(then)
    return f"{PLATFORM}/{mode.value}/{primitive}/{means} -> {done}"
