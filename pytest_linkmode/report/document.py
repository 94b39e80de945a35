"""A report as plain data: one run or many, the policy they speak of, and what they verify together.

Every form of the report but that of the terminal is made from this. A report of one machine and
one of a whole matrix have the same shape, `docs/report-schema.md` says which, so that what reads
the one reads the other.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from linker.policy import Edge, Policy
from pytest_linkmode.coverage import PROOFS, Outcome, Trial, best
from pytest_linkmode.errors import UsageError
from pytest_linkmode.report.checking import wrong
from pytest_linkmode.report.model import Cell, Line, Verdict

NAME = "pytest-linkmode"
VERSION = 1
SCHEMA = f"{NAME}/{VERSION}"

Document = dict[str, Any]
"""A whole report."""
Run = dict[str, Any]
"""One run of pytest on one machine."""

TOLD = frozenset({Outcome.FAILED, Outcome.ERROR, Outcome.CRASHED})
"""Outcomes whose tests are listed as failures; pytest lets others turn no run red."""

INTERRUPTED = 2
"""pytest's exit status of a run that was stopped from outside."""

ANY_MODE = "any"
"""The column of tests that do not vary the link mode."""
_WRITTEN = "name a file that `pytest --linkmode-report=NAME.json` has written"


def document(verdict: Verdict) -> Document:
    """Return the report of one run."""
    return joined([run_of(verdict)], policy_of(verdict.policy))


def joined(runs: Iterable[Run], policy: Mapping[str, Any]) -> Document:
    """Return the report of runs whose names differ, in the order of their names."""
    ordered = sorted(runs, key=lambda run: run["name"])
    return {
        "schema": SCHEMA,
        "made_by": f"{NAME} {version(NAME)}",
        "ok": all(run["ok"] for run in ordered),
        "policy": dict(policy),
        "union": union(ordered, policy),
        "runs": ordered,
    }


