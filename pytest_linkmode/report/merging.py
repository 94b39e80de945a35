"""Many reports as one: the jobs of a matrix, on Linux, macOS, Windows and in guests.

The result depends on what is in the reports and on how they are called, not on the order in which
they are named. What cannot be told apart, or speaks of another policy, is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from pytest_linkmode.errors import UsageError
from pytest_linkmode.report.document import Document, Run, joined


def merge(reports: Mapping[str, Document]) -> Document:
    """Return one report of all that `reports` have, which are called by their keys.

    A report of one run gives it its name; the runs of a merged one keep theirs. Raises UsageError
    for a run that is there twice, for two of one name, and for different policies.
    """
    runs: dict[str, Run] = {}
    seen: dict[str, str] = {}
    policies: dict[str, str] = {}
    for name, report in reports.items():
        policies.setdefault(_canonical(report["policy"]), name)
        if len(policies) > 1:
            first, other = policies.values()
            ours, theirs = (reports[each]["policy"]["name"] for each in (first, other))
            raise UsageError(
                f"{first} and {other} speak of different policies",
                why=f"{ours} and {theirs}"
                if ours != theirs
                else f"{ours} has other edges in one than in the other",
                hint="merge the runs of one --linkmode-policy and one version of its graph",
            )
        for run in report["runs"]:
            own = name if len(report["runs"]) == 1 else run["name"]
            content = _canonical({**run, "name": ""})
            if content in seen:
                raise UsageError(
                    f"one run is there twice, as {seen[content]} and as {own}",
                    hint="name each report once",
                )
            if own in runs:
                raise UsageError(
                    f"two different runs are called {own}", hint="name one: OTHER=PATH"
                )
            seen[content] = own
            runs[own] = {**run, "name": own}
    first_report = next(iter(reports.values()))
    return joined(runs.values(), first_report["policy"])


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def labels(paths: Sequence[str]) -> list[str]:
    """Return a short name for each path: what is left of it without what all have in common.

    ``reports/linux/r.json`` and ``reports/macos/r.json`` are ``linux`` and ``macos``.
    """
    split = [os.path.splitext(os.path.normpath(path))[0].split(os.sep) for path in paths]
    if len(set(map(tuple, split))) < 2:
        return [words[-1] for words in split]
    while all(len(words) > 1 for words in split) and len({words[0] for words in split}) == 1:
        split = [words[1:] for words in split]
    while all(len(words) > 1 for words in split) and len({words[-1] for words in split}) == 1:
        split = [words[:-1] for words in split]
    return ["/".join(words) for words in split]
