"""A schedule as a line, and a failing one made as simple as it can be.

Written out it says who has how many turns, as in ``A12-B3-A``: A takes twelve, then B three, then A
as many as it can. What is left when the line ends goes on in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby

from pytest_linkmode.errors import UsageError
from pytest_linkmode.interleave.search import Growing, Shared
from pytest_linkmode.interleave.world import Diverged, Execution, World

SHRINKING = 3000
"""How many schedules may be run to find a simpler one."""

Fails = Callable[[Execution], bool]


def written(execution: Execution) -> str:
    """Return the line that runs this schedule again."""
    blocks = [(actor, len(list(turns))) for actor, turns in groupby(execution.plan)]
    while len(blocks) > 1 and _follows(blocks, execution):
        blocks.pop()
    words = [f"{execution.actors[actor]}{count}" for actor, count in blocks[:-1]]
    words += [execution.actors[actor] for actor, _ in blocks[-1:]]
    return "-".join(words)


def _follows(blocks: Sequence[tuple[int, int]], execution: Execution) -> bool:
    """Return whether the last block comes by itself, without being planned."""
    done = sum(count for _, count in blocks[:-1])
    alive = [actor for actor, end in execution.ended.items() if end > done]
    before = blocks[-2][0]
    return before not in alive and blocks[-1][0] == min(alive, default=-1)


def parse(text: str) -> list[tuple[str, int | None]]:
    """Return the blocks of a line: who, and how many turns (None: as many as it can).

    Raises UsageError for a line that is none.
    """
    blocks: list[tuple[str, int | None]] = []
    for word in text.split("-"):
        found = re.fullmatch(r"([A-Za-z]+)([0-9]*)", word)
        if found is None:
            raise UsageError(
                f"--linkmode-schedule={text}",
                why=f"{word!r} is not a name and a number of turns",
                hint="write it as A12-B3-A, as the failure printed it",
            )
        blocks.append((found[1], int(found[2]) if found[2] else None))
    return blocks


def follow(world: World, text: str) -> Execution:
    """Run a schedule that was written out. Raises UsageError where the actors do not have it."""
    try:
        return _followed(world, text)
    except Diverged as other:
        raise UsageError(
            f"--linkmode-schedule={text}",
            why=f"the {other.who} have other turns: {other.how}",
            hint="what they do has changed since it was printed: explore anew, without it",
        ) from None


def _followed(world: World, text: str) -> Execution:
    plan = b""
    execution = None
    for name, count in parse(text):
        if name not in world.actors:
            raise UsageError(
                f"--linkmode-schedule={text}",
                why=f"there is no actor {name}: they are {', '.join(world.actors)}",
            )
        actor = world.actors.index(name)
        if count is not None:
            plan += bytes((actor,)) * count
            execution = None
            continue
        execution = world.run(plan + bytes((actor,)))
        end = execution.ended[actor]
        plan = execution.plan[:end]
    return world.run(plan) if execution is None else execution


def shrunk(world: World, failed: Execution, fails: Fails, *, prunes: bool) -> Execution:
    """Return a schedule that fails as well and has the fewest preemptions that were found.

    Without `prunes`, the search that found it had them in that order already.

    All schedules with fewer are tried, in order, as far as the bound reaches; then turns are moved
    to those who had them before.
    """
    if not prunes:
        return failed
    shared = Shared()
    shared.learn(failed.events)
    best = [failed]

    def better(execution: Execution) -> bool:
        if fails(execution):
            best[0] = execution
            return False
        return True

    most = failed.preemptions() - 1
    if most >= 0:
        Growing(world, budget=SHRINKING, most=most, shared=shared).run(better)
    return best[0] if best[0] is not failed else _merged(world, failed, fails)


def _merged(world: World, failed: Execution, fails: Fails) -> Execution:
    """Give turns to those who had them before, block by block, for as long as it still fails."""
    tries = SHRINKING
    again = True
    while again:
        again = False
        blocks = [(actor, len(list(turns))) for actor, turns in groupby(failed.plan)]
        for place in range(1, len(blocks) - 1):
            later = next(
                (n for n in range(place + 1, len(blocks)) if blocks[n][0] == blocks[place - 1][0]),
                None,
            )
            if later is None or not tries:
                continue
            tries -= 1
            order = [*blocks[:place], blocks[later], *blocks[place:later], *blocks[later + 1 :]]
            execution = _attempt(world, order)
            if execution is None or not fails(execution):
                continue
            if execution.preemptions() < failed.preemptions():
                failed, again = execution, True
                break
    return failed


def _attempt(world: World, blocks: Sequence[tuple[int, int]]) -> Execution | None:
    """Run blocks of turns as far as their actors have them."""
    plan = b""
    for actor, count in blocks:
        execution = world.run(plan)
        have = execution.ended[actor] > len(plan)
        if not have:
            continue
        reached = world.run(plan + bytes((actor,)))
        upto = min(reached.ended[actor], len(plan) + count)
        plan = reached.plan[:upto]
    return world.run(plan)
