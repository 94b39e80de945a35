"""Tests that need a guest go to one, the others do not, and none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from pytest_linkmode.guests.scheduling import AHEAD, GuestScheduling, Node, needs_guest


class Worker:
    """What xdist knows of a worker, as far as a scheduler is concerned."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.known: list[int] = []
        self.ran: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        assert not self.shutting_down
        self.known += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def ready(self) -> bool:
        """A worker runs a test when it knows the next, or that there is none."""
        return len(self.known) > (0 if self.shutting_down else 1)


TESTS = [
    *(f"test_a.py::test_it[btrfs-{mode}]" for mode in ("clone", "hardlink", "symlink", "copy")),
    *(f"test_a.py::test_it[tmpfs:disk-{number}]" for number in range(20)),
    *(f"test_b.py::test_it[xfs:btrfs-{number}]" for number in range(20)),
]
ON_GUESTS = {index for index, test in enumerate(TESTS) if "btrfs" in test}


def differ(one: Node, other: Node, its: Sequence[str], others: Sequence[str]) -> None:
    raise AssertionError("they collected the same")


def start(*workers: Worker) -> GuestScheduling:
    scheduling = GuestScheduling(
        len(workers), needs_guest({"btrfs"}), lambda node: "guest" in node.gateway.id, differ
    )
    for worker in workers:
        scheduling.add_node(worker)
    for worker in workers:
        assert not scheduling.collection_is_completed
        scheduling.add_node_collection(worker, TESTS)
    assert scheduling.collection_is_completed
    scheduling.schedule()
    return scheduling


def finish(scheduling: GuestScheduling, workers: Sequence[Worker]) -> None:
    while any(worker.ready for worker in workers):
        for worker in workers:
            if worker.ready:
                index = worker.known.pop(0)
                worker.ran.append(index)
                scheduling.mark_test_complete(worker, index)
                assert len(worker.known) <= AHEAD
    assert scheduling.tests_finished
    assert not scheduling.has_pending


@pytest.mark.parametrize("guests", [1, 2])
@pytest.mark.parametrize("hosts", [1, 3])
def test_every_test_runs_once_and_where_it_must(guests: int, hosts: int) -> None:
    inside = [Worker(f"guest{number}") for number in range(guests)]
    outside = [Worker(f"host{number}") for number in range(hosts)]
    workers = [*inside, *outside]
    finish(start(*workers), workers)
    assert sorted(index for worker in inside for index in worker.ran) == sorted(ON_GUESTS)
    assert sorted(index for worker in workers for index in worker.ran) == list(range(len(TESTS)))
    assert all(worker.ran for worker in workers), "each had a share"


def test_a_worker_that_ends_early_does_not_keep_the_run_from_ending() -> None:
    inside, outside = Worker("guest"), Worker("host")
    scheduling = start(inside, outside)
    while outside.ready:
        index = outside.known.pop(0)
        scheduling.mark_test_complete(outside, index)
    assert scheduling.remove_node(outside) is None
    finish(scheduling, [inside])
    assert set(inside.ran) == ON_GUESTS


def test_what_a_guest_leaves_when_it_dies_is_run_by_the_next() -> None:
    inside, outside = Worker("guest"), Worker("host")
    scheduling = start(inside, outside)
    assert scheduling.remove_node(inside) == TESTS[0], "the one that it died of"
    another = Worker("guest again")
    scheduling.add_node(another)
    scheduling.add_node_collection(another, TESTS)
    scheduling.schedule()
    finish(scheduling, [another, outside])
    assert set(another.ran) == ON_GUESTS - {0}
    assert not set(outside.ran) & ON_GUESTS


@pytest.mark.parametrize(
    ("nodeid", "needs"),
    [
        ("test_a.py::test[btrfs-clone]", True),
        ("test_a.py::test[btrfs]", True),
        ("test_a.py::test[tmpfs:btrfs-clone]", True),
        ("test_a.py::test[btrfs+subvolume-clone]", True),
        ("test_a.py::test[theirs-btrfs:tmpfs-clone]", True),
        ("test_a.py::test[xfs-clone]", False),
        ("test_a.py::test[notbtrfs-clone]", False),
        ("test_a.py::test[btrfsx-clone]", False),
        ("test_btrfs.py::test_btrfs", False),
        ("test_btrfs.py::test_btrfs[tmpfs]", False),
    ],
)
def test_it_is_the_parameters_that_tell(nodeid: str, needs: bool) -> None:  # noqa: FBT001
    assert needs_guest({"btrfs"})(nodeid) is needs
