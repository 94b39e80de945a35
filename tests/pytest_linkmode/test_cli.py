"""The `linkmode` command: its answers to people and to scripts, and its exit statuses."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linker import LinkMode, link_tree
from linker.cli import Status
from linker.conditions import Condition
from linker.policies import ALL
from linker.policy import Step
from pytest_linkmode import __main__ as entry
from pytest_linkmode import cli, graphs
from pytest_linkmode.errors import Unavailable
from pytest_linkmode.filesystems import FILESYSTEMS, Fact, registry
from pytest_linkmode.layouts import Layout, select, specials
from pytest_linkmode.samples import sample_tree
from tests.impatience import press_early
from tests.patience import SECONDS


class Told:
    """What one run of the command said."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    @property
    def plain(self) -> Any:
        """The JSON document that it printed."""
        return json.loads(self.out)


Linkmode = Callable[..., Told]


@pytest.fixture
def linkmode(capsys: pytest.CaptureFixture[str]) -> Linkmode:
    """Run the command in this process."""

    def run(*arguments: object) -> Told:
        try:
            status = cli.main([os.fspath(each) for each in arguments])  # type: ignore[call-overload]
        except SystemExit as ended:
            status = int(ended.code or 0)
        said = capsys.readouterr()
        return Told(status, said.out, said.err)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "package").mkdir()
    (path / "package" / "module.py").write_bytes(os.urandom(70_000))
    (path / "package" / "other.py").write_bytes(os.urandom(70_000))
    return path


# --- verify -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["hardlink", pytest.param("symlink", marks=pytest.mark.faked("symlinks")), "copy"]
)
def test_verify_says_yes_and_what_proves_it(
    linkmode: Linkmode, source: Path, tmp_path: Path, mode: str
) -> None:
    link_tree(source, tmp_path / "target", mode=mode)

    words = linkmode("verify", mode, source, tmp_path / "target")
    data = linkmode("verify", mode, source, tmp_path / "target", "--json")

    assert (words.status, words.err) == (Status.DONE, "")
    assert words.out.startswith(f"{mode}: 2 files (2 {mode}), proven 2 by ")
    assert data.status == Status.DONE
    assert (data.plain["linked"], data.plain["modes"]) == (True, {mode: 2})


def test_verify_says_no_and_why(linkmode: Linkmode, source: Path, tmp_path: Path) -> None:
    link_tree(source, tmp_path / "target", mode=LinkMode.COPY)

    words = linkmode("verify", "hardlink", source, tmp_path / "target")
    data = linkmode("verify", "hardlink", source, tmp_path / "target", "--json")

    assert words.status == data.status == Status.FAILED
    assert "is not a hardlink of" in words.out
    assert data.plain["linked"] is False
    assert {(row["path"], row["expected"], row["found"]) for row in data.plain["wrong"]} == {
        ("package/module.py", "hardlink", "copy"),
        ("package/other.py", "hardlink", "copy"),
    }


