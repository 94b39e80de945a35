"""A verdict that cannot be vacuous: what fails a run although no test of it failed.

Each guard looks at the settings and the merged ledger, and says in one sentence what was asked
for and did not happen. "All skipped" is not green.
"""

from __future__ import annotations

from pytest_linkmode.config import Settings
from pytest_linkmode.coverage import MODE_OF_CAPABILITY, Ledger
from pytest_linkmode.options import COMMAND_LINE


def unmet(
    settings: Settings, ledger: Ledger, *, verified: int, edges: int, narrowed: bool
) -> tuple[str, ...]:
    """Return one sentence for each request that this run did not honour.

    `verified` of the policy's `edges` were verified. `narrowed` says that the user named single
    files or tests to run: then an ini file that asks for filesystems on behalf of the whole
    suite does not speak of this run, unless a test of it uses them.
    """
    sentences: list[str] = []
    if not _ran_what_was_asked(settings, ledger, narrowed=narrowed):
        asked = " ".join(settings.typed("fs", "layout"))
        sentences.append(f"{asked}: no test ran on what was asked for ({happened(ledger)})")
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


def _ran_what_was_asked(settings: Settings, ledger: Ledger, *, narrowed: bool) -> bool:
    if not settings.asks_for_filesystems or settings.tmp:
        return True
    if any(trial.outcome.executed for trial in ledger):
        return True
    typed = COMMAND_LINE in (settings.origins.get("fs"), settings.origins.get("layout"))
    return narrowed and not typed and not ledger.used


def happened(ledger: Ledger) -> str:
    """Return in a few words what became of the tests that use our fixtures."""
    counts = [f"{count} {outcome}" for outcome, count in sorted(ledger.outcomes.items())]
    if ledger.deselected:
        counts.append(f"{len(ledger.deselected)} deselected")
    if counts:
        return ", ".join(counts)
    if ledger.used:
        return "none of the tests that use them was run"
    return "no test that was collected uses linkmode_fs or linkmode_layout"


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
