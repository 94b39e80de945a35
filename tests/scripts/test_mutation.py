"""Mutation tests, tested: what a child tells is believed, and no survivor goes without a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.mutation import page, running
from scripts.mutation.running import Ground, exchange, forks_tell, in_child
from scripts.mutation.values import KILLED, SURVIVED, TIMED_OUT, Made, Mutant, Verdict
from tests.patience import SECONDS


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    monkeypatch.setenv("LINKER_GROUND", "")
    with Ground(str(tmp_path / "ground")) as made:
        yield made


def tell(*lines: str) -> Callable[[int], None]:
    text = "".join(f"{line}\n" for line in lines).encode()

    def work(pipe: int) -> None:
        os.write(pipe, text)

    return work


def test_a_mutant_that_no_test_notices_survives(ground: Ground) -> None:
    verdict = in_child(tell("begin a", "ended a", "begin b", "ended b"), {}, ground)
    assert (verdict.outcome, verdict.tests) == (SURVIVED, 2)


def test_the_test_that_notices_is_named(ground: Ground) -> None:
    verdict = in_child(tell("begin a", "ended a", "begin b", "failed b"), {}, ground)
    assert (verdict.outcome, verdict.test) == (KILLED, "b")


def test_the_tests_of_each_module_must_pass_before_it_is_mutated(tmp_path: Path) -> None:
    def mutant(name: str, operator: str) -> Mutant:
        path = tmp_path / name
        path.write_text("x = 1\n")
        function, lines = "(module)", (1,)
        return Mutant(operator, str(path), function, operator, lines, "x = 1", "x = 2", "x = 2\n")

    mutants = [mutant("a", "first"), mutant("a", "second"), mutant("b", "third")]
    found = [(Path(each.path).name, each.operator) for each in running.begun_unmutated(mutants)]
    assert found == [
        ("a", running.NOTHING),
        ("a", "first"),
        ("a", "second"),
        ("b", running.NOTHING),
        ("b", "third"),
    ]


def test_an_interpreter_that_dies_has_noticed(ground: Ground) -> None:
    def die(pipe: int) -> None:
        os.write(pipe, b"begin a\n")
        os._exit(0)

    verdict = in_child(die, {}, ground)
    assert (verdict.outcome, verdict.test) == (KILLED, "a")


def test_a_test_that_hangs_is_ended_with_all_that_it_started(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "PATIENCE", 0.05)
    monkeypatch.setattr(running, "SLOWER", 0)
    alive = os.path.join(ground.path, "alive")

    def hang(pipe: int) -> None:
        os.write(pipe, b"begin a\n")
        if os.fork() == 0:
            time.sleep(2)
            Path(alive).touch()
            os._exit(0)
        time.sleep(60)

    began = time.monotonic()
    verdict = in_child(hang, {"a": 0.0}, ground)
    assert (verdict.outcome, verdict.test) == (TIMED_OUT, "a")
    time.sleep(max(0.0, began + 2.2 - time.monotonic()))
    assert not os.path.exists(alive)


def test_a_mutant_that_builds_in_the_working_directory_builds_on_the_ground(
    ground: Ground,
) -> None:
    """As calls that are given no directory do."""
    left = Path("left-by-a-mutant")

    def build(pipe: int) -> None:
        left.mkdir()
        os.write(pipe, b"failed where it should\n" if left.resolve() in found else b"")

    found = [Path(ground.path, "ground", left.name).resolve()]
    assert in_child(build, {}, ground).test == "where it should"
    assert not left.exists()
    assert os.listdir(f"{ground.path}/ground") == []


def test_what_a_test_left_is_removed_however_deep_and_shut(ground: Ground) -> None:
    path = f"{ground.path}/ground/{'/'.join(['d' * 20] * 100)}"
    os.makedirs(path)
    os.chmod(os.path.dirname(path), 0o500)
    in_child(tell(), {}, ground)
    assert os.listdir(f"{ground.path}/ground") == []


MODULE = """\
import functools

def plain(number):
    return number + 1

class Thing:
    @property
    def own(self):
        return [number + 1 for number in (1,)]

    @functools.cached_property
    def kept(self):
        return 1 + 1

    @classmethod
    def made(cls):
        return cls.__name__ + "1"
"""


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        ("plain", "return number + 1", "return number - 1"),
        ("Thing.own", "[number + 1 for", "[number - 1 for"),
        ("Thing.kept", "1 + 1", "1 - 1"),
        ("Thing.made", '+ "1"', '+ "2"'),
    ],
)
def test_a_function_is_exchanged_for_everybody_who_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, old: str, new: str
) -> None:
    module = types.ModuleType("exchanged")
    module.__file__ = str(tmp_path / "exchanged.py")
    exec(MODULE, vars(module))  # noqa: S102
    monkeypatch.setitem(sys.modules, "exchanged", module)
    plain, thing = module.plain, module.Thing
    assert [plain(1), thing().own, thing.made()] == [2, [2], "Thing1"]
    exchange(mutant(module.__file__, function, old, new, MODULE.replace(old, new)))
    own, kept, made = thing().own, thing().kept, thing.made()
    found = {"plain": plain(1), "Thing.own": own, "Thing.kept": kept, "Thing.made": made}
    mutated = {"plain": 0, "Thing.own": [0], "Thing.kept": 0, "Thing.made": "Thing2"}
    wanted = {"plain": 2, "Thing.own": [2], "Thing.kept": 2, "Thing.made": "Thing1"}
    assert found == {**wanted, function: mutated[function]}


PROGRAM = """\
import sys
from scripts.mutation.running import Baseline, Ground, run_inside
from scripts.mutation.values import Mutant

