"""The command: ``python -m scripts.mutation [MODULE ...]``.

Resumable: what a mutant came to is kept in a session file, by the text of its module, and not
found out a second time. The page is written from the session, for all modules.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = str(Path(__file__).resolve().parents[2])
sys.path[:] = [ROOT, *(path for path in sys.path if path not in ("", ROOT))]

from scripts.mutation import page  # noqa: E402
from scripts.mutation.making import mutants_of  # noqa: E402
from scripts.mutation.running import (  # noqa: E402
    BUDGET,
    Baseline,
    Ground,
    is_anew,
    load_baseline,
    measure,
    run_anew,
    run_inside,
)
from scripts.mutation.values import SURVIVED, Mutant, Verdict  # noqa: E402

FIRST: Mapping[str, tuple[str, ...]] = {
    "conditions": ("conditions", "policy", "facts", "choices", "uv_policy", "linux", "engine"),
    "policy": ("policy", "facts", "modelled_policies", "choices", "uv_policy", "engine", "rules"),
    "choices": ("choices", "modelled_policies", "uv_policy", "engine", "rules"),
    "failures": ("failures", "interrupted", "choices", "inputs", "engine", "rules"),
    "journal": (
        "stage",
        "journal",
        "shut_directories",
        "interrupted",
        "letters",
        "engine",
        "rules",
    ),
    "platforms/linux": ("linux", "refused_places", "shut_directories", "rules", "engine", "inputs"),
    "tree": (
        "tree",
        "letters",
        "scanning",
        "shut_directories",
        "inputs",
        "engine",
        "rules",
        "journal",
    ),
    "sources": ("refusals", "scanning", "rare_moments", "store", "engine", "inputs"),
    "inputs": ("refusals", "inputs", "rules", "store"),
    "staging": ("merging", "engine", "journal", "choices", "rules", "inputs"),
    "sharing": ("sharing", "rare_moments", "helping", "merging"),
    "merging": (
        "merging",
        "shut_directories",
        "letters",
        "sharing",
        "rare_moments",
        "links",
        "engine",
        "choices",
        "uv_policy",
        "rules",
        "inputs",
        "journal",
        "edges",
    ),
    "making": (
        "merging",
        "sharing",
        "helping",
        "rare_moments",
        "shut_directories",
        "choices",
        "engine",
        "uv_policy",
        "macos_cloning",
        "links",
        "journal",
    ),
    "engine": (
        "links",
        "shut_directories",
        "rare_moments",
        "merging",
        "interrupted",
        "engine",
        "helping",
        "sharing",
        "macos_cloning",
        "rules",
        "inputs",
        "journal",
    ),
}
"""module -> the files of tests that are most about it: they are tried first."""

FILES = (
    *("conditions", "policy", "facts", "failures", "modelled_policies", "choices", "uv_policy"),
    *("tree", "linux", "refusals", "stage", "journal", "rules", "engine", "merging", "inputs"),
    *(
        "links",
        "helping",
        "sharing",
        "scanning",
        "edges",
        "rare_moments",
        "macos_cloning",
        "pollution",
        "refused_places",
        "shut_directories",
        "interrupted",
        "letters",
        "store",
        "linker_cli",
    ),
)
"""The tests that run against mutants: those of the linker that take the same way every time and
work in this process. Kills, company, whole sweeps and random trees come on top in the real suite.
"""

SESSION = os.path.join(ROOT, ".tox", "mutation-session")


class Session:
    """The verdicts so far, a line of JSON each, and the baseline that belongs to these tests."""

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self._path = path
        self._file = os.path.join(path, "verdicts.jsonl")
        self.verdicts: dict[str, Verdict] = {}
        self.read()

    def read(self) -> None:
        """Take in what is in the file."""
        if os.path.exists(self._file):
            with open(self._file, encoding="utf-8") as file:
                for line in file:
                    record = json.loads(line)
                    key = record.pop("key")
                    self.verdicts[key] = Verdict(**record)

    def tell(self, mutant: Mutant, verdict: Verdict) -> None:
        """Keep a verdict; the last one of a mutant holds."""
        self.verdicts[mutant.key] = verdict
        with open(self._file, "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": mutant.key, **vars(verdict)}) + "\n")

    def baseline(self, files: Sequence[str], ground: Ground) -> Baseline:
        """Return what the tests execute, measured if linker or tests are others than then."""
        digest = hashlib.sha256()
        for directory in ("linker", "tests/linker"):
            for source in sorted(Path(ROOT, directory).rglob("*.py")):
                digest.update(source.read_bytes())
        path = os.path.join(self._path, f"baseline-{digest.hexdigest()[:16]}.json")
        if not os.path.exists(path):
            print("running the tests unmutated, to see what they execute", flush=True)
            measure(ROOT, files, ground, path)
        return load_baseline(path)


def path_of(module: str) -> str:
    """Return the file of a module as it is named on the command line."""
    return os.path.join(ROOT, "linker", f"{module}.py")


def test_files(names: Iterable[str]) -> list[str]:
    """Return paths of files of tests by their short names."""
    return [os.path.join(ROOT, "tests", "linker", f"test_{name}.py") for name in names]


def judge(mutants: Sequence[Mutant], session: Session, budget: float, ground: Ground) -> None:
    """Find out what becomes of each mutant, and keep it."""
    files = test_files(FILES)
    baseline = session.baseline(files, ground)
    began, count = time.monotonic(), 0
    anew = [mutant for mutant in mutants if is_anew(mutant, baseline)]
    others = set(map(id, anew))
    inside = [mutant for mutant in mutants if id(mutant) not in others]

    def tell(mutant: Mutant, verdict: Verdict) -> None:
        nonlocal count
        count += 1
        session.tell(mutant, verdict)
        if verdict.outcome != "killed" or count % 100 == 0:
            name = os.path.relpath(mutant.path, ROOT)
            print(
                f"{count}/{len(mutants)} {time.monotonic() - began:.0f} s  {verdict.outcome}"
                f" ({verdict.tests} tests, {verdict.seconds:.1f} s)"
                f"  {name}:{mutant.lines[-1]} {mutant.function}"
                f"\n    - {page.short(mutant.removed)}\n    + {page.short(mutant.added)}",
                flush=True,
            )

    def files_of(mutant: Mutant) -> list[str]:
        module = os.path.relpath(mutant.path, path_of("")[: -len(".py")]).removesuffix(".py")
        return test_files(FIRST[module])

    if inside:
        pid = os.fork()
        if pid == 0:  # this interpreter shall have no linker
            _end_with(lambda: run_inside(inside, baseline, files, budget, files_of, ground, tell))
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("the tests could not be run against mutants")
        session.read()
        count += len(inside)
    run_anew(anew, baseline, ROOT, files_of, ground, tell)


def _end_with(work: Callable[[], None]) -> NoReturn:
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        print(error, file=sys.stderr)
    finally:
        sys.stdout.flush()
        os._exit(status)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m scripts.mutation", description=__doc__)
    made.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(FIRST)}")
    made.add_argument(
        "--seconds",
        type=float,
        default=BUDGET,
        help=f"of test time for each mutant (default: {BUDGET:.0f})",
    )
    made.add_argument(
        "--sample", type=int, metavar="N", help="run at most N mutants a module, by chance"
    )
    made.add_argument("--seed", type=int, default=1, help="of that chance (default: 1)")
    made.add_argument(
        "--again",
        action="store_true",
        help="run again what survived and is not explained, after tests were added",
    )
    made.add_argument("--fresh", action="store_true", help="forget what is known")
    made.add_argument(
        "--only-page", action="store_true", help="run nothing, write the page from the session"
    )
    made.add_argument("--session", default=SESSION, help="where what is known is kept")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 0 if every survivor is explained and no module is below the bound."""
    options = parser().parse_args(arguments)
    unknown = sorted(set(options.modules) - set(FIRST))
    if unknown:
        parser().error(f"no such module: {', '.join(unknown)}; there are {', '.join(FIRST)}")
    if options.fresh:
        shutil.rmtree(options.session, ignore_errors=True)
    session = Session(options.session)
    chosen = options.modules or list(FIRST)
    made = {
        module: mutants_of(
            module, path_of(module), Path(path_of(module)).read_text(encoding="utf-8")
        )
        for module in FIRST
    }
    wanted: list[Mutant] = []
    for module in chosen:
        mutants = list(made[module].mutants)
        if options.sample is not None and options.sample < len(mutants):
            mutants = random.Random(options.seed).sample(mutants, options.sample)  # noqa: S311
        wanted += [mutant for mutant in mutants if _is_due(mutant, session, again=options.again)]
    if wanted and not options.only_page:
        with Ground(tempfile.mkdtemp(prefix="mutants-", dir=_fast_directory())) as ground:
            judge(wanted, session, options.seconds, ground)
    return page.write(ROOT, made, session.verdicts, FILES)


def _is_due(mutant: Mutant, session: Session, *, again: bool) -> bool:
    verdict = session.verdicts.get(mutant.key)
    if verdict is None or not again:
        return verdict is None
    return (
        verdict.outcome == SURVIVED and page.reason(page.explanations(ROOT), ROOT, mutant) is None
    )


def _fast_directory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None


if __name__ == "__main__":
    sys.exit(main())
