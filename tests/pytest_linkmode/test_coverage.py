"""What recorders hear, reports carry and ledgers merge; only tests that passed verify anything."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from linker.policies import REFERENCE
from linker.report import LinkReport, Transition
from pytest_linkmode.coverage import PLATFORM, Ledger, Outcome, Recorder, best
from pytest_linkmode.faults import Fault
from pytest_linkmode.faults.inprocess import Injection
from tests.pytest_linkmode.places import ACROSS, DIRECTORIES

Run = Callable[..., pytest.RunResult]

ELSEWHERE = "windows" if PLATFORM != "windows" else "linux"
EDGE, OTHER, THIRD = REFERENCE.of(PLATFORM)[:3]


def data(**changes: Any) -> dict[str, Any]:
    recorder = Recorder("btrfs:tmpfs", "clone", frozenset({"cross-device"}))
    recorder.transition(Transition(EDGE, "a", None))
    return {**recorder.plain(), **changes}


def ledger_of(*phases: tuple[str, str], **keywords: Any) -> Ledger:
    ledger = Ledger()
    for when, outcome in phases:
        ledger.add("test_it", when, outcome, data=data(), **keywords)
    return ledger


def only(ledger: Ledger) -> Outcome:
    (trial,) = ledger
    return trial.outcome


def test_a_recorder_hears_each_edge_once_with_its_proof() -> None:
    recorder = Recorder()
    for proof in ("real", "injected", "real"):
        recorder.transition(Transition(EDGE, "a", None, proof=proof))
    recorder.linked(LinkReport(REFERENCE.default, {}, ()))
    assert recorder.plain()["edges"] == [[EDGE.id, "real"], [EDGE.id, "injected"]]


def test_what_a_recorder_says_is_plain_data() -> None:
    assert json.loads(json.dumps(data())) == data()


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ((("setup", "passed"), ("call", "passed"), ("teardown", "passed")), Outcome.PASSED),
        ((("setup", "passed"), ("call", "failed"), ("teardown", "passed")), Outcome.FAILED),
        ((("setup", "passed"), ("call", "passed"), ("teardown", "failed")), Outcome.FAILED),
        ((("setup", "failed"), ("teardown", "passed")), Outcome.ERROR),
        ((("setup", "skipped"), ("teardown", "passed")), Outcome.SKIPPED),
        ((("setup", "passed"), ("call", "skipped"), ("teardown", "passed")), Outcome.SKIPPED),
        ((("setup", "passed"),), Outcome.CRASHED),
        ((("setup", "passed"), ("???", "failed")), Outcome.CRASHED),
        ((("setup", "passed"), ("subtest", "failed"), ("call", "passed")), Outcome.FAILED),
        ((("setup", "passed"), ("subtest", "passed"), ("call", "passed")), Outcome.PASSED),
    ],
)
def test_a_test_is_judged_by_all_of_its_phases(
    phases: tuple[tuple[str, str], ...], outcome: Outcome
) -> None:
    assert only(ledger_of(*phases)) is outcome


def test_an_expected_failure_is_neither_passed_nor_skipped() -> None:
    failed = (("setup", "passed"), ("call", "skipped"))
    passed = (("setup", "passed"), ("call", "passed"))
    assert only(ledger_of(*failed, xfail=True)) is Outcome.XFAILED
    assert only(ledger_of(*passed, xfail=True)) is Outcome.XPASSED
    assert not Outcome.XFAILED.executed
    assert Outcome.XPASSED.executed


def test_a_skip_for_a_lacking_capability_counts_apart() -> None:
    ledger = Ledger()
    ledger.add("test_it", "setup", "skipped", data=data(not_applicable="no reflink"))
    (trial,) = ledger
    assert trial.outcome is Outcome.NOT_APPLICABLE
    assert trial.reason == "no reflink"


def test_only_a_test_that_passed_verifies_its_edges() -> None:
    passed = ledger_of(("setup", "passed"), ("call", "passed"))
    assert passed.edges() == {EDGE.id: {"real": ["test_it"]}}
    for outcome in ("failed", "skipped"):
        assert ledger_of(("setup", "passed"), ("call", outcome)).edges() == {}
    assert ledger_of(("setup", "passed"), ("call", "passed"), ("teardown", "failed")).edges() == {}
    assert ledger_of(("setup", "passed")).edges() == {}


def test_a_test_that_is_run_again_counts_once() -> None:
    ledger = ledger_of(
        ("setup", "passed"),
        ("call", "rerun"),
        ("setup", "passed"),
        ("call", "passed"),
        ("teardown", "passed"),
    )
    assert only(ledger) is Outcome.PASSED


def test_a_test_that_runs_in_several_processes_counts_in_each() -> None:
    ledger = Ledger()
    for process, outcome in (("gw0", "passed"), ("gw1", "failed")):
        ledger.add("test_it", "setup", "passed", data=data(), process=process)
        ledger.add("test_it", "call", outcome, data=data(), process=process)
    assert ledger.outcomes == {Outcome.PASSED: 1, Outcome.FAILED: 1}


def test_a_test_that_uses_nothing_of_ours_is_not_entered() -> None:
    ledger = Ledger()
    ledger.add("test_it", "setup", "passed")
    ledger.add("test_it", "call", "passed")
    assert not list(ledger)


def test_workers_that_say_the_same_are_merged_into_one() -> None:
    ledger = Ledger()
    said = {
        "deselected": {"test_it[ext4]": "no reflink there"},
        "unavailable": {"xfs": "no mkfs.xfs"},
        "notes": ["a note"],
        "machines": {"gw0": {"kernel": "another"}},
        "used": True,
    }
    for _ in range(2):
        ledger.merge(json.loads(json.dumps(said)))
    assert ledger.plain() == said


def test_a_capability_is_executed_only_in_the_mode_that_uses_it() -> None:
    def on(capability: str, mode: str, *can: str, outcome: str = "passed") -> bool:
        ledger = Ledger()
        for when, ended in (("setup", "passed"), ("call", outcome)):
            ledger.add("test_it", when, ended, data=data(mode=mode, can=can))
        (trial,) = ledger
        return trial.on(capability)

    assert on("reflink", "clone", "reflink")
    assert on("reflink", "", "reflink")
    assert on("reflink", "clone", "reflink", outcome="failed")
    assert on("cross-device", "copy", "cross-device")
    assert not on("reflink", "copy", "reflink")
    assert not on("reflink", "clone", "hardlink")
    assert not on("reflink", "clone", "reflink", outcome="skipped")


def test_the_strongest_proof_comes_first() -> None:
    assert best(["modelled", "real", "injected"]) == "real"
    assert best(["modelled", "injected"]) == "injected"
    assert best(["of another kind"]) == "of another kind"
    assert best([]) == ""


def test_edges_are_collected_while_a_test_of_ours_runs_and_from_no_other(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        from linker import LinkMode, link_tree

        def link(source, target):
            (source / "a").write_bytes(b"a" * 5000)
            (source / "b").write_bytes(b"b" * 5000)
            link_tree(source, target, mode=LinkMode.HARDLINK)

        def test_ours(linkmode_layout):
            link(linkmode_layout.source, linkmode_layout.target)

        def test_fails(linkmode_layout):
            link(linkmode_layout.source, linkmode_layout.target / "below")
            assert False

        def test_not_ours(tmp_path):
            (tmp_path / "source").mkdir()
            (tmp_path / "source" / "file").touch()
            link_tree(tmp_path / "source", tmp_path / "target", mode=LinkMode.COPY)
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "passed    tests",
            "disk      1, 1 failed",
            f"{ACROSS}  1, 1 failed",
            "edges of reference on linux: 1 of * verified (1 %): 1 real",
            "  linux/hardlink/hardlink/cross-device -> copy  real, 1 test",
        ]
    )


def test_an_edge_of_another_policy_is_told_of(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from linker import LinkMode, link_tree, policies

        def test_it(linkmode_layout):
            (linkmode_layout.source / "a").write_bytes(b"a" * 5000)
            link_tree(linkmode_layout.source, linkmode_layout.target,
                      mode=LinkMode.HARDLINK, policy=policies.UV)
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["  linux/*/initial  taken, but not an edge of reference"])
    result = inside(*DIRECTORIES, "--linkmode-policy=uv")
    result.stdout.fnmatch_lines(["edges of uv on linux: 1 of * verified *"])


def test_the_policy_of_the_run_is_that_of_expectations(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        tables="""
        from linker.conditions import Condition, Primitive
        from linker.modes import LinkMode
        from linker.policy import Policy, edges

        SHARING = Policy(
            "sharing",
            edges("linux", LinkMode.HARDLINK, Primitive.HARDLINK,
                  [Condition.CROSS_DEVICE], LinkMode.SYMLINK),
            source="a test",
        )
        """,
        test_it="""
        from linker import LinkMode, policies

        def test_it(linkmode_layout):
            mode = linkmode_layout.expect(LinkMode.HARDLINK)
            across = linkmode_layout.name == "disk:shm"
            assert mode is (LinkMode.SYMLINK if across else LinkMode.HARDLINK)
            if across:
                reference = linkmode_layout.expect(LinkMode.HARDLINK, policies.REFERENCE)
                assert reference is LinkMode.COPY
        """.replace("disk:shm", ACROSS),
    )
    pytester.syspathinsert()
    inside(*DIRECTORIES, "--linkmode-policy=tables:SHARING").assert_outcomes(passed=2)


def test_what_comes_of_a_fault_is_not_real_and_what_came_before_it_is(
    tmp_path: pathlib.Path,
) -> None:
    recorder = Recorder()
    with Injection([Fault("mkdir", "EIO")]):
        recorder.transition(Transition(EDGE, "file", None))
        with pytest.raises(OSError, match="new"):
            os.mkdir(tmp_path / "new")
        recorder.transition(Transition(OTHER, "file", None))
    recorder.transition(Transition(THIRD, "file", None))
    assert list(recorder.edges) == [
        (EDGE.id, "real"),
        (OTHER.id, "injected"),
        (THIRD.id, "real"),
    ]


def test_an_edge_of_another_platform_is_modelled_at_best() -> None:
    recorder = Recorder()
    here, there = (REFERENCE.of(name)[0] for name in (PLATFORM, ELSEWHERE))
    for proof in ("real", "injected"):
        recorder.transition(Transition(here, "file", None, proof=proof))
        recorder.transition(Transition(there, "file", None, proof=proof))
    assert set(recorder.edges) == {
        (here.id, "real"),
        (here.id, "injected"),
        (there.id, "modelled"),
    }
