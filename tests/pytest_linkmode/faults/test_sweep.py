"""A sweep runs a program once for every call and error, each on a fresh target."""

from __future__ import annotations

import os
import pathlib
import shlex
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pytest_linkmode.errors import LinkmodeError, UsageError
from pytest_linkmode.faults import Call, Case, Fault, FaultRunner, Kill, SweepFailed
from pytest_linkmode.faults.fresh import Fresh, empty
from pytest_linkmode.faults.spec import MET, parse
from pytest_linkmode.faults.sweep import replay_of, sample
from tests.pytest_linkmode.faults.programs import python

LINKER = """
import os, sys
source, target = sys.argv[1:]
for name in sorted(os.listdir(source)):
    try:
        os.link(f"{source}/{name}", f"{target}/{name}")
    except OSError:
        with open(f"{source}/{name}", "rb") as old, open(f"{target}/.part", "wb") as new:
            new.write(old.read())
        os.rename(f"{target}/.part", f"{target}/{name}")
"""
"""Links every file of a directory, and copies what cannot be linked."""

NAMES = ("one", "two", "three")
LAST = (Kill("hardlink", 3, "after"),)


class Heard:
    """A stand-in for the fixture `subtests`, which keeps what is reported."""

    def __init__(self) -> None:
        self.failed: dict[str, list[str]] = {}

    @contextmanager
    def test(self, msg: str | None = None) -> Iterator[None]:
        """Swallow a failure, as a subtest does."""
        try:
            yield
        except AssertionError as error:
            self.failed[msg or ""] = getattr(error, "__notes__", [])


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give a source of three files."""
    made = tmp_path / "source"
    made.mkdir()
    for name in NAMES:
        (made / name).write_text(name * 100)
    return made


@pytest.fixture
def target(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give an empty target."""
    made = tmp_path / "target"
    made.mkdir()
    return made


@pytest.fixture
def command(source: pathlib.Path, target: pathlib.Path) -> list[str]:
    """Give the command that links one to the other."""
    return python(LINKER, source, target)


def test_every_call_meets_every_error_and_a_kill_before_and_after(
    faultable: None, command: list[str], target: pathlib.Path
) -> None:
    said: list[str] = []
    runner = FaultRunner(say=said.append)
    faults = []
    for case in runner.sweep(command, ops=("hardlink",), errors=("EMLINK", "EXDEV"), target=target):
        with case:
            faults.append(case.faults)
            if case.faults:
                assert case.hit is not None
                assert case.hit.fault == str(case.faults[0])
            names = set(os.listdir(target))
            # Whatever was refused is copied; a kill leaves whole files, but not all of them.
            assert (names == set(NAMES)) == (not case.killed or case.faults == LAST)
            for name in names:
                assert (target / name).read_text() == name * 100
    assert faults[0] == ()
    assert set(faults[1:]) == {
        (fault,)
        for nth in (1, 2, 3)
        for fault in (
            Fault("hardlink", "EMLINK", nth),
            Fault("hardlink", "EXDEV", nth),
            Kill("hardlink", nth, "before"),
            Kill("hardlink", nth, "after"),
        )
    }
    assert len(faults) == 13
    program = os.path.basename(command[0])
    assert said == [f"swept 12 cases of {program} (calls: 3 hardlink): 0 failed"]


def test_errors_are_those_that_the_op_meets_in_the_field(
    runner: FaultRunner, command: list[str], target: pathlib.Path
) -> None:
    tried: Counter[str] = Counter()
    sweep = runner.sweep(command, ops=("hardlink",), target=target, kills=False)
    for case in sweep:
        for fault in case.faults:
            assert isinstance(fault, Fault)
            tried[fault.errno_name] += 1
    assert tried == Counter(dict.fromkeys(MET["hardlink"], 3))


def test_a_fault_in_force_makes_the_fallback_be_swept_too(
    runner: FaultRunner, command: list[str], target: pathlib.Path
) -> None:
    hit: Counter[str] = Counter()
    for case in runner.sweep(
        command,
        ops=("create", "copy", "rename"),
        errors=("EIO", "SHORT"),
        kills=False,
        faults=["hardlink:EXDEV"],
        target=target,
    ):
        if case.hit is not None:
            hit[f"{case.hit.op} {case.hit.fault.split(':')[1]}"] += 1
            whole = case.hit.fault.split(":")[1] == "SHORT"
            assert (case.run.returncode == 0) == whole, case
            assert (set(NAMES) == set(os.listdir(target))) == whole
    assert hit == Counter({"create EIO": 3, "copy EIO": 3, "copy SHORT": 3, "rename EIO": 3})


