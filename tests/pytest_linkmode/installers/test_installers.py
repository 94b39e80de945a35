"""The matrix of installers: what is asked for, what a cell shows, what is made of cells.

Programs that come from an index are not run here, but for uv, which the tests have anyway, and cp,
which every machine has; the whole matrix is `run-matrix --installers`.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from linker.cli import Status
from linker.modes import LinkMode
from linker.policies import ALL
from pytest_linkmode import cli, namespaces
from pytest_linkmode.errors import LinkmodeError
from pytest_linkmode.faults.log import Call
from pytest_linkmode.installers import kit as kits
from pytest_linkmode.installers import (
    known,
    matrix,
    observing,
    pages,
    predicting,
    programs,
    sample,
    scenarios,
    scores,
)
from pytest_linkmode.installers.disturbing import AS_USER
from pytest_linkmode.installers.matrix import Cell
from pytest_linkmode.installers.scenarios import Scenario
from pytest_linkmode.layouts import Layout
from pytest_linkmode.processes import CommandFailed
from tests.linker import users

BY_NAME = {program.name: program for program in programs.PROGRAMS}


# --- the tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.name)
def test_every_program_has_a_pinned_version_and_a_policy_for_each_mode(
    program: programs.Program,
) -> None:
    assert {mode.policy for mode in program.modes} <= set(ALL)
    assert len({mode.word for mode in program.modes}) == len(program.modes)
    assert matrix.version_of(program)


def test_a_policy_has_the_default_that_the_real_program_has() -> None:
    first: dict[str, LinkMode] = {}
    for program in programs.PROGRAMS:
        for mode in program.modes:
            first.setdefault(mode.policy, mode.asks)
    assert {name: ALL[name].default_on("linux") for name in first} == first
    assert first["yarn"] is LinkMode.COPY


def test_whoever_has_a_policy_is_run_or_it_is_said_why_not() -> None:
    held = {
        mode.policy
        for program in programs.PROGRAMS
        for version in ("8.32", "9.1", "9.2", "9.9")
        for mode in program.at(version).modes
    }
    assert held | set(programs.NOT_RUN) == set(ALL)
    assert not held & set(programs.NOT_RUN)


def test_every_file_that_is_downloaded_has_a_hash() -> None:
    with open(kits.REQUIREMENTS, encoding="utf-8") as file:
        text = file.read().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip()]
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    with open(kits.LOCK, encoding="utf-8") as file:
        locked = json.load(file)["packages"]
    entries = {path: entry for path, entry in locked.items() if path}
    assert all(entry["integrity"].startswith("sha512-") for entry in entries.values())
    assert not any("resolved" in entry for entry in entries.values())


def test_the_versions_stand_in_one_file_and_the_others_follow_it() -> None:
    versions = kits.versions()
    with open(kits.REQUIREMENTS, encoding="utf-8") as file:
        locked = dict(re.findall(r"^([\w.-]+)==([\w.]+)", file.read(), re.M))
    assert versions["python"].items() <= locked.items()
    named = {(each.index, each.pin) for each in programs.PROGRAMS if each.index}
    assert named <= {(index, name) for index, names in versions.items() for name in names}
    with open(kits.LOCK, encoding="utf-8") as file:
        packages = json.load(file)["packages"]
    with open(os.path.join(kits.HERE, "package.json"), encoding="utf-8") as file:
        described = json.load(file)
    asked = {**described["dependencies"], **described["optionalDependencies"]}
    assert {name: text.rpartition("@")[2] for name, text in asked.items()} == versions["npm"]
    for name, version in versions["npm"].items():
        assert packages[f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.name)
def test_a_policy_names_the_version_that_it_is_held_against(program: programs.Program) -> None:
    for mode in program.modes if program.index else ():
        source = ALL[mode.policy].source
        assert re.search(rf"(?<![\d.]){re.escape(matrix.version_of(program))}(?!\.?\d)", source)


def test_what_is_read_and_not_run_names_the_commit_that_was_read() -> None:
    for name in programs.NOT_RUN:
        assert re.search(r" at [0-9a-f]{7}\b", ALL[name].source), name


def test_the_pages_of_the_documentation_are_those_of_the_pinned_versions_and_of_these_cells() -> (
    None
):
    docs = Path(__file__).parents[3] / "docs"
    kept = json.loads((docs / "installers.json").read_text())
    assert kept["room"] == matrix.ROOM, "run the whole matrix, and write its pages anew"
    page = (docs / "installers.md").read_text()
    assert ", the whole matrix." in page
    for program in programs.PROGRAMS:
        if program.index:
            version = matrix.version_of(program)
            assert kept["versions"][program.name] == version
            assert f"| {program.name} | {version} | " in page
    wanted = {
        (one.program, mode.word, one.layout, scenario.name)
        for one in matrix.asked(quick=False)
        for mode in BY_NAME[one.program].modes
        for scenario in scenarios.scenarios(mode.asks, one.layout, depth=one.depth)
    }
    assert {tuple(line[:4]) for line in kept["cells"]} == wanted


def test_the_matrix_has_every_program_and_a_quick_one_has_fewer_cells() -> None:
    whole, quick = list(matrix.asked(quick=False)), list(matrix.asked(quick=True))
    assert {one.program for one in whole} == {one.program for one in quick} == set(BY_NAME)
    assert len(quick) < len(whole) / 2
    one = list(matrix.asked(quick=False, programs=["uv"], chosen=["ext4"]))
    assert one == [matrix.Asked("uv", "ext4", 2)]


# --- the sample -------------------------------------------------------------------------------


def test_the_sample_is_the_same_in_every_package(tmp_path: Path) -> None:
    with zipfile.ZipFile(sample.write_wheel(str(tmp_path))) as archive:
        wheel = {name: archive.read(name) for name in archive.namelist()}
    record = wheel.pop(f"{sample.INFO}/RECORD")
    assert wheel == {name: content for name, (content, _) in sample.wheel_files().items()}
    assert all(name.encode() in record for name in wheel)
    with tarfile.open(sample.write_tarball(str(tmp_path))) as archive_of_npm:
        names = {entry.name: entry.mode for entry in archive_of_npm}
    assert names == {f"package/{name}": bits for name, (_, bits) in sample.package_files().items()}


def test_every_file_of_the_sample_is_known_by_its_bytes(tmp_path: Path) -> None:
    files = sample.wheel_files()
    sample.write_tree(str(tmp_path), files)
    assert {sample.digest(str(tmp_path / name)) for name in files} == set(sample.digests(files)), (
        "no two files are alike"
    )
    assert all(len(content) >= sample.LARGE // 2 for content, _ in files.values())
    tool = tmp_path / sample.PACKAGE / sample.EXECUTABLE
    assert stat.S_IMODE(tool.stat().st_mode) == 0o755
    assert int(tool.stat().st_mtime) == sample.SECONDS


# --- scenarios --------------------------------------------------------------------------------


def test_a_position_is_counted_in_the_calls_of_the_program() -> None:
    def nth(position: str) -> int | None:
        return Scenario("fault", "clone", "EIO", position).nth(9)

    assert [nth(each) for each in ("first", "middle", "last", "every")] == [1, 5, 9, None]


def test_the_reference_linker_meets_the_fault_at_the_same_place(tmp_path: Path) -> None:
    fault = Scenario("fault", "hardlink", "EMLINK", "last")
    (within,) = fault.faults_within(str(tmp_path), 8, 12)
    assert (within.nth, within.path) == (8, f"{os.path.realpath(tmp_path)}/*")
    place = programs.Place(kits.Kit("/k"), "/c", "/s", "/a")
    (outside,) = fault.faults(range(1, 13), place)
    assert str(outside) == "hardlink:EMLINK:nth=12:below=/a/target"
    assert Scenario("plain").faults((), place) == ()
    assert Scenario("plain").faults_within("/", 3, 3) == ()


def test_copies_are_meant_wherever_they_are_put_together() -> None:
    place = programs.Place(kits.Kit("/k"), "/c", "/s", "/a")
    within = {
        f"{place.target}/linkmode_sample/part-0.js": True,
        f"{place.temporary}/x/linkmode_sample/part-0.js": True,
        f"{place.target}/.stage/1/tool.js": True,
        "/c/linkmode_sample/part-0.js": False,
    }
    for path, meant in within.items():
        assert scenarios.meant(Call("copy", 1, "write", (path,), 1), place) is meant, path
        linked = path.startswith(place.target)
        assert scenarios.meant(Call("hardlink", 1, "link", ("/s/a", path), 1), place) is linked
    for position, number in (("first", 3), ("middle", 5), ("last", 9)):
        (fault,) = Scenario("fault", "copy", "EIO", position).faults((3, 5, 9), place)
        assert str(fault) == f"copy:EIO:nth={number}:below=/a"
    (kill,) = Scenario("kill", "copy", "", "middle").faults((3, 5, 9), place)
    assert str(kill) == "copy:kill-after:nth=5:below=/a"


def test_every_mode_meets_its_errors_at_the_first_the_middle_and_the_last_file_and_a_kill() -> None:
    for mode in LinkMode:
        op = scenarios.OPS[mode]
        names = {each.name for each in scenarios.scenarios(mode, "btrfs", depth=2)}
        assert f"kill:{op}:middle" in names
        for error, position in itertools.product(scenarios.ERRORS[op], ("first", "middle", "last")):
            assert f"fault:{op}:{error}:{position}" in names


def test_odd_files_are_made_where_the_filesystem_knows_them() -> None:
    def kinds(layout: str) -> set[str]:
        return {each.kind for each in scenarios.scenarios(LinkMode.COPY, layout, depth=2)}

    assert kinds("btrfs") - kinds("ext4") == {scenarios.NOCOW}
    assert kinds("ext4") - kinds("tmpfs") == {scenarios.IMMUTABLE}
    assert kinds("btrfs+subvolume") == kinds("btrfs:tmpfs") == kinds("btrfs")


def test_deeper_is_more_and_names_differ() -> None:
    for mode in LinkMode:
        names = [
            [each.name for each in scenarios.scenarios(mode, "btrfs", depth=n)] for n in range(3)
        ]
        assert names[0] == ["plain"]
        assert len(names[0]) <= len(names[1]) <= len(names[2])
        assert set(names[0]) <= set(names[1]) <= set(names[2])
        assert len(set(names[2])) == len(names[2])


# --- cells, with the programs that are here -----------------------------------------------------


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> kits.Kit:
    """A kit in which there is the uv of the tests, and nothing else."""
    import uv

    directory = tmp_path_factory.mktemp("kit")
    (directory / "python" / "bin").mkdir(parents=True)
    (directory / "python" / "bin" / "uv").symlink_to(os.fsdecode(uv.find_uv_bin()))
    return kits.Kit(str(directory))


Open = Callable[[str], observing.Bench]


@pytest.fixture
def opened(kit: kits.Kit, linkmode_layout: Layout) -> Open:
    """Open the bench of a program in the layout of the test."""
    return lambda name: observing.Bench(kit, linkmode_layout, BY_NAME[name])


def said(name: str, word: str, scenario: Scenario, layout: Layout, calls: int) -> str:
    program = BY_NAME[name]
    mode = next(mode for mode in program.modes if mode.word == word)
    return str(predicting.predict(program, mode, scenario, layout, calls))


@pytest.mark.linkmode(layout=["tmpfs"])
@pytest.mark.parametrize("name", ["uv", "cp", "reference"])
def test_a_program_undisturbed_does_what_its_policy_says(
    opened: Open, name: str, kit: kits.Kit, linkmode_layout_factory: Any, linkmode_layout: Layout
) -> None:
    bench = opened(name)
    for mode in bench.program.modes:
        seen = bench.cell(mode, Scenario("plain"))
        assert seen is not None
        told = predicting.predict(
            bench.program,
            mode,
            Scenario("plain"),
            linkmode_layout_factory(linkmode_layout.name),
            seen.calls,
        )
        reflinks = "reflink" in linkmode_layout.can
        differs = predicting.differs(told, seen, ALL[mode.policy], mode.asks, reflinks=reflinks)
        cell = cell_of(program=name, mode=mode.word, layout=linkmode_layout.name, differs=differs)
        assert not differs or known.cause_of(cell), (mode.word, differs, seen.said)
        assert not seen.polluted
        assert seen.exec_bits


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_fault_in_the_middle_ends_uv_with_half_a_package(opened: Open) -> None:
    bench = opened("uv")
    mode = next(mode for mode in bench.program.modes if mode.word == "hardlink")
    seen = bench.cell(mode, Scenario("fault", "hardlink", "EIO", "middle"))
    assert seen is not None
    assert (seen.ended, seen.fired) == ("failed", 1)
    assert seen.found == {"hardlink": 4}
    assert seen.missing == 5
    assert bench.cell(mode, Scenario("fault", "clone", "EIO", "first")) is None, "no such call"


@pytest.mark.linkmode(layout=["tmpfs"])
@pytest.mark.parametrize(
    ("name", "word", "position", "told"),
    [
        ("uv", "hardlink", "first", "copy"),
        ("uv", "hardlink", "middle", "fails, half a package left"),
        ("cp", "link", "middle", "fails, half a package left"),
    ],
)
def test_a_link_of_which_something_is_missing_is_an_error_of_the_mode_for_real_programs(
    opened: Open, linkmode_layout_factory: Any, name: str, word: str, position: str, told: str
) -> None:
    bench = opened(name)
    scenario = Scenario("fault", "hardlink", "ENOENT", position)
    seen = bench.cell(mode_of(bench, word), scenario)
    assert seen is not None
    assert (seen.fired, str(predicting.observed(seen))) == (1, told)
    assert said(name, word, scenario, linkmode_layout_factory("tmpfs"), seen.calls) == told


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_fallback_that_is_told_is_found_and_so_is_a_wrong_one(opened: Open) -> None:
    bench = opened("uv")
    clone = bench.program.modes[0]
    seen = bench.cell(clone, Scenario("fault", "hardlink", "EXDEV", "every"))
    assert seen is not None
    assert seen.found == {"copy": 9}
    assert "falling back" in seen.told
    cell = cell_of(asks="clone", seen=seen.plain())
    assert "hardlink" in seen.said
    rows = {row.name: row.of(cell) for row in scores.PROPERTIES}
    assert rows["says that it fell back"] is True
    assert rows["names the mode that failed, if it says anything"] is False


@pytest.mark.linkmode(layout=["tmpfs"])
def test_the_reference_linker_is_whole_after_a_kill_and_stays_in_its_target(opened: Open) -> None:
    bench = opened("reference")
    mode = next(mode for mode in bench.program.modes if mode.word == "hardlink")
    killed = bench.cell(mode, Scenario("kill", "hardlink", "", "middle"))
    assert killed is not None
    assert (killed.ended, killed.resumed, killed.left) == ("killed", True, [])
    for kind in (scenarios.SYMLINKED, scenarios.HARDLINKED):
        hostile = bench.cell(mode, Scenario(kind))
        assert hostile is not None
        assert hostile.escaped == [], kind


def mode_of(bench: observing.Bench, word: str) -> programs.Mode:
    return next(mode for mode in bench.program.modes if mode.word == word)


DISTURBED: tuple[tuple[str, dict[str, int]], ...] = (
    (scenarios.NESTED, {"copy": 7, "clone": 2}),
    (scenarios.MOUNTED_FILE, {"clone": 9}),
    (scenarios.NOCOW, {"clone": 8, "copy": 1}),
    (scenarios.IMMUTABLE, {"clone": 9}),
    (scenarios.OWNER, {"clone": 9}),
)


@pytest.mark.linkmode(layout=["btrfs"])
@pytest.mark.parametrize(("kind", "found"), DISTURBED, ids=[kind for kind, _ in DISTURBED])
def test_what_is_in_the_way_is_there_for_the_program_and_its_policy_and_gone_afterwards(
    opened: Open, linkmode_layout_factory: Any, kind: str, found: dict[str, int]
) -> None:
    bench = opened("reference")
    mode = mode_of(bench, "clone")
    before = snapshot(bench.layout.source)
    seen = bench.cell(mode, Scenario(kind))
    assert seen is not None
    assert (seen.ended, seen.found, seen.polluted) == ("done", found, []), seen.said
    told = predicting.predict(
        bench.program, mode, Scenario(kind), linkmode_layout_factory("btrfs"), 0
    )
    assert str(told) == " and ".join(sorted(found))
    assert snapshot(bench.layout.source) == before
    for path in bench.layout.source.rglob("part-3.js"):
        path.unlink()  # neither immutable nor a mount point


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
    return {name: each for name, each in found.items() if not os.path.isdir(name)}


@users.ROOT_ONLY
@pytest.mark.linkmode(layout=["tmpfs"])
@pytest.mark.parametrize(
    ("name", "word", "ended"),
    [("reference", "hardlink", "done"), ("cp", "reflink=never", "failed")],
)
def test_a_file_of_another_owner_in_the_target_is_replaced_or_cannot_be_written(
    opened: Open, name: str, word: str, ended: str
) -> None:
    bench = opened(name)
    seen = bench.cell(mode_of(bench, word), Scenario(scenarios.THEIRS))
    assert seen is not None
    assert (seen.ended, seen.missing) == (ended, int(ended == "failed")), seen.said
    assert ("Permission denied" in seen.said) is (ended == "failed")


@pytest.mark.linkmode(layout=["tmpfs"])
def test_the_reference_linker_survives_a_race_and_follows_nobody_out(opened: Open) -> None:
    bench = opened("reference")
    mode = mode_of(bench, "hardlink")
    for position in (scenarios.TWIN, scenarios.APPEARS):
        seen = bench.cell(mode, Scenario(scenarios.RACE, position=position))
        assert seen is not None
        assert (seen.fired, seen.ended, seen.missing) == (1, "done", 0), (position, seen.said)
    swapped = bench.cell(mode, Scenario(scenarios.RACE, position=scenarios.SWAPPED))
    assert swapped is not None
    assert (swapped.fired, swapped.escaped) == (1, [])


@pytest.mark.linkmode(layout=["tmpfs"])
def test_who_loses_a_race_is_seen_to(opened: Open) -> None:
    bench = opened("cp")
    mode = mode_of(bench, "link")
    twin = bench.cell(mode, Scenario(scenarios.RACE, position=scenarios.TWIN))
    assert twin is not None
    assert (twin.ended, twin.missing) == ("failed", 0)
    appears = bench.cell(mode, Scenario(scenarios.RACE, position=scenarios.APPEARS))
    assert appears is not None
    assert (appears.ended, appears.missing, appears.damaged) == ("failed", 1, 0)
    swapped = bench.cell(mode, Scenario(scenarios.RACE, position=scenarios.SWAPPED))
    assert swapped is not None
    assert "tool.js" in swapped.escaped
    assert swapped.left == [], "what the other one moved is not of the program"
    rows = {row.name: row for row in scores.PROPERTIES}
    cell = cell_of(program="cp", mode="link", scenario="race:swapped", seen=swapped.plain())
    assert rows["follows nothing out of a hostile target"].of(cell) is False
    cell = cell_of(program="cp", mode="reflink=auto", scenario="race:twin", seen=twin.plain())
    assert rows["survives a race"].of(cell) is False


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_program_that_hangs_or_crashes_is_a_cell_that_says_so(
    kit: kits.Kit, linkmode_layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "TIMEOUT", 0.2)

    def shown(script: str) -> str:
        program = replace(
            BY_NAME["cp"], command=lambda place, mode: programs.Command(("sh", "-c", script))
        )
        bench = observing.Bench(kit, linkmode_layout_of(), program)
        seen = bench.cell(program.modes[0], Scenario("plain"))
        assert seen is not None
        return str(predicting.observed(seen))

    def linkmode_layout_of() -> Layout:
        for path in linkmode_layout.source.iterdir():
            shutil.rmtree(path)
        return linkmode_layout

    assert shown("sleep 60") == "hangs, nothing left"
    assert shown("kill -SEGV $$") == "crashes, nothing left"
    assert shown("true") == "says that it is done; files are missing"


def test_a_program_that_a_fault_makes_hang_is_hit_and_differs_and_no_third_cell_waits_for_it(
    tmp_path: Path, kit: kits.Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'ln "$0/plain/linkmode_sample/part-1.js" "$1/part-1.js" || exec sleep 60'

    def waiting(place: programs.Place, mode: programs.Mode) -> programs.Command:
        return programs.Command(("sh", "-c", script, place.supply, place.target))

    link = next(mode for mode in BY_NAME["cp"].modes if mode.word == "link")
    program = replace(BY_NAME["cp"], command=waiting, modes=(link,), policy_of=None)
    monkeypatch.setattr(observing, "TIMEOUT", 1.0)
    monkeypatch.setattr(matrix, "there", lambda name: (program, "1"))
    asked = matrix.Asked("cp", "tmpfs", 2)
    matrix.Part(str(tmp_path), kit, lambda _: None).run([asked])
    cells = matrix.collect(str(tmp_path), [asked])
    hung = [cell for cell in cells if cell.shown.startswith("hangs")]
    assert [cell.scenario for cell in hung] == [
        "fault:hardlink:EXDEV:every",
        "fault:hardlink:EXDEV:first",
    ]
    assert all(cell.seen and cell.seen["fired"] == 1 for cell in hung)
    assert {cell.differs for cell in hung} == {"hung instead of failed"}
    rest = cells[cells.index(hung[-1]) + 1 :]
    assert {cell.shown for cell in rest} == {"not run"}
    assert all("cp hung in 2 cells on tmpfs" in cell.why for cell in rest)
    monkeypatch.setattr(observing.Bench, "cell", lambda *_: pytest.fail("waits once more"))
    matrix.Part(str(tmp_path), kit, lambda _: None).run([asked])


@pytest.mark.linkmode(layout=["tmpfs"])
def test_what_is_written_through_a_hostile_target_is_seen(
    kit: kits.Kit, linkmode_layout: Layout
) -> None:
    careless = replace(
        BY_NAME["cp"],
        command=lambda place, mode: programs.Command(
            ("cp", "-r", f"{place.supply}/plain/.", place.target)
        ),
    )
    bench = observing.Bench(kit, linkmode_layout, careless)
    through = bench.cell(careless.modes[-1], Scenario(scenarios.HARDLINKED))
    assert through is not None
    assert through.escaped == ["victim was written to"]
    assert not through.missing


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_change_of_the_cache_is_seen(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = opened("uv")
    mode = bench.program.modes[-1]
    run = bench._run

    def spoiling(*given: Any) -> Any:
        done = run(*given)
        path = next(iter(bench._origins().values()))
        with open(path, "ab") as file:
            file.write(b"more")
        return done

    monkeypatch.setattr(bench, "_run", spoiling)
    seen = bench.cell(mode, Scenario("plain"))
    assert seen is not None
    assert len(seen.polluted) == 1
    assert bench.spoiled


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_copy_fails_at_the_first_the_middle_and_the_last_file_and_is_killed(opened: Open) -> None:
    bench = opened("uv")
    mode = mode_of(bench, "copy")
    for position, whole in (("first", 0), ("middle", 4), ("last", 8)):
        seen = bench.cell(mode, Scenario("fault", "copy", "EIO", position))
        assert seen is not None
        assert (seen.ended, seen.fired, seen.calls) == ("failed", 1, 9)
        assert sum(seen.found.values()) == whole, position
    killed = bench.cell(mode, Scenario("kill", "copy", "", "middle"))
    assert killed is not None
    assert (killed.ended, killed.fired) == ("killed", 1)
    assert killed.missing > 0
    assert isinstance(killed.resumed, bool)


@pytest.mark.linkmode(layout=["tmpfs"])
def test_the_reference_linker_meets_errors_of_the_copies_in_its_stage(opened: Open) -> None:
    bench = opened("reference")
    seen = bench.cell(mode_of(bench, "copy"), Scenario("fault", "copy", "EIO", "middle"))
    assert seen is not None
    assert (seen.ended, seen.fired, seen.calls, seen.found) == ("failed", 1, 9, {})


@pytest.mark.linkmode(layout=["tmpfs"])
def test_of_copies_only_files_of_the_sample_are_hit(kit: kits.Kit, linkmode_layout: Layout) -> None:
    script = 'cp -r "$0/plain" "$TMPDIR/t"; mv "$TMPDIR/t/"* "$1"; echo > "$1/package.json"'
    command = replace(
        BY_NAME["cp"],
        command=lambda place, mode: programs.Command(
            ("sh", "-c", f"echo > $1/list; {script}; echo > $HOME/log", place.supply, place.target)
        ),
        files=lambda: {**sample.wheel_files(), "package.json": (b"own", 0o644)},
    )
    bench = observing.Bench(kit, linkmode_layout, command)
    seen = bench.cell(command.modes[-1], Scenario("plain"))
    assert seen is not None
    numbers = bench.calls[command.modes[-1].word]["copy"]
    assert (seen.calls, list(numbers)) == (10, list(range(2, 12))), "neither list, log nor project"


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_program_that_copies_elsewhere_first_meets_errors_of_copies_too(
    kit: kits.Kit, linkmode_layout: Layout
) -> None:
    script = 'cp -r "$0/plain" "$TMPDIR/t" && cp -r --preserve=timestamps "$TMPDIR/t/." "$1"'
    program = replace(
        BY_NAME["cp"],
        command=lambda place, mode: programs.Command(
            ("sh", "-c", script, place.supply, place.target)
        ),
    )
    bench = observing.Bench(kit, linkmode_layout, program)
    copying = program.modes[-1]
    first = bench.cell(copying, Scenario("fault", "copy", "ENOSPC", "first"))
    assert first is not None
    assert (first.calls, first.fired, first.found) == (18, 1, {}), "it failed before the target"
    assert first.temporary == ["t"]
    last = bench.cell(copying, Scenario("fault", "copy", "ENOSPC", "last"))
    assert last is not None
    assert (last.fired, last.missing) == (1, 1)


@pytest.mark.linkmode(layout=["tmpfs"])
@pytest.mark.parametrize(
    ("script", "told", "effect"),
    [
        ("echo > $TMPDIR/part", {"temporary": ["part"]}, "left temporary files"),
        ("mkdir ~/.d; echo > ~/.d/log", {"home": [".d/log"]}, "wrote into the home directory"),
        ("echo > $0/../more", {"beside": ["more"]}, "wrote outside the target"),
        ("echo > $1/../more", {"beside": ["more"]}, "wrote outside the target"),
    ],
)
def test_what_is_written_around_the_target_and_the_cache_is_seen(
    kit: kits.Kit, linkmode_layout: Layout, script: str, told: dict[str, list[str]], effect: str
) -> None:
    program = replace(
        BY_NAME["cp"],
        command=lambda place, mode: programs.Command(
            ("sh", "-c", f'{script}; cp -a "$1/plain/." "$0"', place.target, place.supply)
        ),
    )
    bench = observing.Bench(kit, linkmode_layout, program)
    for kind in ("plain", "umask"):
        seen = bench.cell(program.modes[0], Scenario(kind))
        assert seen is not None
        assert (seen.ended, seen.missing) == ("done", 0)
        found = {"temporary": seen.temporary, "home": seen.home, "beside": seen.beside}
        assert {name: names for name, names in found.items() if names} == told
        cell = cell_of(program="cp", mode="reflink=auto", scenario=kind, seen=seen.plain())
        rows = {row.name: row.of(cell) for row in scores.PROPERTIES}
        tidy = "temporary" not in told
        assert rows["writes to nothing but its target and its caches"] is not tidy
        assert rows["leaves nothing of its own behind after success"] is tidy
        assert next(each.partition(":")[0] for each in pages._effects(cell)) == effect


def test_a_cache_in_the_home_directory_is_a_cache() -> None:
    rows = {row.name: row for row in scores.PROPERTIES}
    elsewhere = rows["writes to nothing but its target and its caches"]
    assert elsewhere.of(cell_of(seen=plain_of(home=[".cache/pnpm/list"]))) is True
    assert elsewhere.of(cell_of(seen=plain_of(home=[".cachet/list"]))) is False


@pytest.mark.linkmode(layout=["tmpfs"])
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo more >> {}/plain/linkmode_sample/part-3.js", "part-3.js: other bytes"),
        ("chmod 600 {}/plain/linkmode_sample/part-3.js", "part-3.js: other bits or time"),
        ("rm {}/*.whl", "linkmode_sample-1.0.0-py3-none-any.whl: gone"),
    ],
)
def test_a_change_of_what_is_linked_without_a_cache_is_seen(
    kit: kits.Kit, linkmode_layout: Layout, script: str, told: str
) -> None:
    careless = replace(
        BY_NAME["cp"],
        command=lambda place, mode: programs.Command(("sh", "-c", script.format(place.supply))),
    )
    bench = observing.Bench(kit, linkmode_layout, careless)
    seen = bench.cell(careless.modes[0], Scenario("plain"))
    assert seen is not None
    assert seen.polluted == [told]
    assert bench.spoiled, "the next cell gets another"


@pytest.mark.linkmode(layout=["tmpfs"])
def test_a_program_that_cannot_be_warmed_says_so(kit: kits.Kit, linkmode_layout: Layout) -> None:
    broken = replace(
        BY_NAME["uv"],
        command=lambda place, mode: programs.Command(("sh", "-c", "echo no luck >&2; exit 3")),
    )
    with pytest.raises(LinkmodeError, match=r"cannot be warmed[^$]*no luck"):
        observing.Bench(kit, linkmode_layout, broken)


# --- agreement --------------------------------------------------------------------------------


def seen_as(ended: str = "done", **found: int) -> observing.Observed:
    return observing.Observed(ended=ended, found=found)


def test_a_copy_that_the_kernel_cloned_agrees_where_nobody_promised_otherwise() -> None:
    copied = predicting.Predicted("done", ("copy",), left=True)

    def differs(name: str, *, reflinks: bool) -> str:
        seen = seen_as(clone=9)
        return predicting.differs(copied, seen, ALL[name], LinkMode.COPY, reflinks=reflinks)

    assert differs("uv", reflinks=True) == ""
    assert differs("uv", reflinks=False) == "clone instead of copy"
    assert differs("pip", reflinks=True) == "clone instead of copy"


def test_what_ends_otherwise_differs_and_so_does_what_is_left() -> None:
    failing = predicting.Predicted("failed", (), left=False)

    def differs(seen: observing.Observed, asks: LinkMode = LinkMode.CLONE) -> str:
        return predicting.differs(failing, seen, ALL["uv"], asks, reflinks=False)

    assert differs(seen_as(clone=9)) == "done instead of failed"
    assert differs(seen_as("failed")) == ""
    assert differs(seen_as("failed", clone=2)) == "something is left"
    assert differs(seen_as("failed", symlink=2), LinkMode.SYMLINK) == ""


def test_the_beginning_of_a_file_is_nothing_to_who_promises_no_whole_names() -> None:
    failing = predicting.Predicted("failed", (), left=False)
    seen = observing.Observed(ended="failed", damaged=3)
    assert str(predicting.observed(seen)) == "fails, beginnings of files left"

    def differs(name: str) -> str:
        return predicting.differs(failing, seen, ALL[name], LinkMode.CLONE, reflinks=False)

    assert differs("coreutils-always") == ""
    assert differs("reference") == "something is left"


# --- what is made of cells ----------------------------------------------------------------------


def cell_of(**given: Any) -> Cell:
    usual: dict[str, Any] = {
        "program": "uv",
        "version": "1",
        "mode": "clone",
        "asks": "clone",
        "policy": "uv",
        "layout": "btrfs",
        "scenario": "plain",
    }
    return Cell(**{**usual, **given})


def plain_of(**given: Any) -> dict[str, Any]:
    return {**observing.Observed().plain(), **given}


def test_what_a_cell_shows_is_told_when_it_changes_with_a_version(results: pages.Results) -> None:
    before = json.loads(pages.cells_text(pages.cells(results)))
    assert before == pages.cells(results)
    assert len(pages.changes(results, before)) == 1, "the head alone"
    newer = [
        replace(cell, version="2", shown="copy" if cell.layout == "btrfs" else cell.shown)
        for cell in results.cells
        if cell.program == "uv"
    ]
    now = replace(results, cells=newer)
    assert pages.changes(now, before)[1:] == [
        ["uv", "1 -> 2", "clone on btrfs, plain", "clone", "copy"],
        [
            *("uv", "1 -> 2", "clone on btrfs, fault:clone:EAGAIN:middle"),
            *("fails, half a package left", "copy"),
        ],
    ]
    alike = replace(results, cells=[replace(newer[0], shown="clone")])
    assert pages.changes(alike, before)[1:] == [
        ["uv", "1 -> 2", "everywhere", "the same", "the same"]
    ]
    merged = pages.cells(now, before)
    assert merged["versions"] == {"uv": "2", "bun": "1"}
    assert len(merged["cells"]) == len(before["cells"])
    assert pages.cells(replace(now, whole=True), before) == pages.cells(now), "nothing else is"
    text = pages.cells_text(merged)
    assert sum(line.startswith('["uv"') for line in text.splitlines()) == 3, "a line each"


@pytest.fixture
def results() -> pages.Results:
    cells = [
        cell_of(seen=plain_of(found={"clone": 9}), said="clone", shown="clone"),
        cell_of(
            layout="btrfs:tmpfs",
            seen=plain_of(found={"copy": 9}, told="falling back to full copy"),
            said="copy",
            shown="copy",
        ),
        cell_of(
            scenario="fault:clone:EAGAIN:middle",
            seen=plain_of(ended="failed", found={"clone": 4}, missing=5, fired=1),
            said="clone and copy",
            shown="fails, half a package left",
            differs="failed instead of done",
        ),
        cell_of(program="bun", mode="hardlink", asks="hardlink", shown="not run", why="no <npm>"),
    ]
    return pages.Results(cells, datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC), whole=False)


def test_a_property_is_read_off_the_cells_that_speak_of_it(results: pages.Results) -> None:
    board = scores.scoreboard(results.cells)
    assert board["falls back instead of failing"]["uv"].word == "yes"
    assert board["says that it fell back"]["uv"].word == "yes"
    assert board["survives an error of one file"]["uv"].word == "no"
    assert board["survives an error of one file"]["uv"].example.endswith("clone:EAGAIN:middle")
    assert board["leaves nothing of a package after an error"]["uv"].word == "no"
    assert board["works on overlay"]["uv"].word == "-"
    assert {one.word for row in board.values() for name, one in row.items() if name == "bun"} == {
        "-"
    }


def test_where_a_property_does_not_hold_is_told_with_what_was_seen(results: pages.Results) -> None:
    told = {(row[0], row[1]): row[2:] for row in pages.shortcomings(results)[1:]}
    assert told["uv", "survives an error of one file"] == [
        *("0 of 1", "clone on btrfs, fault:clone:EAGAIN:middle", "fails, half a package left"),
    ]
    assert ("uv", "says that it fell back") not in told, "it did"


def test_a_fallback_that_is_not_told_and_one_told_wrongly_are_side_effects(
    results: pages.Results,
) -> None:
    silent = plain_of(found={"copy": 9})
    wrong = plain_of(found={"copy": 9}, told="Failed to hardlink files; falling back to full copy")
    lying = plain_of(found={"clone": 2}, missing=7)
    cells = [
        replace(results.cells[1], scenario=f"{number}", seen=seen)
        for number, seen in enumerate((silent, wrong, lying))
    ]
    told = [row[1:] for row in pages.effects(replace(results, cells=cells))[1:]]
    assert told == [
        ["fell back without saying so", "1", "clone on btrfs:tmpfs, 0"],
        [
            *("named a mode that did not fail", "1"),
            "clone on btrfs:tmpfs, 1: Failed to hardlink files; falling back to full copy",
        ],
        ["said that it was done, with files missing", "1", "clone on btrfs:tmpfs, 2: 7"],
    ]


def test_policies_that_nothing_was_held_against_are_told_with_the_reason(
    results: pages.Results,
) -> None:
    rows = {row[0]: row[1] for row in pages.not_held(results)[1:]}
    assert "uv" not in rows
    assert rows["orogene"] == programs.NOT_RUN["orogene"]
    assert "not in this version" in rows["coreutils-9-2"]


def test_a_matrix_is_only_well_if_every_difference_is_known(results: pages.Results) -> None:
    assert not results.ok
    assert [cell.scenario for cell in results.unknown] == ["fault:clone:EAGAIN:middle"]
    agreeing = replace(results, cells=[replace(each, differs="") for each in results.cells])
    assert agreeing.ok
    assert not replace(results, cells=[]).ok


def test_a_matrix_of_which_nothing_was_run_is_not_well(results: pages.Results) -> None:
    assert pages.headline(results).endswith("for no known reason); 1 of 4 cells could not be run")
    nothing = replace(results, cells=[cell for cell in results.cells if cell.seen is None])
    assert not nothing.ok
    assert pages.headline(nothing) == "nothing was seen: 1 of 1 cells could not be run (no <npm>)"


def test_the_reference_linker_must_hold_every_property(results: pages.Results) -> None:
    fallen = replace(results.cells[2], program="reference", differs="")
    worse = replace(results, cells=[fallen])
    assert worse.reference_fails
    assert not worse.ok
    assert "the reference linker does not hold" in pages.headline(worse)


def test_of_a_whole_matrix_some_cell_must_speak_of_each_property_of_the_reference_linker(
    results: pages.Results,
) -> None:
    alone = replace(results.cells[0], program="reference", differs="")
    part = replace(results, cells=[alone])
    assert part.ok
    whole = replace(part, whole=True)
    assert not whole.ok
    assert "works on overlay" in whole.reference_open
    said = "no cell tells whether the reference linker holds: works on overlay"
    assert said in pages.headline(whole)
    assert said not in pages.headline(part)


def test_a_network_that_was_within_reach_is_told(results: pages.Results) -> None:
    assert "network" not in pages.headline(results)
    cells = [replace(cell, online=True) for cell in results.cells]
    said = pages.headline(replace(results, cells=cells))
    assert said.endswith("; in 3 cells the network was within reach: this user may not leave it")


def test_a_program_is_listed_with_the_policies_of_its_version_and_the_cells_that_were_run() -> None:
    seen = plain_of(found={"copy": 9})
    cells = [cell_of(program="cp", version="9.1", seen=seen), cell_of(program="cp", seen=None)]
    results = pages.Results(cells, datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC), whole=True)
    heads, row = pages.programs(results)
    told = dict(zip(heads, row, strict=True))
    assert (told["policy"], told["cells"]) == ("coreutils-9-0, coreutils-always", "1")


def test_the_page_says_it_all_and_escapes_what_programs_said(results: pages.Results) -> None:
    page = pages.page(results)
    assert "2026-11-21 00:00 UTC" in page
    assert "no &lt;npm&gt;" in page
    assert "no <npm>" not in page
    text = pages.markdown(results)
    assert "a part of the matrix" in text
    assert "| uv | clone | btrfs fault:clone:EAGAIN:middle | clone and copy |" in text
    assert "2 of 3 predictions agree, 1 differ" in text
    for name in ("orogene", "rattler", "cpython"):
        assert f"| {name} |" in text
    plain = pages.plain(results)
    assert plain["format"] == "linkmode-matrix"
    assert [each["program"] for each in plain["cells"]] == ["uv", "uv", "uv", "bun"]


def test_a_known_difference_has_a_cause() -> None:
    cell = cell_of(program="pnpm-12", mode="auto", scenario="umask", shown="copy", differs="copy")
    assert "umask" in known.cause_of(cell)
    for shown in ("hangs, nothing left", "crashes, half a package left", "symlink", "not run"):
        assert known.cause_of(replace(cell, shown=shown)) == "", "no excuse for anything else"
    assert known.cause_of(cell_of(differs="anything")) == ""
    assert all(each.cause and each.program and each.shown for each in known.KNOWN)
    assert not any(pattern.startswith("*") for each in known.KNOWN for pattern in each.shown)


def test_a_cell_has_another_key_when_what_it_depends_on_changes() -> None:
    program = BY_NAME["uv"]
    mode = program.modes[0]
    key = matrix.key_of(program, "1", mode, "btrfs", "plain")
    assert key == matrix.key_of(program, "1", mode, "btrfs", "plain")
    others = {
        matrix.key_of(program, "2", mode, "btrfs", "plain"),
        matrix.key_of(program, "1", program.modes[1], "btrfs", "plain"),
        matrix.key_of(program, "1", replace(mode, asks=LinkMode.COPY), "btrfs", "plain"),
        matrix.key_of(program, "1", mode, "ext4", "plain"),
        matrix.key_of(program, "1", mode, "btrfs", "umask"),
    }
    assert len({key, *others}) == 6


def test_a_cell_is_held_to_its_policy_its_mode_and_the_code_that_follows_them(
    tmp_path: Path,
) -> None:
    mode = BY_NAME["uv"].modes[0]
    changed = ({"policy": "pip"}, {"asks": LinkMode.COPY}, {"strict": True})
    held = {matrix.held_to(mode), *(matrix.held_to(replace(mode, **each)) for each in changed)}
    assert len(held) == 4
    code = tmp_path / "module.py"
    digests = set()
    for text in ("waives = 1\n", "waives = 2\n"):
        code.write_text(text)
        digests.add(matrix.code_of(str(tmp_path)))
    assert len(digests) == 2


def test_a_cell_that_was_run_is_held_against_another_policy_without_being_run_again(
    tmp_path: Path, kit: kits.Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, said = matrix.Asked("cp", "tmpfs", 0), list[str]()
    matrix.Part(str(tmp_path), kit, said.append).run([asked])
    before = matrix.collect(str(tmp_path), [asked])
    assert not any(cell.differs for cell in before)

    failing = predicting.Predicted("failed", (), left=False)
    monkeypatch.setattr(matrix, "held_to", lambda _: "another")
    monkeypatch.setattr(predicting, "predict", lambda *_: failing)
    monkeypatch.setattr(observing.Bench, "cell", lambda *_: pytest.fail("it was seen already"))
    for _ in range(2):
        matrix.Part(str(tmp_path), kit, said.append).run([asked])
    after = matrix.collect(str(tmp_path), [asked])
    assert [cell.seen for cell in after] == [cell.seen for cell in before]
    assert {cell.said for cell in after} == {"fails, nothing left"}
    assert all(cell.online for cell in after), "nobody has left the network here"
    assert {cell.differs for cell in after} == {"", "done instead of failed"}
    assert said[-1] == f"cp on tmpfs: {len(after)} kept"


# --- the whole way ------------------------------------------------------------------------------


def had(directory: Path, *indexes: str) -> None:
    """Say of the programs of these indexes that they are there already."""
    for index, pins in (("python", kits.REQUIREMENTS), ("npm", kits.LOCK)):
        if index in indexes:
            (directory / index).mkdir(parents=True)
            digest = hashlib.sha256(Path(pins).read_bytes()).hexdigest()
            (directory / index / ".pins").write_text(digest)


def test_the_quick_matrix_writes_its_pages_and_runs_a_cell_only_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kit: kits.Kit
) -> None:
    had(tmp_path, "python", "npm")
    (tmp_path / "python" / "bin").mkdir()
    (tmp_path / "python" / "bin" / "uv").symlink_to(os.path.join(kit.python, "bin", "uv"))
    page = tmp_path / "page.md"
    here = ("cp", "uv")
    words = ["matrix", "--quick", "--program", ",".join((*here, "bun"))]
    words += ["--processes", "1", "--directory", str(tmp_path)]

    assert cli.main([*words, "--markdown", str(page)]) == Status.DONE
    said = capsys.readouterr()
    assert "[9/9] " in said.err
    assert f"uv {kits.versions()['python']['uv']}, bun" in said.err, "versions are printed"
    for program, layout in itertools.product(here, matrix.QUICK):
        assert f"{program} on {layout}: " in said.err
    assert re.search(
        r" 0 differ; \d+ of \d+ cells could not be run"
        r"(; in \d+ cells the network was within reach: this user may not leave it)?, in ",
        said.out,
    )
    assert "| cp | reflink=auto | " in page.read_text()
    results = json.loads((tmp_path / "results.json").read_text())
    assert {cell["layout"] for cell in results["cells"]} == set(matrix.QUICK)
    shown = {cell["shown"] for cell in results["cells"] if cell["program"] == "bun"}
    assert shown <= {matrix.NOT_RUN, matrix.NO_LAYOUT}, "bun is not in this kit"
    assert "<h1>" in (tmp_path / "results.html").read_text()
    kept = json.loads((tmp_path / "cells.json").read_text())
    assert len(kept["cells"]) == len(results["cells"])
    assert "Changed since" not in said.out

    assert cli.main([*words, "--cells", str(tmp_path / "cells.json")]) == 0
    again = capsys.readouterr()
    assert re.search(r"cp on ext4: \d+ kept\n", again.err) or shown == {matrix.NO_LAYOUT}
    assert "Changed since" not in again.out

    (tmp_path / "cells.json").write_text("{}")
    assert cli.main(words) == Status.USAGE


def test_a_matrix_that_was_interrupted_goes_on_where_it_stopped(
    tmp_path: Path, kit: kits.Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    asked = matrix.Asked("cp", "tmpfs", 0)
    cell, runs = observing.Bench.cell, []

    def breaking(bench: observing.Bench, mode: programs.Mode, scenario: Scenario) -> Any:
        runs.append(mode.word)
        if len(runs) == 3:
            raise KeyboardInterrupt
        return cell(bench, mode, scenario)

    monkeypatch.setattr(observing.Bench, "cell", breaking)
    with pytest.raises(KeyboardInterrupt):
        matrix.Part(str(tmp_path), kit, said.append).run([asked])
    assert len(matrix.collect(str(tmp_path), [asked])) == 2
    matrix.Part(str(tmp_path), kit, said.append).run([asked])
    words = [mode.word for mode in BY_NAME["cp"].modes]
    assert runs == [*words[:3], *words[2:]]
    assert said[-1].startswith("cp on tmpfs: 3 cells")
    assert said[-1].endswith(", 2 kept")


@pytest.mark.parametrize("text", ["", '{"program": "cp"', "[]", '{"other": 1}'])
def test_a_result_that_cannot_be_read_is_none(text: str, tmp_path: Path, kit: kits.Kit) -> None:
    asked = matrix.Asked("cp", "nowhere", 0)
    program, version = matrix.there("cp")
    (tmp_path / "results").mkdir()
    for mode in program.modes:
        key = matrix.key_of(program, version, mode, asked.layout, "plain")
        (tmp_path / "results" / f"{key}.json").write_text(text)
    assert matrix.collect(str(tmp_path), [asked]) == []


@pytest.mark.parametrize("before", [(), AS_USER], ids=["as we are", "as an ordinary user"])
def test_a_part_leaves_the_network_where_it_may(before: tuple[str, ...]) -> None:
    if before and os.geteuid():
        before = ()
    script = (
        "import socket; from pytest_linkmode import namespaces; "
        "from pytest_linkmode.installers.part import leave_network; "
        "allowed = namespaces.try_private() is None; "
        "print(allowed, leave_network(), len(socket.if_nameindex()))"
    )
    env = {name: text for name, text in os.environ.items() if name != namespaces.VARIABLE}
    command = [*before, sys.executable, "-c", script]  # whose place is not ours
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    allowed, left, interfaces = ran.stdout.split()
    assert left == allowed, ran.stderr
    if left == "True":
        assert interfaces == "1", "the loopback alone, and that is down"


def test_programs_that_cannot_be_had_are_cells_that_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_npm(_: str) -> None:
        raise CommandFailed(["npm", "ci"], None, "", why="npm: not found")

    had(tmp_path, "python")
    monkeypatch.setattr(kits, "_get_npm", no_npm)
    kit = kits.ensure(str(tmp_path), lambda _: None)
    assert kit.missing == {"npm": "npm: not found"}
    asked = matrix.Asked("bun", "tmpfs", 0)
    matrix.Part(str(tmp_path), kit, lambda _: None).run([asked])
    cells = matrix.collect(str(tmp_path), [asked])
    assert {cell.shown for cell in cells} == {"not run"}
    assert all("npm: not found" in cell.why for cell in cells)
    said: list[str] = []
    matrix.Part(str(tmp_path), kit, said.append).run([asked])
    assert said[0].startswith(f"bun on tmpfs: {len(cells)} cells"), "it is tried again"


def test_a_run_in_which_no_program_is_there_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    had(tmp_path, "python", "npm")
    words = ["matrix", "--program", "bun", "--layout", "tmpfs", "--processes", "1"]
    assert cli.main([*words, "--directory", str(tmp_path)]) == Status.FAILED
    said = capsys.readouterr().out
    assert re.search(r"nothing was seen: (\d+) of \1 cells could not be run \(", said)


def test_what_is_there_with_the_right_pins_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(kits, "_get_python", lambda part: asked.append("python"))
    monkeypatch.setattr(kits, "_get_npm", lambda part: asked.append("npm"))
    had(tmp_path, "npm")
    for _ in range(2):
        assert not kits.ensure(str(tmp_path), lambda _: None).missing
    assert asked == ["python"]


@pytest.mark.parametrize("option", ["directory", "page", "markdown", "json", "cells"])
def test_what_cannot_be_written_is_said_before_anything_is_run(
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kits, "ensure", lambda *_: pytest.fail("too late"))
    taken = tmp_path / "file"
    taken.write_text("")
    options = {"directory": str(tmp_path / "state"), option: str(taken / "within")}
    words = itertools.chain(*((f"--{name}", path) for name, path in options.items()))
    assert cli.main(["matrix", *words]) == Status.USAGE
    assert f"{taken}/within cannot be written" in capsys.readouterr().err
    page = ["--page", str(tmp_path)]
    assert cli.main(["matrix", "--directory", str(tmp_path / "state"), *page]) == Status.USAGE
    assert not list(tmp_path.rglob("*.part-*"))


def test_of_a_long_reason_the_head_is_kept_as_well() -> None:
    assert matrix._shortened("short") == "short"
    long = matrix._shortened("it is this " + "and " * 500 + "at last that")
    assert long.startswith("it is this and")
    assert long.endswith("at last that")
    assert len(long) < 2 * matrix.WHY


@pytest.mark.parametrize(
    "words", [("--program", "nobody"), ("--layout", "nowhere"), ("--processes", "0")]
)
def test_what_means_nothing_is_wrong_usage(words: tuple[str, ...], tmp_path: Path) -> None:
    assert cli.main(["matrix", "--directory", str(tmp_path), *words]) == Status.USAGE
    assert os.listdir(tmp_path) == []