def union(runs: Sequence[Run], policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs verify together: for each edge the best proof, and what each run gives."""
    known = [edge["id"] for edge in policy["edges"]]
    taken = dict.fromkeys(edge for run in runs for edge in run["edges"])
    found = {edge: _together(edge, runs) for edge in dict.fromkeys([*known, *taken])}
    proofs = [found[edge]["proof"] for edge in known]
    return {
        "edges": {edge: found[edge] for edge in known},
        "unknown_edges": {edge: found[edge] for edge in taken if edge not in set(known)},
        "total": len(known),
        "verified": sum(proof is not None for proof in proofs),
        "proofs": {proof: proofs.count(proof) for proof in PROOFS if proof in proofs},
    }


def _together(edge: str, runs: Sequence[Run]) -> dict[str, Any]:
    given = {run["name"]: run["edges"][edge] for run in runs if edge in run["edges"]}
    return {
        "proof": best(proof for proofs in given.values() for proof in proofs) or None,
        "tests": sum(len(set().union(*proofs.values())) for proofs in given.values()),
        "runs": {name: best(proofs) for name, proofs in given.items()},
    }


def policy_of(policy: Policy) -> dict[str, Any]:
    """Return a fallback graph: its name, where it was read, and all of its edges."""
    return {
        "name": policy.name,
        "source": policy.source,
        "edges": [_edge(edge) for edge in policy.edges],
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "id": edge.id,
        "platform": edge.platform,
        "mode": edge.mode.value if edge.mode else None,
        "primitive": str(edge.primitive),
        "condition": str(edge.condition),
        "state": str(edge.state),
        "then": str(edge.then),
        "otherwise": str(edge.otherwise) if str(edge.then) == "retry" else None,
    }


def run_of(verdict: Verdict) -> Run:
    """Return one run, under a name that tells it from those of other machines."""
    where = verdict.circumstances
    machine = where.machine
    words = (verdict.platform, machine.get("architecture", ""), machine.get("python", ""))
    indices: dict[str, int] = {}
    for index, trial in enumerate(verdict.trials):
        indices.setdefault(trial.test, index)
    lines = (*verdict.lines, *verdict.elsewhere, *verdict.unknown)
    return {
        "name": " ".join(filter(None, words)),
        "platform": verdict.platform,
        "machine": dict(machine),
        "other_machines": {name: dict(facts) for name, facts in verdict.machines.items()},
        "place": verdict.place,
        "options": list(verdict.typed),
        "started": where.started,
        "seconds": round(where.seconds, 3),
        "exit_status": where.exit_status,
        "ok": where.exit_status == 0 and not (verdict.failures or verdict.idle),
        "guards": list(verdict.failures),
        "outcomes": _counts(verdict.outcomes),
        "capabilities": dict(verdict.capabilities),
        "layouts": {
            layout: {
                "modes": {mode or ANY_MODE: _cell(cell) for mode, cell in row.items()},
                "skipped": dict(verdict.skipped.get(layout, {})),
            }
            for layout, row in verdict.cells.items()
        },
        "tests": [_test(trial) for trial in verdict.trials],
        "edges": {line.edge: _proofs(line, indices) for line in lines if line.proofs},
        "failures": [
            _failed(trial, verdict.replaying) for trial in verdict.trials if trial.outcome in TOLD
        ],
        "summaries": {trial.test: list(trial.said) for trial in verdict.trials if trial.said},
        "deselected": dict(verdict.deselected),
        "unavailable": dict(verdict.unavailable),
        "notes": list(verdict.notes),
    }


def nothing_ran(run: Run) -> bool:
    """Whether a run is not green because none of its tests was executed."""
    executed = any(run["outcomes"].get(str(each)) for each in Outcome if each.executed)
    return not (run["ok"] or executed)


def _counts(counts: Mapping[Any, int]) -> dict[str, int]:
    return {str(outcome): number for outcome, number in sorted(counts.items())}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "outcomes": _counts(cell.outcomes),
        "evidence": _counts(cell.evidence),
        "seconds": round(cell.seconds, 3),
    }


def _test(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.test,
        "layout": trial.layout or None,
        "mode": trial.mode or None,
        "outcome": str(trial.outcome),
        "seconds": round(trial.seconds, 4),
        "process": trial.process or None,
    }


def _proofs(line: Line, indices: Mapping[str, int]) -> dict[str, list[int]]:
    return {
        proof: sorted(indices[test] for test in tests)
        for proof, tests in sorted(line.proofs.items())
    }


def _failed(trial: Trial, replaying: Callable[[Iterable[str]], tuple[str, ...]]) -> dict[str, Any]:
    options = shlex.join(replaying(filter(None, [trial.layout])))
    return {
        "test": trial.test,
        "outcome": str(trial.outcome),
        "layout": trial.layout or None,
        "mode": trial.mode or None,
        "cases": [
            {
                "where": each.where,
                "text": each.text,
                "replay": [f"{options} {line}".lstrip() for line in each.replay],
            }
            for each in trial.failures
        ],
    }


def load(path: str) -> Document:
    """Read a report. Raises UsageError for what is none, or is newer than this program knows."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot read {path}", why=why, hint=_WRITTEN) from None
    except ValueError as error:
        why = f"it is not JSON: {error}"
        raise UsageError(f"{path} is no report", why=why, hint=_WRITTEN) from None
    schema = found.get("schema") if isinstance(found, dict) else None
    name, _, number = str(schema).partition("/")
    if name != NAME or not number.isdecimal():
        hint = f"give files that --linkmode-report=NAME.json wrote ({SCHEMA})"
        raise UsageError(f"{path} is no report", why=f"its schema is {schema!r}", hint=hint)
    if int(number) != VERSION:
        raise UsageError(
            f"cannot read {path}",
            why=f"it was written as {schema} by {found.get('made_by', 'another version')}, and "
            f"this is {NAME} {version(NAME)}, which reads {SCHEMA}",
            hint=f"upgrade {NAME} here" if int(number) > VERSION else f"use the same {NAME} there",
        )
    if why := wrong(found) or _astray(found["runs"]):
        raise UsageError(f"{path} is damaged", why=why, hint="write it anew")
    return joined(found["runs"], found["policy"])


def _astray(runs: Sequence[Run]) -> str:
    """Return in words what no schema can say: an edge by a proof or a test that there is not."""
    for run in runs:
        for edge, proofs in run["edges"].items():
            for proof, tests in proofs.items():
                if proof not in PROOFS or max(tests, default=-1) >= len(run["tests"]):
                    return f"{run['name']} has no such {proof} proof of {edge}: {tests}"
    return ""