def test_a_failing_case_is_a_subtest_with_the_line_that_replays_it(
    command: list[str], target: pathlib.Path, faultable: None
) -> None:
    heard, said = Heard(), [""]
    runner = FaultRunner(subtests=heard, say=said.append)
    for case in runner.sweep(
        command,
        ops=("rename",),
        errors=("EIO",),
        kills=False,
        faults=["hardlink:EXDEV"],
        target=target,
    ):
        with case:
            assert ".part" not in os.listdir(target)
    failed = {
        f"rename:EIO:nth={nth} at {target}/{name}": [
            f"rename:EIO:nth={nth} at {target}/{name}\n"
            f"replay this case with --linkmode-fault='rename:EIO:nth=1:path=*/{name}'"
        ]
        for nth, name in enumerate(sorted(NAMES), 1)
    }
    assert heard.failed == failed
    assert said[-1].endswith("(calls: 3 rename): 3 failed")
    runner.close()


def test_the_line_replays_the_case_and_nothing_else(
    command: list[str], target: pathlib.Path, faultable: None
) -> None:
    line = "rename:EIO:path=*/one"
    runner = FaultRunner(replay=[parse("hardlink:EXDEV"), parse(line)])
    cases = []
    for case in runner.sweep(command, target=target):
        cases.append([str(fault) for fault in case.faults])
        assert sorted(os.listdir(target)) == [".part"]
        assert case.run.returncode == 1
    assert cases == [["hardlink:EXDEV", line]]


def test_without_subtests_the_sweep_raises_at_its_end_with_all_of_them(
    runner: FaultRunner, command: list[str], target: pathlib.Path
) -> None:
    ran = []

    def only_the_second() -> None:
        for case in runner.sweep(
            command, ops=("hardlink",), errors=("EIO",), kills=False, target=target
        ):
            with case:
                ran.append(case)
                assert case.hit is None or case.hit.nth == 2, "only the second"

    with pytest.raises(SweepFailed) as raised:
        only_the_second()
    assert len(ran) == 4
    text = str(raised.value)
    assert "2 failed" in text
    assert f"hardlink:EIO:nth=1 at {target}/one: AssertionError: only the second" in text
    assert "--linkmode-fault='hardlink:EIO:nth=1:path=*/one'" in text
    assert "path=*/three" not in text
    assert "--linkmode-fault='hardlink:EIO:nth=1:path=*/two'" in text
    assert isinstance(raised.value.__cause__, AssertionError)


def test_a_sweep_that_is_left_loses_no_failure(
    command: list[str], target: pathlib.Path, faultable: None
) -> None:
    said: list[str] = []
    runner = FaultRunner(say=said.append)
    sweep = runner.sweep(command, ops=("hardlink",), target=target)
    for case in sweep:
        with case:
            raise AssertionError
        break
    sweep.close()  # type: ignore[attr-defined]  # it is a generator
    assert "1 failed" in said[0]
    with pytest.raises(SweepFailed, match="no fault: AssertionError"):
        runner.close()
    runner.close()


def test_what_is_no_failure_goes_on_its_way(
    runner: FaultRunner, command: list[str], target: pathlib.Path
) -> None:
    def interrupted() -> None:
        for case in runner.sweep(command, ops=("hardlink",), target=target):
            with case:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_case_that_never_ends_fails_and_the_sweep_goes_on(
    runner: FaultRunner, target: pathlib.Path
) -> None:
    program = """
import os, sys
os.chdir(sys.argv[1])
for name in "xy":
    while not os.path.isdir(name):
        try:
            os.mkdir(name)
        except OSError:
            while True:
                pass
"""
    sweep = runner.sweep(
        python(program, target),
        ops=("mkdir",),
        errors=("EIO",),
        kills=False,
        target=target,
        timeout=2.0,
    )
    assert next(sweep).faults == ()
    with pytest.raises(SweepFailed) as raised:
        next(sweep)
    assert "2 failed" in str(raised.value)
    assert "did not end within 2 s" in str(raised.value)


