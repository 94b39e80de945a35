"""What the documentation tells people to type is typed, and ends and says what the page says."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_linkmode import cli, namespaces, rungs
from pytest_linkmode.config import Settings
from pytest_linkmode.faults.support import unavailable
from pytest_linkmode.filesystems import kind_of, missing, survey
from tests.consoles import PARSED, TRIED, Scene
from tests.documentation import PAGES, ROOT, answers, essence, typed
from tests.patience import SECONDS

SHOWN = answers()

ASKS = (["--help"], ["--fixtures"], ["--markers"])
"""What runs no test, and needs no process of its own."""


def test_every_command_is_tried_or_there_is_a_reason_why_not() -> None:
    written = {command for page in PAGES for command in typed(page)}
    assert len(written) > 40
    assert written - TRIED.keys() - PARSED.keys() == set()
    assert (TRIED.keys() | PARSED.keys()) - written == set()
    assert TRIED.keys() & PARSED.keys() == set()


def test_all_output_that_is_shown_is_that_of_a_command_that_is_tried() -> None:
    assert len(SHOWN) > 1
    assert SHOWN.keys() <= TRIED.keys()


@pytest.mark.parametrize("command", TRIED)
def test_what_a_page_says_to_type_does_what_it_says(
    command: str,
    tmp_path: Path,
    pytester: pytest.Pytester,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = TRIED[command]
    _need(scene, guests=command.startswith("pytest"))
    place = pytester.path
    for prepare in scene.given:
        prepare(place)
    capfd.readouterr()
    shown = SHOWN.get(command, "")
    for theirs, ours in scene.instead.items():
        command, shown = command.replace(theirs, ours), shown.replace(theirs, ours)
    program, *rest = shlex.split(command)
    if program == "linkmode" and rest[0] != "run":
        monkeypatch.chdir(place)
        try:
            status = int(cli.main(rest))
        except SystemExit as ended:  # --help
            status = int(ended.code or 0)
        said = "".join(capfd.readouterr())
    elif rest in ASKS:
        result = pytester.runpytest_inprocess(*rest)
        status, said = result.ret, str(result.stdout)
    else:
        status, said = _process(program, [*rest, *scene.narrowed], scene, place, tmp_path)
    assert status == scene.status, said
    for line in (*scene.prints, *shown.splitlines()):
        assert essence(line) in essence(said), said
    assert [name for name in scene.leaves if not (place / name).exists()] == []


LOOKING = """
import sys
from pytest_linkmode import ladder
from pytest_linkmode.config import Settings
print(ladder.look(sys.argv[1], Settings()) or "")
"""


def _need(scene: Scene, *, guests: bool) -> None:
    """Skip where the machine cannot make what the command asks for by name, or only for tests of
    pytest in `guests`.
    """
    only_guests = {fact.kind.name for fact in survey(Settings()) if fact.provider == rungs.UML}
    for name in scene.needs:
        if name in only_guests and not guests:
            pytest.skip(f"{name}: in guests of pytest only")
        if name in rungs.RUNGS:
            lacking = _lacking(name)
        else:
            lacking = str(missing(kind_of(name), Settings()) or "")
        if lacking:
            pytest.skip(lacking)
    if scene.faults and (refused := unavailable()) is not None:
        pytest.skip(str(refused))


def _lacking(rung: str) -> str:
    """Return why the machine has no such rung, as who types a command there would be told: this
    process may have threads, with which it could take no user namespace.
    """
    asked = subprocess.run(
        [sys.executable, "-c", LOOKING, rung],
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != namespaces.VARIABLE},
    )
    return asked.stdout.strip()


def _process(
    program: str, rest: list[str], scene: Scene, place: Path, tmp_path: Path
) -> tuple[int, str]:
    """Type it as in a shell of its own, in which the reader's programs are on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, script in scene.programs.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    (tmp_path / "tmp").mkdir()
    foreign = (namespaces.VARIABLE, "VIRTUAL_ENV")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and not name.startswith(("PYTEST_", "UV_"))
    }
    path = (str(programs), os.path.dirname(sys.executable), environment["PATH"])
    environment |= {
        "PATH": os.pathsep.join(path),
        "TMPDIR": str(tmp_path / "tmp"),
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }
    python = {
        "linkmode": ["-m", "pytest_linkmode"],
        "pytest": ["-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"],
        "python": [],
    }
    ran = subprocess.run(
        [sys.executable, *python[program], *rest],
        cwd=ROOT if "scripts" in " ".join(rest) else place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return ran.returncode, ran.stdout
