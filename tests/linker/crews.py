"""Helpers of which a test decides what they do, and what becomes of them.

How much a helper does is no matter of the scheduler here: its parent waits until it has taken as
many tickets as the test allows, or has come to grief in the way the test has chosen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from linker import engine, helping
from linker.helping import Desk
from linker.journal import Record
from linker.making import Maker
from linker.sharing import Done, Team
from linker.tree import Node
from tests.linker.seams import CALLS, MachinePlatform

SMALL = 60
"""What counts as a large tree here."""

ALL = 1_000
"""More tickets than there are."""


class Crew:
    """What the helpers of a test do, and what became of it."""

    def __init__(self) -> None:
        self.tickets = ALL
        """How many a helper takes before it goes."""
        self.deed: Callable[[int], object] = lambda _: None
        """Called in a helper before it fills its n-th directory."""
        self.patient = True
        """Whether the parent waits until a helper is gone before it does anything itself."""
        self.pids: list[int] = []
        self.emptiers: list[int] = []
        """Those who remove what was replaced; `pids` are all others."""
        self.emptying = False
        self.vouched = 0
        self.collected: dict[str, tuple[Record, Done | None]] = {}
        """What the parent took over of each directory that it merged with a helper."""
        self.helping = False

    def check_vouched(self) -> None:
        """Assert that nothing was made up for: helpers did all that they had taken."""
        assert self.collected
        assert not [path for path, (_, done) in self.collected.items() if done is None]

    def check_gone(self) -> None:
        """Assert that no helper is left, not even as a zombie."""
        for pid in (*self.pids, *self.emptiers):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    made = Crew()
    take, hire, result, fill, do = Desk.take, Desk.hire, Desk.result, Maker._fill_own, Team._do
    collect, empty = Team.collect, helping.empty_together
    be, counts = Desk._help, {"taken": 0, "filled": 0}

    def being(desk: Desk, *given: Any) -> None:
        made.helping = True  # in the helper's own memory
        be(desk, *given)

    def taking(desk: Desk) -> int | None:
        if made.helping:
            counts["taken"] += 1
            if counts["taken"] > made.tickets:
                os._exit(0)
        return take(desk)

    def hiring(desk: Desk, work: Any) -> bool:
        hired = hire(desk, work)
        if hired:
            pid = desk._helpers[-1][0]
            (made.emptiers if made.emptying else made.pids).append(pid)
            if made.patient:
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return hired

    def emptying(*given: Any) -> None:
        made.emptying = True
        try:
            empty(*given)
        finally:
            made.emptying = False

    def telling(desk: Desk, ticket: int) -> list[int] | None:
        found = result(desk, ticket)
        made.vouched += found is not None
        return found

    def collecting(team: Team, node: Node) -> tuple[Record, Done | None]:
        found = made.collected[node.path] = collect(team, node)
        return found

    def filling(maker: Maker, *given: Any) -> None:
        if made.helping:
            counts["filled"] += 1
            made.deed(counts["filled"])
        fill(maker, *given)

    def doing(team: Team, *given: Any) -> None:
        counts["filled"] += 1
        made.deed(counts["filled"])
        do(team, *given)

    monkeypatch.setattr(Desk, "_help", being)
    monkeypatch.setattr(Desk, "take", taking)
    monkeypatch.setattr(Desk, "hire", hiring)
    monkeypatch.setattr(Desk, "result", telling)
    monkeypatch.setattr(helping, "empty_together", emptying)
    monkeypatch.setattr(Team, "collect", collecting)
    monkeypatch.setattr(Maker, "_fill_own", filling)
    monkeypatch.setattr(Team, "_do", doing)
    # pytest itself may have threads; a helper of a test does nothing that they could hold up.
    monkeypatch.setattr(MachinePlatform, "may_fork", property(lambda self: self.calls is CALLS))
    for module in (engine, helping):
        monkeypatch.setattr(module, "LEAST", SMALL)
    yield made
    made.check_gone()
