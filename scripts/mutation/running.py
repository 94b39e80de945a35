"""Runs the tests against mutants, each in a process of its own that is forked when all is loaded.

Two ways. *Inside*: pytest has collected; the child exchanges the code of one function and runs
the tests that execute the mutated line, those that killed a neighbour first. *Anew*: pytest is
imported, the linker is not; the child imports the mutated module and collects. That is for what
happens when modules are imported: tables, classes, and functions that build tables.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from scripts.mutation.values import KILLED, MODULE_LEVEL, SURVIVED, TIMED_OUT, Mutant, Verdict

if TYPE_CHECKING:
    from coverage import Coverage

PATIENCE = 8.0
"""Seconds that a test may take beside a multiple of its usual time."""

BUDGET = 20.0
"""Seconds of test time, as it is without mutants, after which a mutant has survived."""

SLOWER = 20
"""That multiple: machines are shared, and a mutant may make a loop longer without harm."""

MEMORY = 4 << 30
"""Bytes of data that a mutant may have before its allocations fail: a loop without end."""


@dataclass(frozen=True)
class Baseline:
    """What the tests execute when nothing is mutated.

    `seconds` has every test by id, `lines` the tests that execute a line of a module by
    (path, line), and `imported` the lines that are executed outside tests.
    """

    seconds: Mapping[str, float]
    lines: Mapping[tuple[str, int], tuple[str, ...]]
    imported: frozenset[tuple[str, int]]


class Ground:
    """Where the tests of mutants build, emptied after each: a killed one cleans nothing up."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(f"{path}/ground", exist_ok=True)
        for each in (path, f"{path}/ground"):
            os.chmod(each, 0o755)  # an ordinary user passes through
        os.environ["LINKER_GROUND"] = f"{path}/ground"

    def arguments(self, files: Iterable[str]) -> list[str]:
        """Return pytest's command line."""
        return [
            *("-x", "-p", "no:terminal", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("-o", "addopts=--import-mode=importlib", "-o", "tmp_path_retention_policy=none"),
            *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # imported before it was forked
            *(f"--basetemp={self.path}/pytest", *files),
        ]

    def clear(self) -> None:
        """Remove what a test left."""
        _remove([f"{self.path}/ground/{name}" for name in os.listdir(f"{self.path}/ground")])

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        _remove([self.path])


def _remove(paths: Sequence[str]) -> None:
    """Remove trees: of any depth, which `shutil.rmtree` cannot, and with read-only directories."""
    for command in (("rm", "-rf"), ("chmod", "-R", "u+rwx"), ("rm", "-rf")):
        left = [path for path in paths if os.path.lexists(path)]
        if left:
            subprocess.run((*command, "--", *left), stderr=subprocess.DEVNULL, check=False)


# What a child tells.


class Telling:
    """Plugin of a child: says on a pipe which test begins and which fails, and ends there."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._say("begin", nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._say("failed", report.nodeid)
        if report.when == "teardown":
            self._say("ended", report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._say("failed", report.nodeid or "collection")

    def _say(self, what: str, nodeid: str) -> None:
        os.write(self._pipe, f"{what} {nodeid}\n".encode())


def in_child(work: Callable[[int], None], seconds: Mapping[str, float], ground: Ground) -> Verdict:
    """Run `work` in a fork with the end of a pipe; return what it told, or that it took too long.

    A child that ends otherwise than by finishing its work has noticed as well.
    """
    began = time.monotonic()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_child(work, writing, f"{ground.path}/ground")
    os.close(writing)
    try:
        outcome, test, tests = _listen(reading, seconds)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # and what it started
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ground.clear()
    return Verdict(outcome, test, tests, time.monotonic() - began)


def _be_child(work: Callable[[int], None], pipe: int, directory: str) -> NoReturn:
    try:
        os.setsid()
        os.chdir(directory)  # a mutant may take a missing handle for the working directory
        with open(os.devnull, "r+b", buffering=0) as nothing:
            for standard in (0, 1, 2):
                os.dup2(nothing.fileno(), standard)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        work(pipe)
        os.write(pipe, b"done -\n")
    finally:
        os._exit(0)


def _listen(pipe: int, seconds: Mapping[str, float]) -> tuple[str, str, int]:
    buffer, test, tests = b"", "before the first test", 0
    patience = PATIENCE * 4  # imports and collects
    while True:
        if not select.select([pipe], [], [], patience)[0]:
            return TIMED_OUT, test, tests
        data = os.read(pipe, 65536)
        if not data:
            return KILLED, test, tests
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            what, _, name = line.decode().partition(" ")
            if what == "failed":
                return KILLED, name, tests
            if what == "done":
                return SURVIVED, "", tests
            if what == "begin":
                test, tests = name, tests + 1
                patience = PATIENCE + SLOWER * seconds.get(name, 1.0)


# The baseline.


def measure(root: str, files: Sequence[str], ground: Ground, result: str) -> None:
    """Write to the file `result` what the tests execute and how long each takes."""
    import coverage  # of the group `mutation`, and only for this

    def work(pipe: int) -> None:
        measuring = coverage.Coverage(
            data_file=None, source=[f"{root}/linker"], config_file=False, messages=False
        )

        def measured() -> Contexts:
            data = measuring.get_data()
            return {path: data.contexts_by_lineno(path) for path in data.measured_files()}

        measuring.start()
        plugin = _Measuring(measuring)
        with forks_tell(f"{ground.path}/forks", measured) as forks:
            status = pytest.main(ground.arguments(files), plugins=[plugin, Telling(pipe)])
        measuring.stop()
        if status:
            os.write(pipe, b"failed -\n")
            return
        ids = {name: number for number, name in enumerate(plugin.seconds)}
        lines: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        for contexts in (measured(), *forks):
            for path, by_line in contexts.items():
                for line, names in by_line.items():
                    lines[path][int(line)].update(ids.get(name, -1) for name in names)
        with open(result, "w", encoding="utf-8") as out:
            json.dump({"seconds": plugin.seconds, "lines": lines}, out, default=sorted)

    verdict = in_child(work, defaultdict(lambda: 60.0), ground)
    if verdict.outcome != SURVIVED:
        raise SystemExit(f"the tests must pass before anything is mutated: {verdict.test}")


Contexts = dict[str, dict[int, list[str]]]
"""path of a module -> line -> the tests that executed it."""


@contextlib.contextmanager
def forks_tell(directory: str, measured: Callable[[], Contexts]) -> Iterator[list[Contexts]]:
    """Have what is forked, and ends by itself, tell what was `measured` there.

    Helpers of the linker are forked: much of it is executed by no other process. The list is
    filled at the end.
    """
    own, leave = os.getpid(), os._exit
    told: list[Contexts] = []

    def leaving(status: int) -> NoReturn:
        try:
            if os.getpid() != own:
                with open(f"{directory}/{os.getpid()}", "a", encoding="utf-8") as file:
                    file.write(json.dumps(measured()) + "\n")
        finally:
            leave(status)

    os.mkdir(directory)
    os.chmod(directory, 0o777)  # an ordinary user's too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", leaving)
        yield told
    for name in os.listdir(directory):
        with open(f"{directory}/{name}", encoding="utf-8") as file:
            told += map(json.loads, file)


class _Measuring:
    def __init__(self, measuring: Coverage) -> None:
        self._measuring = measuring
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._measuring.switch_context(item.nodeid)
        began = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - began
            self._measuring.switch_context("")


def load_baseline(path: str) -> Baseline:
    """Read what `measure` wrote."""
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    names = list(data["seconds"])
    lines, imported = {}, set()
    for module, by_line in data["lines"].items():
        for line, numbers in by_line.items():
            place = (module, int(line))
            lines[place] = tuple(names[number] for number in numbers if number >= 0)
            if -1 in numbers:
                imported.add(place)
    return Baseline(data["seconds"], lines, frozenset(imported))


def is_anew(mutant: Mutant, baseline: Baseline) -> bool:
    """Return whether the mutant must be there when the linker is imported."""
    return mutant.function == MODULE_LEVEL or any(
        (mutant.path, line) in baseline.imported for line in mutant.lines
    )


# The proof that it is the mutation that a test notices.

NOTHING = "nothing"
"""The operator of what is run first, in both ways: the module as it is."""


def unmutated(mutant: Mutant) -> Mutant:
    """Return a mutant in which nothing differs."""
    with open(mutant.path, encoding="utf-8") as file:
        return replace(mutant, operator=NOTHING, source=file.read())


def must_survive(verdict: Verdict) -> None:
    """End the run if a test fails, though nothing differs."""
    if verdict.outcome != SURVIVED:
        raise SystemExit(f"fails without a mutation: {verdict.test}, {verdict.outcome}")


def must_have_begun(mutant: Mutant, verdict: Verdict) -> None:
    """End the run if no test has noticed the mutant: it could not be put in its place."""
    if verdict.tests == 0:
        raise SystemExit(f"cannot be exchanged: {mutant.path}, {mutant.function}: {mutant.added}")


# Inside: the code of one function is exchanged.


def run_inside(
    mutants: Sequence[Mutant],
    baseline: Baseline,
    files: Sequence[str],
    budget: float,
    first: Callable[[Mutant], Sequence[str]],
    ground: Ground,
    tell: Callable[[Mutant, Verdict], None],
) -> None:
    """Run the tests that reach each mutant, for `budget` seconds of test time at the most.

    `first` names the files of tests that are about the mutant's module.
    """
    plugin = _Inside(mutants, baseline, budget, first, ground, tell)
    status = pytest.main(ground.arguments(files), plugins=[plugin])
    if status or not plugin.ran:
        raise SystemExit("the tests cannot be collected")


class _Inside:
    def __init__(
        self,
        mutants: Sequence[Mutant],
        baseline: Baseline,
        budget: float,
        first: Callable[[Mutant], Sequence[str]],
        ground: Ground,
        tell: Callable[[Mutant, Verdict], None],
    ) -> None:
        self._first = first
        self._mutants = mutants
        self._baseline = baseline
        self._budget = budget
        self._ground = ground
        self._tell = tell
        self._killers: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.ran = False

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge every mutant instead of running the tests once."""
        if session.testsfailed:
            return False
        items = {item.nodeid: item for item in session.items}
        gc.freeze()
        for mutant in (unmutated(self._mutants[0]), *self._mutants):
            tests = [items[name] for name in self._chosen(mutant) if name in items]

            def work(pipe: int, mutant: Mutant = mutant, tests: list[pytest.Item] = tests) -> None:
                exchange(mutant)
                session.config.pluginmanager.register(Telling(pipe))
                for test, following in pairwise([*tests, None]):
                    session.config.hook.pytest_runtest_protocol(item=test, nextitem=following)

            verdict = in_child(work, self._baseline.seconds, self._ground)
            if mutant.operator == NOTHING:
                must_survive(verdict)
                continue
            if verdict.outcome is KILLED:
                must_have_begun(mutant, verdict)
                self._killers[mutant.path, mutant.function][verdict.test] += 1
            self._tell(mutant, verdict)
        self.ran = True
        return True

    def _chosen(self, mutant: Mutant) -> list[str]:
        """Return the tests that execute the lines: what killed a neighbour, then what is about the
        module.
        """
        seconds = self._baseline.seconds
        reaching: set[str] = set()
        for line in mutant.lines:
            reaching.update(self._baseline.lines.get((mutant.path, line), ()))
        killers = self._killers[mutant.path, mutant.function]
        ordered = [name for name, _ in killers.most_common(6) if name in reaching]
        ordered += self._by_turns(mutant, reaching.difference(ordered))
        chosen: list[str] = []
        spent = 0.0
        for name in ordered:
            spent += seconds[name]
            if chosen and spent > self._budget:
                break
            chosen.append(name)
        return chosen

    def _by_turns(self, mutant: Mutant, names: Iterable[str]) -> list[str]:
        """Return tests in an order in which the files about the module take turns, each with its
        ten quickest of what it still has; then those of all other files.
        """
        files = [os.path.basename(path) for path in self._first(mutant)]
        count: Counter[str] = Counter()
        keys: dict[str, tuple[int, int]] = {}
        for name in sorted(names, key=lambda name: (self._baseline.seconds[name], name)):
            file = os.path.basename(name.partition("::")[0])
            place = files.index(file) if file in files else len(files)
            keys[name] = (place // len(files), count[file] // 10)
            count[file] += 1
        return sorted(keys, key=keys.__getitem__)


def exchange(mutant: Mutant) -> None:
    """Give the function of the mutant its mutated code, for everybody who has the function."""
    module = _module_at(mutant.path)
    code = compile(mutant.source, mutant.path, "exec")
    wanted = _code_of(code, mutant.function)
    target: Any = module
    for part in mutant.function.split("."):
        target = vars(target)[part]
    _plain(target).__code__ = wanted


def _module_at(path: str) -> ModuleType:
    for module in sys.modules.values():
        if getattr(module, "__file__", None) == path:
            return module
    raise LookupError(path)


def _code_of(code: CodeType, name: str) -> CodeType:
    for part in name.split("."):
        code = next(
            each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == part
        )
    return code


def _plain(function: Any) -> FunctionType:
    """Return the function below a property, a static or class method, or another wrapper."""
    if isinstance(function, property):
        function = function.fget
    elif isinstance(function, cached_property):
        function = function.func
    function = getattr(function, "__func__", function)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    assert isinstance(function, FunctionType)
    return function


# Anew: the mutated module is imported.


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module, and has the mutant's text for it."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        self._name = name
        self._mutant = mutant

    def find_spec(
        self, fullname: str, _path: object, _target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._mutant.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._mutant.source, self._mutant.path, "exec"), vars(module))  # noqa: S102


def run_anew(
    mutants: Sequence[Mutant],
    baseline: Baseline,
    root: str,
    files_of: Callable[[Mutant], Sequence[str]],
    ground: Ground,
    tell: Callable[[Mutant, Verdict], None],
) -> None:
    """Run whole files of tests against each mutant, in an interpreter that has no linker yet."""
    if any(map(_is_ours, sys.modules)):
        raise RuntimeError("the linker is imported already")
    if mutants:
        _import_what_tests_import(files_of(mutants[0]), ground)
    for mutant in begun_unmutated(mutants):
        files = files_of(mutant)

        def work(pipe: int, mutant: Mutant = mutant, files: Sequence[str] = files) -> None:
            name = os.path.relpath(mutant.path, root).removesuffix(".py").replace(os.sep, ".")
            sys.meta_path.insert(0, _Mutated(name, mutant))
            for some in (files[:1], files[1:]):  # most mutants do not outlive the first file
                if some and pytest.main(ground.arguments(some), plugins=[Telling(pipe)]):
                    os.write(pipe, b"failed -\n")
                    return

        verdict = in_child(work, baseline.seconds, ground)
        if mutant.operator == NOTHING:
            must_survive(verdict)
        else:
            tell(mutant, verdict)


def begun_unmutated(mutants: Sequence[Mutant]) -> Iterator[Mutant]:
    """Yield mutants, and before the first of each module the module as it is: each has tests of its
    own, which must pass.
    """
    seen: set[str] = set()
    for mutant in mutants:
        if mutant.path not in seen:
            seen.add(mutant.path)
            yield unmutated(mutant)
        yield mutant


OURS = ("linker", "pytest_linkmode", "tests", "conftest", "test_")
"""What the names of modules begin with that must be imported after the mutant is there."""


def _is_ours(name: str) -> bool:
    return name.startswith(OURS)


def _import_what_tests_import(files: Sequence[str], ground: Ground) -> None:
    """Import here what does not depend on the linker: every child has it then without waiting."""
    result = f"{ground.path}/modules"

    def work(_pipe: int) -> None:
        pytest.main([*ground.arguments(files), "--collect-only"])
        with open(result, "w", encoding="utf-8") as out:
            out.write("\n".join(name for name in sys.modules if not _is_ours(name)))

    in_child(work, {}, ground)
    with open(result, encoding="utf-8") as file:
        for name in file.read().split("\n"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