root = sys.argv[1]
sys.path.insert(0, root)
path, tests = f"{root}/exchanged.py", f"{root}/test_exchanged.py"
source = open(path).read()
mutants = [
    Mutant(line, path, function, "number", (int(line),), "", "", source.replace(old, new))
    for line, function, old, new in (word.split(",") for word in sys.argv[2:])
]
test = "test_exchanged.py::test_plain"
baseline = Baseline({test: 0.1}, {(path, 4): (test,)}, frozenset())
with Ground(f"{root}/ground") as ground:
    run_inside(
        mutants, baseline, [tests], 9.0, lambda _: [tests], ground,
        lambda mutant, verdict: print(mutant.function, verdict.outcome, verdict.tests, flush=True),
    )
"""


def run_against(root: Path, *mutants: str) -> subprocess.CompletedProcess[str]:
    """Run a test of the module's first function against mutants: line, function, old, new."""
    (root / "exchanged.py").write_text(MODULE, encoding="utf-8")
    (root / "test_exchanged.py").write_text(
        "from exchanged import plain\n\ndef test_plain():\n    assert plain(1) == 2\n",
        encoding="utf-8",
    )
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root), *mutants],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_a_mutant_whose_line_no_test_executes_survives(tmp_path: Path) -> None:
    done = run_against(
        tmp_path,
        "4,plain,return number + 1,return number - 1",
        "4,plain,return number + 1,return 1 + number",
        '17,Thing.made,+ "1",+ "2"',
    )
    assert done.stdout.splitlines() == [
        "plain killed 1",
        "plain survived 1",
        "Thing.made survived 0",
    ]


def test_what_cannot_be_put_in_its_place_is_no_mutant_that_was_noticed(tmp_path: Path) -> None:
    """A function that is made anew with other free variables, for one."""
    done = run_against(tmp_path, "4,plain,def plain(number):,def other(number):")
    assert done.returncode == 1
    assert "cannot be exchanged" in done.stderr
    assert not done.stdout


def test_what_is_executed_in_forked_processes_counts(tmp_path: Path) -> None:
    """Helpers of the linker end by `os._exit`; what dies otherwise says nothing."""
    leave, pids = os._exit, []
    with forks_tell(str(tmp_path / "forks"), lambda: {"m": {os.getpid(): ["t"]}}) as told:
        for end in (os._exit, os._exit, lambda _: os.kill(os.getpid(), signal.SIGKILL)):
            pids.append(os.fork())
            if pids[-1] == 0:
                end(0)
        for pid in pids:
            os.waitpid(pid, 0)
        assert told == []
    assert os._exit is leave
    found = {int(line) for contexts in told for line in contexts["m"]}
    assert found == set(pids[:2])


# The page.


def mutant(path: str, function: str, removed: str, added: str, source: str = "") -> Mutant:
    return Mutant(
        key=f"{function} {removed} {added}",
        path=path,
        function=function,
        operator="number",
        lines=(1,),
        removed=removed,
        added=added,
        source=source,
    )


class Root:
    """A checkout with one module of ten mutants, of which so many survive."""

    def __init__(self, path: Path, survivors: int) -> None:
        self.path = path
        (path / "docs").mkdir()
        (path / "scripts/mutation").mkdir(parents=True)
        self.explain("")
        file = str(path / "linker/engine.py")
        mutants = tuple(mutant(file, "f", f"x = {number}", "x = 0") for number in range(1, 11))
        self.made = {"engine": Made(mutants, 3)}
        self.verdicts = {
            each.key: Verdict(SURVIVED if number < survivors else KILLED, "", 1, 0.1)
            for number, each in enumerate(mutants)
        }

    def explain(self, text: str) -> None:
        (self.path / page.EXPLANATIONS).write_text(text, encoding="utf-8")

    def write(self) -> int:
        return page.write(str(self.path), self.made, self.verdicts, ["rules"])

    def text(self) -> str:
        return (self.path / page.PAGE).read_text(encoding="utf-8")


def explanation(line: str, to: str = "[]") -> str:
    return (
        '[[survivor]]\nfile = "linker/*"\nfunction = "f"\n'
        f"line = '{line}'\nto = {to}\nwhy = 'Because.'\n"
    )


def test_a_survivor_without_a_reason_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Root(tmp_path, 1)
    assert root.write() == 1
    assert "not explained: linker/engine.py:1 f" in capsys.readouterr().out
    assert "**Not explained.**" in root.text()
    root.explain(explanation("x = 1", '["x = 7"]'))
    assert root.write() == 1, "that is about another change of the line"
    assert "explains no survivor: linker/* f: x = 1 ['x = 7']" in capsys.readouterr().out
    root.explain(explanation("x = 1", '["x = 0"]'))
    assert root.write() == 0
    assert "| engine | 3 | 10 | 10 | 9 | 0 | 1 | 90.0 % |" in root.text()
    assert "`linker/engine.py`, `f` (number): Because." in root.text()
    assert "- x = 1\n+ x = 0\n" in root.text()
    assert not capsys.readouterr().out.count("explain")


def test_too_many_survivors_are_an_error_whatever_the_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Root(tmp_path, 2)
    root.explain(explanation("x = 1") + explanation("x = 2"))
    assert root.write() == 1
    assert "below 90 %: engine" in capsys.readouterr().out


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    root = Root(tmp_path, 0)
    root.verdicts.popitem()
    assert root.write() == 0
    assert "Not all mutants were run of: engine (9 of 10)." in root.text()
    assert "| engine | 3 | 10 | 9 | 9 | 0 | 0 | 100.0 % |" in root.text()
