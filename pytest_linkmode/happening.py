"""What becomes of a tree by the policy of a system that is modelled, in a layout and under faults.

The reference linker links it there, with the faults in its own calls; every edge that it takes is
noted, and what became of the files is read back from the disk.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from linker import LinkError, link_tree
from linker.choices import forget_process
from linker.modes import LinkMode
from linker.policy import Policy
from linker.report import LinkReport, Transition
from pytest_linkmode.evidence import evidence_tree
from pytest_linkmode.faults.inprocess import Injection
from pytest_linkmode.faults.linking import faulty
from pytest_linkmode.faults.spec import Spec
from pytest_linkmode.layouts import Layout


@dataclass
class Happening:
    """What the reference linker did as a system that is modelled, and what the disk says of it.

    `found` counts files by what they became, `missing` are those of the source that the target
    lacks, `left` what it has beside them. `ended` is "done", "failed" or "killed".
    """

    policy: str
    layout: str
    requested: LinkMode
    faults: tuple[str, ...]
    ended: str = "done"
    found: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    transitions: list[Transition] = field(default_factory=list)
    fired: int = 0
    error: str = ""
    left: tuple[str, ...] = ()

    def transition(self, transition: Transition) -> None:
        """Take note of an edge that was taken."""
        self.transitions.append(transition)

    def linked(self, report: LinkReport) -> None:
        """Do nothing: the disk is asked."""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it: ``linkmode-happening``, version 1."""
        return {
            "format": "linkmode-happening",
            "version": 1,
            "policy": self.policy,
            "layout": self.layout,
            "requested": self.requested.value,
            "faults": list(self.faults),
            "fired": self.fired,
            "ended": self.ended,
            "files": self.found,
            "missing": self.missing,
            "edges": [
                {
                    "id": each.edge.id,
                    "then": str(each.edge.then),
                    "path": each.path,
                    "error": str(each.error) if each.error else None,
                    "scope": str(each.scope),
                    "proof": each.proof,
                }
                for each in self.transitions
            ],
            "error": self.error or None,
            "left": list(self.left),
        }


def happening(
    policy: Policy,
    layout: Layout,
    mode: LinkMode,
    faults: Sequence[Spec] = (),
    *,
    strict: bool = False,
) -> Happening:
    """Link the source of a layout by a policy, with faults in the linker's calls, and look.

    The source must be filled. What is remembered for the whole process is forgotten before; with
    `strict`, every fallback is an error.
    """
    seen = Happening(policy.name, layout.name, mode, tuple(map(str, faults)), ended="killed")
    layout.seal()
    forget_process()
    with (
        Injection(faults, standing_in=False) as injection,
        layout.acting(),
        faulty(injection) as platform,
    ):
        try:
            link_tree(
                layout.source,
                layout.target,
                mode=mode,
                policy=policy,
                platform=platform,
                observer=seen,
                strict=strict,
            )
        except LinkError as error:
            seen.ended, seen.error, seen.left = "failed", str(error), error.left
        else:
            seen.ended = "done"
    seen.fired = sum(injection.fired.values())
    counted: Counter[str] = Counter()
    strangers = []
    for one in evidence_tree(layout.source, layout.target):
        if one.source is None:
            strangers.append(one.path)
        elif stat.S_ISREG(one.source.st_mode):
            if one.target is None:
                seen.missing += 1
            else:
                counted[one.evidence.found] += 1
    seen.found = dict(counted.most_common())
    if seen.ended == "killed":
        seen.left = tuple(strangers)
    return seen