def test_verify_knows_exceptions(linkmode: Linkmode, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    link_tree(source, target, mode=LinkMode.HARDLINK, mutable=["mod*"])
    seen = os.stat(target / "package")
    (target / "package" / "RECORD").write_text("ours")
    os.utime(target / "package", ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert linkmode("verify", "hardlink", source, target).status == Status.FAILED
    exceptions = ("--mutable", "mod*", "--ignore", "RECORD")
    assert linkmode("verify", "hardlink", source, target, *exceptions).status == Status.DONE


def test_verify_of_nothing_verifies_nothing(
    linkmode: Linkmode, source: Path, tmp_path: Path
) -> None:
    for name in ("empty", "bare", "above/inside"):
        (tmp_path / name).mkdir(parents=True)
    link_tree(tmp_path / "above", tmp_path / "over", mode=LinkMode.HARDLINK)
    link_tree(source, tmp_path / "target", mode=LinkMode.HARDLINK)
    cases = {
        ("empty", "bare"): "empty' is empty",
        (
            str(source),
            "target",
            "--ignore",
            "*",
        ): "is empty: nothing in it, but for what is ignored",
        ("above", "over"): "nothing was verified",
    }
    for asked, words in cases.items():
        source_and_target = [tmp_path / name for name in asked[:2]]
        told = linkmode("verify", "hardlink", *source_and_target, *asked[2:])
        assert told.status == Status.USAGE
        assert words in told.err


@pytest.mark.parametrize("mode", ["hardlnk", "copy"])
def test_verify_of_what_cannot_be_asked_is_wrong_usage(
    linkmode: Linkmode, source: Path, tmp_path: Path, mode: str
) -> None:
    missing = tmp_path / "missing"
    words = linkmode("verify", mode, source if mode == "hardlnk" else missing, source)
    data = linkmode("verify", mode, source if mode == "hardlnk" else missing, source, "--json")
    assert words.status == data.status == Status.USAGE
    assert words.out == ""
    assert data.plain["error"]["what"] in words.err


# --- probe --------------------------------------------------------------------------------------


@pytest.mark.linkmode(layout=["btrfs", "btrfs:tmpfs", "tmpfs", "xfs-noreflink"])
def test_probe_says_what_happens_and_what_policies_make_of_it(
    linkmode: Linkmode, linkmode_layout: Layout
) -> None:
    source, target = linkmode_layout.source, linkmode_layout.target

    found = linkmode("probe", source, target, "--json", "--policy", "all").plain

    for mode in LinkMode:
        said = found["modes"][mode.value]
        for policy in ALL.values():
            end = linkmode_layout.can.outcome(mode, policy).mode
            assert said["policies"][policy.name]["mode"] == (end.value if end else None)
        works = said["happens"] == "works"
        assert works is (said["policies"]["reference"]["mode"] == mode.value)
        assert (said["found"] == mode.value) is works
        assert (said["proof"] is None) is not works
    held = {name for name, fact in found["capabilities"].items() if fact["held"]}
    assert held == set(linkmode_layout.can)
    assert os.listdir(source) == os.listdir(target) == []


@pytest.mark.faked("symlinks")
def test_probe_is_a_table_for_people(linkmode: Linkmode, tmp_path: Path) -> None:
    told = linkmode("probe", tmp_path, tmp_path, "--policy", "uv")
    lines = told.out.splitlines()
    assert re.split(r"\s{2,}", lines[0]) == ["mode", "what happens", "proof", "by uv"]
    assert [line.split()[0] for line in lines[1:5]] == [mode.value for mode in LinkMode]
    assert re.split(r"\s{2,}", lines[2]) == [
        "hardlink",
        "works",
        "hardlink: same inode",
        "hardlink",
    ]
    assert lines[-1].startswith("capabilities: hardlink, ")


@pytest.mark.faked("symlinks")
def test_probe_takes_a_file_that_is_there_where_it_cannot_write(
    linkmode: Linkmode, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root no permission stops us, so the refusal is made."""
    really_open = open

    def read_only(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "x" in mode and str(path).startswith(str(source)):
            raise OSError(30, "Read-only file system", path)
        return really_open(path, mode, *rest, **options)

    monkeypatch.setattr("builtins.open", read_only)
    target = tmp_path / "target"
    target.mkdir()

    told = linkmode("probe", source, target, "--json")

    assert told.plain["modes"]["symlink"]["proof"] == "link target"
    assert os.listdir(target) == []
    for path in (source / "package").iterdir():
        path.write_bytes(b"too small")
    told = linkmode("probe", source, target)
    assert told.status == Status.FAILED
    assert "cannot probe" in told.err
    assert "hint: both directories must be" in told.err


def test_probe_of_what_is_no_directory_is_wrong_usage(linkmode: Linkmode, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in ("missing", "file"):
        told = linkmode("probe", tmp_path, tmp_path / wrong)
        assert told.status == Status.USAGE
        assert "is no directory" in told.err


# --- explain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_explain_shows_every_edge_in_every_form(linkmode: Linkmode, name: str) -> None:
    policy = ALL[name]
    edges = policy.of("linux")

    plain = linkmode("explain", name, "--json", "--platform", "linux").plain
    assert [each["id"] for each in plain["edges"]] == [edge.id for edge in edges]
    assert {(each["id"], each["state"], each["then"]) for each in plain["edges"]} == {
        (edge.id, str(edge.state), str(edge.then)) for edge in edges
    }

    rows = graphs.rows(policy, "linux")
    shown = {
        (row.mode, row.primitive, condition, row.state, row.then)
        for row in rows
        for condition in row.conditions
    }
    assert shown == {
        (edge.mode, str(edge.primitive), edge.meets, edge.state, edge.then) for edge in edges
    }
    told = linkmode("explain", name, "--platform", "linux").out
    cells = {cell for line in told.splitlines() for cell in re.split(r"\s{2,}", line.strip())}
    for row in rows:
        assert set(graphs.folded(row.words)) <= cells
        steps = ", then ".join(map(str, row.steps))
        assert any(cell.startswith(steps) for cell in cells)
    assert f"source: {policy.source}" in told

    arrows = sum(len(row.steps) for row in rows)
    dot = linkmode("explain", name, "--dot", "--platform", "linux").out
    assert dot.startswith("digraph ")
    assert dot.endswith("}\n")
    assert dot.count(" -> ") == arrows
    mermaid = linkmode("explain", name, "--mermaid", "--platform", "linux").out
    assert mermaid.startswith("flowchart LR\n")
    assert mermaid.count(" --> ") == arrows


@pytest.mark.parametrize("name", ALL)
def test_no_picture_says_of_one_thing_that_it_leads_to_two(name: str) -> None:
    for platform in ALL[name].platforms():
        led: dict[tuple[str, ...], str] = {}
        for start, end, label in graphs._arrows(ALL[name], platform):
            *behind, words = label.split(": ")
            still = words.startswith("still ")
            met = words.removeprefix("still ").removeprefix("all but ").split(", ")
            if "all" in words.split():
                met = [str(each) for each in Condition if each not in met]
            for word in met:
                key = (start, *behind, str(still), word)
                assert led.setdefault(key, end) == end, (platform, key)


def test_explain_names_the_ends_of_a_retry(linkmode: Linkmode) -> None:
    assert "retry, then copy" in linkmode("explain", "reference", "--platform", "linux").out
    retries = [row for row in graphs.rows(ALL["reference"], "linux") if row.then is Step.RETRY]
    assert all(len(row.steps) == 2 for row in retries)


def test_conditions_that_are_nearly_all_are_told_by_those_that_are_not() -> None:
    rows = [row for row in graphs.rows(ALL["uv"], "linux") if row.mode is LinkMode.CLONE]
    assert rows[0].words == ("all but exists",)


def test_explain_of_something_unknown_is_wrong_usage(linkmode: Linkmode) -> None:
    assert linkmode("explain", "nobody").status == Status.USAGE
    told = linkmode("explain", "uv", "--platform", "plan9")
    assert told.status == Status.USAGE
    assert "uv says nothing of the platform 'plan9'" in told.err
    assert linkmode("explain", "uv", "--dot", "--json").status == Status.USAGE


def test_explain_in_a_layout_does_what_the_system_would_do(linkmode: Linkmode) -> None:
    asked = ("explain", "uv", "--layout", "tmpfs", "--mode", "hardlink")

    told = linkmode(*asked, "--fault", "hardlink:EPERM:nth=3", "--json").plain
    assert (told["ended"], told["fired"], told["files"]) == ("failed", 1, {"hardlink": 2})
    assert [edge["id"].rpartition("/")[2] for edge in told["edges"]] == ["established"]
    assert "EPERM" in told["error"]

    whole = linkmode(*asked, "--json").plain
    assert (whole["ended"], whole["missing"], whole["edges"]) == ("done", 0, [])
    assert set(whole["files"]) == {"hardlink"}

    words = linkmode(*asked, "--fault", "hardlink:EXDEV:nth=1").out
    assert words.startswith("uv on tmpfs, asked for hardlink, with hardlink:EXDEV:nth=1\n")
    assert "1 call hit" in words
    assert "linux/hardlink/hardlink/cross-device/initial -> copy" in words


@pytest.mark.linkmode(layout=["btrfs:ext4"])
def test_explain_says_what_uv_does_from_one_filesystem_to_another(
    linkmode: Linkmode, linkmode_layout: Layout
) -> None:
    """Across filesystems nothing is ever cloned, so that the third clone cannot fail."""
    asked = ("explain", "uv", "--layout", linkmode_layout.name, "--fault", "clone:EAGAIN:nth=3")
    told = linkmode(*asked, "--json").plain
    assert (told["requested"], told["ended"], told["fired"]) == ("clone", "done", 0)
    assert set(told["files"]) == {"copy"}
    assert [edge["then"] for edge in told["edges"]] == ["hardlink", "copy"]
    assert "no calls hit" in linkmode(*asked).out


def test_explain_in_a_layout_shows_what_a_kill_leaves(linkmode: Linkmode) -> None:
    fault = ("--fault", "hardlink:kill-after:nth=2")
    told = linkmode("explain", "pnpm", "--layout", "tmpfs", *fault, "--json").plain
    assert told["ended"] == "killed"
    assert told["missing"] > 0
    assert [name for name in told["left"] if name.startswith(".linkmode")]


def test_explain_asks_for_a_layout_where_one_is_needed(linkmode: Linkmode) -> None:
    for wrong in (
        ("--fault", "clone:EIO"),
        ("--mode", "clone"),
        ("--layout", "tmpfs", "--dot"),
        ("--layout", "tmpfs", "--platform", "macos"),
        ("--layout", "tmpfs", "--mode", "nonsense"),
        ("--layout", "tmpfs", "--fault", "nonsense"),
        ("--layout", "nonsense"),
    ):
        assert linkmode("explain", "uv", *wrong).status == Status.USAGE, wrong


# --- doctor -------------------------------------------------------------------------------------


def test_doctor_lists_every_filesystem_and_every_layout(linkmode: Linkmode) -> None:
    told = linkmode("doctor", "--json")
    assert told.status == Status.DONE
    findings = told.plain["findings"]
    assert [each["name"] for each in findings if each["kind"] == "filesystem"] == list(FILESYSTEMS)
    specs = (*select(list(FILESYSTEMS)), *specials(list(FILESYSTEMS)))
    layouts = {spec.name for spec in specs} - set(FILESYSTEMS)
    assert {each["name"] for each in findings if each["kind"] == "layout"} == layouts
    words = linkmode("doctor")
    assert words.status == Status.DONE
    assert all(name in words.out for name in FILESYSTEMS)
    assert all(each["name"] in words.out for each in findings if each["available"])
    for each in findings:
        assert each["available"] is not bool(each["checked"])
        assert each["available"] or each["mends"] or each["name"] == "sudo"  # root needs none


def test_doctor_tells_people_of_layouts_in_few_lines_and_of_one_that_is_named_at_length(
    linkmode: Linkmode,
) -> None:
    table = linkmode("doctor").out.partition("What would add more:")[0]
    ordinary = os.geteuid() != 0  # who lacks more, each with its reasons
    assert len(table.splitlines()) < (130 if ordinary else 100)
    assert table.count("LINKMODE_DIR_*: not given") == 1  # said by the rung for all filesystems
    assert re.search(r"^layouts +tmpfs +yes +tmpfs[:+][a-z0-9-]+, tmpfs", table, re.MULTILINE)
    assert "hfs:disk" not in table  # what it lacks is said with hfs
    lists = table[table.index("\nlayouts ") :]
    if ordinary:
        there = re.findall(r"^layouts .* yes .*(?:\n {20}.*)*", lists, re.MULTILINE)
        lists = "\n".join(there)
    assert max(map(len, lists.splitlines())) < 110
    named = linkmode("doctor", "ext4+too-many-links").out
    means = "files of one directory have as many links as they can (ext4, xfs: in all; "
    assert means in named or ordinary


@pytest.fixture
def without_btrfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which btrfs cannot be made."""
    missing = Unavailable(
        "btrfs cannot be had here",
        checked=["mkfs.btrfs: not found in PATH", "/dev/loop-control: there"],
        mends=["apt-get install btrfs-progs", "--linkmode-dir=btrfs=PATH"],
    )
    facts = tuple(
        Fact(kind, "" if name == "btrfs" else "loop", missing if name == "btrfs" else None)
        for name, kind in FILESYSTEMS.items()
    )
    monkeypatch.setattr("pytest_linkmode.filesystems.survey", lambda _: facts)
    monkeypatch.setattr(
        "pytest_linkmode.layouts.missing",
        lambda spec, _: missing if "btrfs" in (spec.source, spec.target) else None,
    )


@pytest.mark.usefixtures("without_btrfs")
def test_doctor_says_all_that_is_missing_and_each_mend_once(linkmode: Linkmode) -> None:
    out = linkmode("doctor").out
    table, _, mends = out.partition("What would add more:")
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    assert ["filesystem", "btrfs", "no", "mkfs.btrfs: not found in PATH"] in rows
    assert ["/dev/loop-control: there"] in rows
    assert ["filesystem", "xfs", "yes", "loop"] in rows
    assert "btrfs+" not in out  # what they lack is said with btrfs
    assert "- apt-get install btrfs-progs\n    for btrfs\n" in mends


POOR = {
    "btrfs": ("--linkmode-dir=btrfs=PATH: not given", "/tmp: on ext4, not on btrfs"),
    "xfs": ("--linkmode-dir=xfs=PATH: not given", "/tmp: on ext4, not on xfs"),
    "hfs": ("--linkmode-dir=hfs=PATH: not given", "hdiutil: works on darwin"),
}
"""Filesystems that cannot be had -> why, each in words of its own."""


def test_doctor_tells_what_is_missing_for_the_same_reasons_together(
    linkmode: Linkmode, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {
        name: Unavailable(
            name,
            checked=reasons,
            mends=[
                f"name a directory on one: --linkmode-dir={name}=PATH or "
                f"LINKMODE_DIR_{name.upper()}=PATH"
            ],
        )
        for name, reasons in POOR.items()
    }
    facts = tuple(
        Fact(kind, "" if name in POOR else "loop", missing.get(name))
        for name, kind in FILESYSTEMS.items()
    )
    monkeypatch.setattr("pytest_linkmode.filesystems.survey", lambda _: facts)
    monkeypatch.setattr("pytest_linkmode.ladder.survey", lambda _: ())
    refused = Unavailable("it", checked=["root, to become another user: missing"])
    monkeypatch.setattr(
        "pytest_linkmode.layouts.missing",
        lambda spec, _: (
            missing.get(spec.source)
            or missing.get(spec.target)
            or (refused if spec.name.endswith("+other-owner") else None)
        ),
    )
    table, _, mends = linkmode("doctor").out.partition("What would add more:")
    lines = [line.rstrip() for line in table.splitlines()]
    start = next(n for n, line in enumerate(lines) if re.match(r"filesystem +btrfs ", line))
    block = [re.split(r"\s{2,}", line.strip()) for line in lines[start : start + 4]]
    assert block == [
        ["filesystem", "btrfs", "no", "--linkmode-dir, LINKMODE_DIR_*: not given"],
        ["xfs", "/tmp: on ext4"],
        ["filesystem", "hfs", "no", "--linkmode-dir, LINKMODE_DIR_*: not given"],
        ["hdiutil: works on darwin"],
    ]
    start = next(
        n for n, line in enumerate(lines) if re.match(r"layouts +\S+other-owner +no", line)
    )
    assert lines[start].endswith("  root, to become another user: missing")
    assert lines[start + 1].split() in (["tmpfs+other-owner"], ["ext4+other-owner"])
    assert mends.split("\n") == [
        "",
        "- name a directory on one: --linkmode-dir=NAME=PATH or LINKMODE_DIR_NAME=PATH",
        "    for btrfs, xfs, hfs",
        "",
    ]


@pytest.mark.usefixtures("without_btrfs")
def test_doctor_answers_for_what_is_named(linkmode: Linkmode) -> None:
    assert linkmode("doctor", "xfs", "xfs:tmpfs").status == Status.DONE
    assert linkmode("doctor", "xfs", "tmpfs:btrfs", "--json").status == Status.FAILED
    told = linkmode("doctor", "btrfs")
    assert told.status == Status.FAILED
    assert "xfs" not in told.out
    wrong = linkmode("doctor", "zfs")
    assert wrong.status == Status.USAGE
    assert "no filesystem is called 'zfs'" in wrong.err


def test_doctor_looks_at_the_environment(
    linkmode: Linkmode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LINKMODE_DIR_DISK", str(tmp_path))
    assert linkmode("doctor", "disk", "--json").plain["findings"][0]["how"] == "directory"
    monkeypatch.setenv("LINKMODE_DIR_BTRFS", "relative")
    assert linkmode("doctor", "btrfs").status == Status.USAGE


# --- clean --------------------------------------------------------------------------------------


@pytest.fixture
def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with something in it, that a process which is gone has written down."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tree = tmp_path / "tree-1"
    script = (
        "import os, sys; from pytest_linkmode.filesystems import registry as r\n"
        "n = r.ledger().note(r.TREE, sys.argv[1]); os.mkdir(sys.argv[1])\n"
        "r.ledger().made(n, sys.argv[1]); os.mkdir(sys.argv[1] + '/inside')\n"
    )
    subprocess.run(
        (sys.executable, "-c", script, tree),
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert (tree / "inside").is_dir()
    return tree


def test_clean_shows_first_and_removes_what_it_has_shown(
    linkmode: Linkmode, left_behind: Path
) -> None:
    would = linkmode("clean", "--dry-run")
    assert would.status == Status.DONE
    assert re.split(r"\s{2,}", would.out.splitlines()[1])[2:] == [
        str(left_behind),
        "would be undone",
    ]
    assert left_behind.is_dir()

    did = linkmode("clean", "--json")
    assert did.status == Status.DONE
    assert [(each["path"], each["action"]) for each in did.plain["findings"]] == [
        (str(left_behind), registry.UNDONE)
    ]
    assert not left_behind.exists()
    assert linkmode("clean").out == "nothing was left behind\n"


def test_clean_says_no_where_it_had_to_leave_something(
    linkmode: Linkmode, left_behind: Path
) -> None:
    left_behind.rename(left_behind.with_name("moved"))
    left_behind.mkdir()
    (left_behind / "of somebody else").write_text("")

    told = linkmode("clean")

    assert told.status == Status.FAILED
    assert "something else has that name now" in told.out
    assert os.listdir(left_behind) == ["of somebody else"]


# --- link and add -------------------------------------------------------------------------------


def test_link_and_add_are_those_of_the_reference_linker(
    linkmode: Linkmode, source: Path, tmp_path: Path
) -> None:
    told = linkmode("link", source, tmp_path / "one", "--mode=hardlink")
    assert (told.status, told.out) == (0, "2 files (2 hardlink), 2 new directories\n")
    manifest = tmp_path / "manifest.json"
    added = linkmode("add", "--store", tmp_path / "store", "--manifest", manifest, source)
    assert (added.status, added.out) == (0, "")
    store = ("--store", tmp_path / "store")
    assert linkmode("link", *store, manifest, tmp_path / "two", "--mode=copy").status == 0
    assert (tmp_path / "two/package/module.py").read_bytes() == (
        source / "package/module.py"
    ).read_bytes()
    failed = linkmode("link", tmp_path / "nothing", tmp_path / "three")
    assert failed.status == Status.FAILED
    assert "does not exist" in failed.err


# --- what the commands share --------------------------------------------------------------------


def test_every_command_documents_its_own_statuses_in_eighty_columns(
    linkmode: Linkmode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    overview = linkmode("--help")
    assert overview.status == 0
    ends = set()
    for command in cli.COMMANDS:
        assert f"    {command.name} " in overview.out
        told = linkmode(command.name, "--help")
        assert told.status == 0
        assert told.out.startswith(f"usage: linkmode {command.name} ")
        ends.add(told.out.partition("exit status:")[2])
        assert ("could not be undone" in told.out) == (command.name in ("link", "clean"))
        for name in ("pnpm-12-clone-or-copy", "coreutils-9-0"):
            assert told.out.count(name) == (command.name in ("explain", "link"))
        assert max(map(len, told.out.splitlines())) < 80
    assert "" not in ends
    assert len(ends) == len(cli.COMMANDS)


@pytest.mark.parametrize(
    "arguments", [(), ("frobnicate",), ("doctor", "--jsn"), ("doctor", "--js")]
)
def test_wrong_usage_has_a_status_of_its_own(
    linkmode: Linkmode, arguments: tuple[str, ...]
) -> None:
    told = linkmode(*arguments)
    assert told.status == Status.USAGE
    assert "usage: linkmode" in told.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--fs", "", "--", "true"), "argument --fs: it is empty: name something"),
        (("matrix", "--program", ","), "argument --program: it is empty: name something"),
        (("run", "--tmp", " ", "--", "true"), "argument --tmp: it is empty"),
        (("run", "--provider=", "--", "true"), "argument --provider: it is empty"),
        (("run", "--image-size=5", "--", "true"), "--image-size=5: not a value"),
        (("merge", "--require", " , ", "x.json"), "argument --require: it is empty"),
        (("merge", "--fail-under", "", "x.json"), "'' is not a percentage from 0 to 100"),
        (("explain", "uvv"), "no policy is called 'uvv'; did you mean 'uv'?"),
        (("probe", "--policy", "bum", ".", "."), "no policy is called 'bum'; did you mean 'bun'"),
    ],
)
def test_a_word_that_means_nothing_is_told_with_its_option(
    linkmode: Linkmode, arguments: tuple[str, ...], said: str
) -> None:
    told = linkmode(*arguments)
    assert told.status == Status.USAGE
    assert said in told.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
    ids=["terminal", "empty NO_COLOR", "NO_COLOR", "dumb"],
)
def test_colour_is_for_terminals_whose_people_like_it(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    coloured: bool,  # noqa: FBT001
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["explain", "uv", "--platform", "linux"]) == 0
    assert ("\x1b[1m" in terminal.getvalue()) is coloured
    assert cli.main(["explain", "uv", "--platform", "linux", "--json"]) == 0
    assert terminal.getvalue().count("\x1b[1mmode") == (1 if coloured else 0)


def test_colour_does_not_shift_columns(monkeypatch: pytest.MonkeyPatch, linkmode: Linkmode) -> None:
    plain = linkmode("explain", "reference", "--platform", "linux").out
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    cli.main(["explain", "reference", "--platform", "linux"])
    assert re.sub(r"\x1b\[\d+m", "", terminal.getvalue()) == plain


def test_odd_names_are_told_on_one_line_each(linkmode: Linkmode, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"odd \xff\n\x1b[31mname")
    told = linkmode("probe", odd, tmp_path)
    assert told.status == Status.USAGE
    assert "\x1b" not in told.err
    assert "\\udcff\\n\\x1b[31mname" in told.err
    odd.mkdir()
    assert linkmode("probe", odd, tmp_path, "--json").plain["source"] == str(odd)


@pytest.mark.parametrize("words", ["probe . .", "mount tmpfs there", "doctor tmpfs"])
def test_a_working_directory_that_was_removed_is_told(tmp_path: Path, words: str) -> None:
    script = (
        "import os, sys; from pytest_linkmode import cli; os.mkdir('gone'); os.chdir('gone');"
        "os.rmdir('../gone'); sys.exit(cli.main(sys.argv[1:]))"
    )
    run = subprocess.run(
        (sys.executable, "-c", script, *words.split()),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if words.startswith("doctor"):  # which needs none
        assert (run.returncode, run.stderr) == (0, "")
        assert "tmpfs" in run.stdout
    else:
        assert run.returncode == Status.FAILED, run.stderr
        assert "leads nowhere: the working directory was removed" in run.stderr


def test_a_reader_who_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = _process("explain", "uv", stdout=writing)
    finally:
        os.close(writing)
    assert (run.returncode, run.stderr) == (0, "")
    with open("/dev/full", "w", encoding="ascii") as full:
        assert _process("explain", "uv", stdout=full).returncode == Status.UNTOLD


def test_the_command_is_the_one_that_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="linkmode")
    assert script.load() is entry.main


def test_an_interrupt_while_the_command_is_loaded_is_told(tmp_path: Path) -> None:
    press_early(tmp_path)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    run = _process("explain", "uv", env={**os.environ, "PYTHONPATH": path})
    assert (run.returncode, run.stdout) == (Status.INTERRUPTED, "")
    assert run.stderr.splitlines() == ["interrupted"]


def test_the_command_starts_without_pytest(tmp_path: Path) -> None:
    for arguments in (["explain", "uv"], ["doctor"], ["probe", ".", "."], ["clean", "--dry-run"]):
        script = (
            "import sys; from pytest_linkmode.cli import main\n"
            "assert main(sys.argv[1:]) == 0\n"
            "assert not {'pytest', '_pytest'} & sys.modules.keys()"
        )
        run = _python("-c", script, *arguments, cwd=tmp_path)
        assert run.returncode == 0, run.stderr


@pytest.mark.faked("symlinks")
def test_all_modes_of_a_sample_are_verified_by_the_command(
    linkmode: Linkmode, tmp_path: Path
) -> None:
    (tmp_path / "sample").mkdir()
    sample_tree(tmp_path / "sample")
    for mode in ("hardlink", "symlink", "copy"):
        assert linkmode("link", tmp_path / "sample", tmp_path / mode, "--mode", mode).status == 0
        assert linkmode("verify", mode, tmp_path / "sample", tmp_path / mode).status == 0


def _process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return _python("-m", "pytest_linkmode", *arguments, **options)


def _python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-W", "error", *arguments),
        text=True,
        timeout=SECONDS,
        check=False,
        **{
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            **options,
        },
    )
