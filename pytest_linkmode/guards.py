"""A verdict that cannot be vacuous: what fails a run although no test of it failed.

Each guard looks at the settings and the merged ledger, and says in one sentence what was asked
for and did not happen. "All skipped" is not green.
"""

from __future__ import annotations

from collections.abc import Iterator

from pytest_linkmode.config import Settings
from pytest_linkmode.coverage import MODE_OF_CAPABILITY, Ledger, Outcome


def unmet(
    settings: Settings, ledger: Ledger, *, verified: int, edges: int, narrowed: bool
) -> tuple[str, ...]:
    """Return one sentence for each request that this run did not honour.

    `verified` of the policy's `edges` were verified. `narrowed` says that the user named single
    files or tests to run, and typed no filesystem beside them: then an ini file that asks for
    some on behalf of the whole suite does not speak of this run, unless a test of it uses them.
    """
    sentences = [*_not_replayed(settings, ledger)]
    sentences = sentences or [*_vacuous(settings, ledger, narrowed=narrowed)]
    sentences += [
        f"--linkmode-require={capability}: no test was executed on it ({_near(ledger, capability)})"
        for capability in settings.require
        if not any(trial.on(capability) for trial in ledger)
    ]
    if settings.fail_under is not None:
        share = 100 * verified / edges if edges else 0.0
        if share < settings.fail_under:
            sentences.append(
                f"--linkmode-fail-under={settings.fail_under:g}: {verified} of {edges} edges "
                f"were verified, that is {share:.1f} %"
            )
    return tuple(sentences)


def _vacuous(settings: Settings, ledger: Ledger, *, narrowed: bool) -> Iterator[str]:
    """Yield what is to be said of a run in which nothing came to a result.

    Where filesystems or layouts were asked for, some test must have run there. Whatever else was
    asked for: tests that use it may be missing or not applicable, but not all skipped. A run
    without a single setting of ours belongs to somebody who may only have the plugin installed.
    """
    if any(trial.outcome.executed for trial in ledger):
        return
    if settings.tmp:
        if not (ledger.ran or narrowed):
            (asked,) = settings.typed("tmp")
            yield f"{asked}: no test was executed, with tmp_path there or without"
    elif settings.asks_for_filesystems:
        if ledger.used or not narrowed:
            asked = " ".join(settings.typed("fs", "layout"))
            yield f"{asked}: no test ran on what was asked for ({happened(ledger)})"
    elif settings.require:
        return  # each of these is unmet, and says so
    elif settings.is_asked and any(t.outcome is not Outcome.NOT_APPLICABLE for t in ledger):
        asked = " ".join(settings.typed())
        yield (
            f"{asked}: no test that uses fixtures of linkmode came to a result "
            f"({happened(ledger)}); why, their reasons say, and what is missing `linkmode doctor`"
        )


def _not_replayed(settings: Settings, ledger: Ledger) -> Iterator[str]:
    """Yield what is to be said of a case to replay that no test could be about."""
    if settings.is_asking("fault", "schedule") and not any(trial.said for trial in ledger):
        asked = " ".join(settings.typed("fault", "schedule"))
        yield (
            f"{asked}: no test that ran sweeps or explores, so nothing was replayed "
            f"({happened(ledger)}); name the test beside it, as the failure does"
        )
    missed: set[str] = set().union(*(trial.missed for trial in ledger))
    for line in sorted(missed.difference(*(trial.met for trial in ledger))):
        yield (
            f"--linkmode-fault={line}: met no call, so nothing was replayed: the program makes "
            "other calls by now, or the case is one of another test; name that, or sweep anew"
        )


def happened(ledger: Ledger) -> str:
    """Return in a few words what became of the tests that use our fixtures."""
    counts = [f"{count} {outcome}" for outcome, count in sorted(ledger.outcomes.items())]
    if ledger.deselected:
        counts.append(f"{len(ledger.deselected)} deselected")
    if counts:
        return ", ".join(counts)
    if ledger.used:
        return "none of the tests that use them was run"
    return "no test that was left to run uses linkmode_fs or linkmode_layout"


def _near(ledger: Ledger, capability: str) -> str:
    """Return how close the run came: most often it is a matter of one word."""
    having = [trial for trial in ledger if capability in trial.can]
    executed = sum(trial.outcome.executed for trial in having)
    words = happened(ledger)
    if executed:
        mode = MODE_OF_CAPABILITY[capability]
        return f"{executed} ran where it can be had, but not in mode {mode}; in all: {words}"
    if having:
        return f"{len(having)} had it, but came to no result; in all: {words}"
    return words
