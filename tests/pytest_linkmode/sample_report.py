"""A report with everything in it that a reader of reports must cope with."""

from __future__ import annotations

from typing import Any
from unittest import mock

from linker.policies import REFERENCE
from linker.policy import Policy
from linker.report import Transition
from pytest_linkmode import coverage
from pytest_linkmode.config import Settings
from pytest_linkmode.coverage import Failure, Ledger, Recorder
from pytest_linkmode.report.document import Document, document
from pytest_linkmode.report.model import Circumstances, verdict

EVIL = "test_<script>alert('x')</script>&\"[\x1b[31m\udc80-é]"
PROOFS = ("real", "injected", "modelled")
MANY = 40
LONG = "long" * 100
REPLAY = "--linkmode-fault='hardlink:EXDEV:path=*/<b>'"


on_linux = mock.patch.object(coverage, "PLATFORM", "linux")
"""Wherever the test runs, the edges that are told of were taken on their own system."""


@on_linux
def report(kernel: str = "Linux 6.18") -> Document:
    """A report with everything in it: proofs of each kind, failures, many tests, odd names."""
    ledger = Ledger()

    def enter(test: str, mode: str, *phases: str, edges: int = 0, **more: object) -> None:
        recorder = Recorder("btrfs:tmpfs", mode, frozenset({"cross-device"}))
        recorder.evidence["different filesystems"] = 12
        for number, edge in enumerate(REFERENCE.edges[:edges]):
            proof = PROOFS[number % len(PROOFS)]
            recorder.transition(Transition(edge, "file", None, proof=proof))
        for when, outcome in zip(("setup", "call"), phases, strict=False):
            ledger.add(test, when, outcome, data=recorder.plain(), seconds=0.01, **more)  # type: ignore[arg-type]

    for number in range(MANY):
        enter(f"test_many[{number}]", "clone", "passed", "passed", edges=1)
    enter(EVIL, "copy", "passed", "passed", edges=12, said=["swept 3 cases of <i>ln</i>"])
    failure = Failure("hardlink:EXDEV", "def test():\nE   assert <b>1 == 2", (REPLAY,))
    enter(f"red_{EVIL}", "hardlink", "passed", "failed", failure=failure)
    long = Failure("call", f"E   AssertionError: {LONG}")
    enter(f"test_{LONG}", "symlink", "passed", "failed", failure=long)
    enter("test_skip", "", "skipped", reason="no <mkfs>\nmany words")
    odd = Recorder("btrfs", "clone")
    odd.edges["linux/clone/clone-file/<odd>", "real"] = None
    for when in ("setup", "call"):
        ledger.add("test_odd", when, "passed", data=odd.plain())
    ledger.deselected["test_<ext4>"] = "no <reflink> there"
    ledger.notes["a <note>"] = None
    made = verdict(
        Settings(),
        ledger,
        REFERENCE,
        platform="linux",
        circumstances=Circumstances("2026-11-21T04:00:00Z", 12.5, 1, {"kernel": kernel}),
    )
    return document(made)


@on_linux
def report_of(
    *proofs: str, layout: str = "btrfs", outcome: str = "passed", policy: Policy = REFERENCE
) -> dict[str, Any]:
    """A report whose one test took the first edges of a policy, each by its proof if any."""
    ledger = Ledger()
    recorder = Recorder(layout, "clone", frozenset({"reflink"}))
    for edge, proof in zip(policy.edges, proofs, strict=False):
        if proof:
            recorder.transition(Transition(edge, "file", None, proof=proof))
    for when, ended in (("setup", "passed"), ("call", outcome)):
        ledger.add("test_it", when, ended, data=recorder.plain(), seconds=1)
    return document(verdict(Settings(), ledger, policy, platform="linux"))