def test_each_case_has_the_target_as_it_was(
    runner: FaultRunner, source: pathlib.Path, target: pathlib.Path
) -> None:
    (target / "old").mkdir(mode=0o500)
    (target / "link").symlink_to("nowhere")
    (target / "two").write_text("old")
    os.utime(target / "two", ns=(1, 2))
    program = """
import os, sys
os.chdir(sys.argv[1])
assert open("two").read() == "old"
assert os.stat("two").st_mtime_ns == 2
assert os.readlink("link") == "nowhere"
assert os.stat("old").st_mode & 0o777 == 0o500
assert sorted(os.listdir()) == ["link", "old", "two"], os.listdir()
os.chmod("old", 0o700)
os.mkdir("old/new")
os.chmod("old", 0o500)
os.unlink("two")
os.rename("link", "moved")
"""
    prepared: list[int] = []
    before = os.stat(target).st_ino
    ran = 0
    for case in runner.sweep(
        python(program, target),
        ops=("mkdir", "unlink", "rename"),
        target=target,
        prepare=lambda: prepared.append(1),
    ):
        with case:
            ran += 1
            assert "AssertionError" not in case.run.stderr
    assert ran == len(prepared) > 30
    assert os.stat(target).st_ino == before


def test_a_directory_is_put_back_as_it_was_or_was_not(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    with Fresh(target) as fresh:
        target.mkdir()
        (target / "x").write_text("x")
        fresh.restore()
        assert not target.exists()
        fresh.restore()
    target.mkdir(mode=0o750)
    with Fresh(target) as fresh:
        (target / "d").mkdir(mode=0o000)
        target.chmod(0o500)
        fresh.restore()
        assert list(target.iterdir()) == []
        assert stat.S_IMODE(target.stat().st_mode) == 0o750
    (target / "s").symlink_to(tmp_path)
    empty(str(target))
    assert tmp_path.exists()


def test_what_takes_the_place_of_a_directory_is_removed_and_never_followed(
    tmp_path: pathlib.Path,
) -> None:
    precious, target = tmp_path / "precious", tmp_path / "target"
    precious.mkdir()
    (precious / "kept").write_text("kept")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for named in (target, tmp_path / "link"):
        there = named.exists()
        with Fresh(named) as fresh:
            for _ in range(2):
                if named.is_symlink():
                    named.unlink()
                elif there:
                    named.rename(tmp_path / "away")
                named.symlink_to(precious)
                fresh.restore()
                assert named.is_symlink() == (named.name == "link")
                assert named.exists() == there
            if not named.is_symlink():
                named.write_text("a file")
                fresh.restore()
                assert not named.exists()
        assert [entry.name for entry in precious.iterdir()] == ["kept"]
    assert os.readlink(tmp_path / "link") == "real"
    target.mkdir()
    (target / "old").write_text("old")
    with Fresh(target) as fresh:
        target.rename(tmp_path / "elsewhere")
        target.symlink_to(precious)
        fresh.restore()
        assert not target.is_symlink()
        assert (target / "old").read_text() == "old"
    with pytest.raises(NotADirectoryError):
        empty(str(tmp_path / "link"))
    with pytest.raises(UsageError, match="no directory"), Fresh(target / "old"):
        pass
    (target / "deep").mkdir()
    with Fresh(target / "deep") as fresh:
        target.rename(tmp_path / "moved")
        target.symlink_to(precious)
        with pytest.raises(LinkmodeError, match="precious by now"):
            fresh.restore()
    assert [entry.name for entry in precious.iterdir()] == ["kept"]


@pytest.mark.parametrize("link", [False, True])
def test_a_program_that_makes_its_target_a_symlink_loses_nobody_anything(
    runner: FaultRunner, tmp_path: pathlib.Path, *, link: bool
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "kept").write_text("kept")
    (source / "file").write_text("file")
    linking, copying = ["ln", "-s", source, target], ["cp", source / "file", target]
    command = [str(word) for word in (linking if link else copying)]
    cases = 0
    for case in runner.sweep(command, ops=("symlink", "create"), errors=("EACCES",), target=target):
        with case:
            cases += 1
    assert cases >= 3
    assert sorted(entry.name for entry in source.iterdir()) == ["file", "kept"]


def test_only_calls_below_a_directory_are_swept(
    runner: FaultRunner, tmp_path: pathlib.Path, target: pathlib.Path
) -> None:
    (tmp_path / "cache").mkdir()
    program = """
import os, sys
os.chdir(sys.argv[1])
for name in ("cache/x", "target/y", "cache/z", "target/y/z"):
    os.makedirs(name, exist_ok=True)
"""
    hit = [
        os.path.basename(case.hit.path)
        for case in runner.sweep(
            python(program, tmp_path),
            ops=("mkdir",),
            errors=("EIO",),
            kills=False,
            below=target,
            target=target,
            prepare=lambda: empty(str(tmp_path / "cache")),
        )
        if case.hit is not None
    ]
    assert hit == ["y", "z"]


def test_a_sweep_without_a_fresh_target_is_refused(runner: FaultRunner, command: list[str]) -> None:
    with pytest.raises(UsageError, match="fresh target"):
        next(iter(runner.sweep(command)))
    with pytest.raises(UsageError, match="cannot sweep klone"):
        next(iter(runner.sweep(command, ops=("klone",), prepare=lambda: None)))


def test_a_sweep_over_nothing_is_an_error(runner: FaultRunner, target: pathlib.Path) -> None:
    with pytest.raises(LinkmodeError, match="nothing to sweep"):
        next(iter(runner.sweep(["true"], ops=("clone",), target=target)))
    sweep = runner.sweep(["mkdir", target / "x"], ops=("mkdir",), below="/nowhere", target=target)
    with pytest.raises(LinkmodeError, match="none below /nowhere"):
        next(iter(sweep))


def test_a_case_whose_call_was_not_made_again_is_counted(
    faultable: None, target: pathlib.Path
) -> None:
    said: list[str] = []
    runner = FaultRunner(say=said.append)
    times: list[int] = []

    def fewer() -> None:
        times.append(1)
        (target / "n").write_text("" if len(times) > 1 else "xyz")

    program = "import os, sys; os.chdir(sys.argv[1]); [os.mkdir(c) for c in open('n').read()]"
    for case in runner.sweep(
        python(program, target),
        ops=("mkdir",),
        errors=("EIO",),
        kills=False,
        target=target,
        prepare=fewer,
    ):
        assert case.hit is None
        assert not case.killed
        assert "not reached" in str(case) or str(case) == "no fault"
    assert said[0].endswith("0 failed, 3 met no call")


def test_more_cases_than_the_budget_are_sampled_and_said_so(
    command: list[str], target: pathlib.Path, faultable: None
) -> None:
    said: list[str] = []
    runner = FaultRunner(say=said.append, budget=10)
    ran = [str(case.faults) for case in runner.sweep(command, ops=("hardlink",), target=target)]
    assert len(ran) == 11
    total = 3 * (len(MET["hardlink"]) + 2)
    assert f"{total - 10} of {total} not run, evenly sampled (--linkmode-budget=10)" in said[0]
    again = [str(case.faults) for case in runner.sweep(command, ops=("hardlink",), target=target)]
    assert again == ran


@pytest.mark.parametrize("errors", [5, 8, 13, 21])
def test_a_sample_is_even_over_calls_and_over_errors(errors: int) -> None:
    names = [f"E{n}" for n in range(errors)]
    found = [(nth, name) for nth in range(1, 401) for name in names]
    budget = 40 * errors // 2
    chosen: list[tuple[int, str]] = sample(found, budget)  # type: ignore[arg-type, assignment]
    assert len(set(chosen)) == budget
    assert chosen == sorted(chosen, key=found.index)
    by_name = Counter(name for _, name in chosen)
    assert set(by_name) == set(names)
    assert max(by_name.values()) <= 2 * min(by_name.values())
    by_tenth = Counter((nth - 1) // 40 for nth, _ in chosen)
    assert max(by_tenth.values()) - min(by_tenth.values()) <= budget // 20


def call(nth: int, path: str, op: str = "clone") -> Call:
    return Call(op, nth, "ioctl", ("/cache" + path, path), 1)


@pytest.mark.parametrize(
    ("paths", "nth", "line"),
    [
        (["/t/a", "/t/b"], 2, "clone:EIO:nth=1:path=*/b"),
        (["/t/x/a", "/t/y/a"], 2, "clone:EIO:nth=1:path=*/y/a"),
        (["/t/a", "/t/b", "/t/a"], 3, "clone:EIO:nth=2:path=*/a"),
        (["/t/a*", "/t/[b]"], 2, "clone:EIO:nth=1:path=*/[[]b]"),
    ],
)
def test_a_replay_names_the_path_by_its_shortest_end(paths: list[str], nth: int, line: str) -> None:
    calls = [call(number, path) for number, path in enumerate(paths, 1)]
    hit = call(nth, paths[nth - 1])
    replay = replay_of(Fault("clone", "EIO", nth), hit, calls)
    assert str(replay) == line
    matching = [each.nth for each in calls if replay.matches(each.paths, 1)]
    assert matching[(replay.nth or 1) - 1] == nth


def test_a_kill_at_the_only_call_about_a_name_needs_no_number() -> None:
    calls = [call(number, path) for number, path in enumerate(["/t/a", "/t/b", "/t/a"], 1)]
    lines = [str(replay_of(Kill("clone", each.nth, "after"), each, calls)) for each in calls]
    assert lines == [
        "clone:kill-after:nth=1:path=*/a",
        "clone:kill-after:path=*/b",
        "clone:kill-after:nth=2:path=*/a",
    ]


RETRYING = """
import os, sys
for attempt in range(3):
    try:
        os.mkdir(sys.argv[1] + "/x")
        break
    except OSError:
        continue
else:
    sys.exit(3)
if attempt:
    open(sys.argv[1] + "/half", "w").close()
"""
"""Leaves something behind when the second attempt succeeds, and nothing when none does."""


def test_the_line_of_a_program_that_tries_again_refuses_what_the_case_refused(
    faultable: None, target: pathlib.Path
) -> None:
    def swept(runner: FaultRunner) -> list[str]:
        failed = []
        for case in runner.sweep(
            python(RETRYING, target), ops=("mkdir",), errors=("EIO",), kills=False, target=target
        ):
            if (target / "half").exists():
                failed.append(case.replay)
        return failed

    (line,) = swept(FaultRunner())
    _, _, spec = shlex.split(line)[0].partition("=")
    assert spec == "mkdir:EIO:nth=1:path=*/x"
    assert len(swept(FaultRunner(replay=[parse(spec)]))) == 1


def test_a_name_that_the_program_made_up_is_replayed_by_its_number() -> None:
    fault = Fault("clone", "EIO", 2)
    assert (
        replay_of(fault, call(2, "/t/.tmpXYZ"), [call(1, "/t/a"), call(2, "/t/.tmpABC")]) == fault
    )
    assert replay_of(fault, None, []) == fault


def test_a_case_reads_like_what_was_done(
    runner: FaultRunner, command: list[str], target: pathlib.Path
) -> None:
    cases: list[Case] = list(
        runner.sweep(command, ops=("hardlink",), errors=("EIO",), kills=False, target=target)
    )
    assert str(cases[0]) == "no fault"
    assert cases[0].replay == ""
    assert str(cases[1]) == f"hardlink:EIO:nth=1 at {target}/one"


def test_a_case_is_named_on_one_line_whatever_its_path(
    faultable: None, target: pathlib.Path
) -> None:
    command = ["mkdir", str(target / "two\nlines")]
    for replay in ([], [parse("mkdir:EIO:path=*/two\nlines")]):
        runner = FaultRunner(replay=replay)
        case = list(runner.sweep(command, ops=("mkdir",), errors=("EIO",), target=target))[-1]
        assert str(case).endswith(f" at {target}/two\\nlines")
        assert "\n" not in str(case)


def test_how_a_program_fails_by_itself_is_said(faultable: None, target: pathlib.Path) -> None:
    def fails() -> None:
        (target / "q").mkdir()
        raise KeyError

    ends: dict[str | Callable[[], object], str] = {
        "exit 3": "exit status 3",
        "kill -9 $$": "killed by signal 9",
        "exit 0": "",
        fails: "KeyError",
    }
    for end, how in ends.items():
        said: list[str] = []
        runner = FaultRunner(say=said.append)
        command = ["sh", "-c", f"mkdir {target}/q; {end}"] if isinstance(end, str) else end
        list(runner.sweep(command, ops=("mkdir",), errors=("EIO",), kills=False, target=target))
        (line,) = said
        assert line.partition("; without a fault it failed: ")[2] == how
