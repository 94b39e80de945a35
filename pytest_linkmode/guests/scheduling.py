"""Which worker runs which test: those that need a guest run in one, the others on the host.

The protocol is that of pytest-xdist's schedulers. A worker runs a test when it knows the next one,
or that there is none; so each has a few at a time, and more as it gets on.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

AHEAD = 4
"""How many tests a worker knows of at a time: enough never to wait, few enough to be fair."""


class Node(Protocol):
    """What we need of xdist's `WorkerController`."""

    gateway: Any

    @property
    def shutting_down(self) -> bool:
        """Whether it was told to end."""

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Let it run these tests of its collection."""

    def shutdown(self) -> None:
        """Let it end when it has run what it knows of."""


def needs_guest(names: Iterable[str]) -> Callable[[str], bool]:
    """Return whether the parameters of a test, as its id shows them, name one of these.

    A parameter of a project's own that happens to be called so runs in a guest as well.
    """
    words = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    pattern = re.compile(rf"\[(?:.*[-:\[])?(?:{words})(?=[-:+\]])")
    return lambda nodeid: bool(pattern.search(nodeid))


class GuestScheduling:
    """Two queues: one for the guests, one for the host. See xdist.scheduler.protocol."""

    def __init__(
        self,
        expected: int,
        needs: Callable[[str], bool],
        is_guest: Callable[[Node], bool],
        differ: Callable[[Node, Node, Sequence[str], Sequence[str]], None],
    ) -> None:
        self._expected = expected
        self._needs = needs
        self._is_guest = is_guest
        self._differ = differ
        self._collections: dict[Node, list[str]] = {}
        self._pending: dict[Node, list[int]] = {}
        self._queues: dict[bool, deque[int]] = {True: deque(), False: deque()}
        self.collection: list[str] | None = None

    @property
    def nodes(self) -> list[Node]:
        """All workers."""
        return list(self._pending)

    @property
    def collection_is_completed(self) -> bool:
        """Whether every worker that was there at first has said what it collected."""
        return len(self._collections) >= self._expected

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to be handed out, and hardly anything under way."""
        return (
            self.collection_is_completed
            and not any(self._queues.values())
            and all(len(pending) < 2 for pending in self._pending.values())
        )

    @property
    def has_pending(self) -> bool:
        """Whether any test is still to come to its end."""
        return any(self._queues.values()) or any(self._pending.values())

    def add_node(self, node: Node) -> None:
        """Take note of a worker."""
        self._pending[node] = []

    def add_node_collection(self, node: Node, collection: Sequence[str]) -> None:
        """Take note of what a worker has collected; a late one must have the same."""
        if self.collection is not None and list(collection) != self.collection:
            self._differ(next(iter(self._collections)), node, self.collection, collection)
            return
        self._collections[node] = list(collection)

    def mark_test_complete(self, node: Node, item_index: int, duration: float = 0) -> None:
        """Take note that a test is over, and hand out the next."""
        del duration
        self._pending[node].remove(item_index)
        self._hand_out(node)

    def mark_test_pending(self, item: str) -> None:
        """Have a test run once more."""
        assert self.collection is not None
        self._queues[self._needs(item)].appendleft(self.collection.index(item))
        self.schedule()

    def remove_pending_tests_from_node(self, node: Node, indices: Sequence[int]) -> None:
        """Take back what a worker gave back."""
        for index in indices:
            self._pending[node].remove(index)
            self._put_back(index)

    def remove_node(self, node: Node) -> str | None:
        """Forget a worker; return the test during which it died, if it did."""
        pending = self._pending.pop(node)
        if not pending or self.collection is None:
            return None
        crashed, *others = pending
        for index in reversed(others):
            self._put_back(index)
        self.schedule()
        return self.collection[crashed]

    def schedule(self) -> None:
        """Hand out tests: the first ones, or more of them."""
        if self.collection is None:
            (first, collection), *others = self._collections.items()
            for node, other in others:
                if other != collection:
                    self._differ(first, node, collection, other)
                    return
            self.collection = collection
            for index, nodeid in enumerate(collection):
                self._queues[self._needs(nodeid)].append(index)
        for node in self.nodes:
            self._hand_out(node)

    def _hand_out(self, node: Node) -> None:
        if node.shutting_down or node not in self._collections:
            return
        queue = self._queues[self._is_guest(node)]
        pending = self._pending[node]
        if queue and len(pending) < AHEAD:
            # Others of its kind must not go without: an even share, when few are left.
            kin = sum(self._is_guest(other) == self._is_guest(node) for other in self.nodes)
            share = max(2, len(queue) // kin)
            more = [queue.popleft() for _ in range(min(AHEAD - len(pending), len(queue), share))]
            pending += more
            node.send_runtest_some(more)
        if not queue:
            node.shutdown()

    def _put_back(self, index: int) -> None:
        assert self.collection is not None
        self._queues[self._needs(self.collection[index])].appendleft(index)


def make_scheduler(config: Any, log: Any, names: Iterable[str]) -> Any:
    """Return the scheduler of a run whose filesystems `names` are in guests only."""
    import pytest
    from xdist.report import report_collection_diff  # type: ignore[import-untyped]
    from xdist.workermanage import parse_tx_spec_config  # type: ignore[import-untyped]

    from pytest_linkmode.guests.uml import GATEWAY

    specs = parse_tx_spec_config(config)
    guests = sum(GATEWAY in spec for spec in specs)
    if guests == len(specs):
        return None  # there is nothing to choose

    def differ(one: Node, other: Node, its: Sequence[str], others: Sequence[str]) -> None:
        said = report_collection_diff(its, others, one.gateway.id, other.gateway.id)
        log(said)
        report = pytest.CollectReport(
            nodeid=other.gateway.id, outcome="failed", longrepr=said, result=[]
        )
        config.hook.pytest_collectreport(report=report)

    return GuestScheduling(
        len(specs),
        needs_guest(names),
        lambda node: GATEWAY in str(node.gateway.spec.python or ""),
        differ,
    )
