"""``python -m linker``: what it says, to whom, and with which exit status."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from linker import LinkError, LinkMode, cli
from linker.cli import Status, main
from linker.manifest import Manifest
from linker.policies import ALL
from linker.store import Store
from tests.impatience import press_early
from tests.linker import seams, trees
from tests.linker.seams import CALLS, Calls, MachinePlatform
from tests.linker.trees import File, Symlink
from tests.patience import LONGER, SECONDS

PACKAGE: trees.Tree = {
    "package/__init__.py": File(),
    "package/module.py": File(trees.noise(5000)),
    "package/other.py": File(trees.noise(5000, 1)),
    "package/tool": File(b"#!/bin/sh\n", 0o755),
    "package/link": Symlink("module.py"),
    trees.ODD: File(b"odd"),
}
RECREATED = ", 1 symlink recreated" if trees.possible(PACKAGE) == PACKAGE else ""
"""What is said of its symlink, where there can be one."""

NO_LINKS: trees.Tree = {path: File(b"x" * n) for n, path in enumerate(["a", "d/b", "d/c"])}


@pytest.fixture
def source(ground: str) -> str:
    trees.build(f"{ground}/source", trees.possible(PACKAGE))
    return f"{ground}/source"


def refusing(**errors: int) -> Calls:
    """Return system calls of which some always fail."""

    def refuse(number: int) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> None:
            raise OSError(number, os.strerror(number))

        return call

    return dataclasses.replace(CALLS, **{name: refuse(number) for name, number in errors.items()})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Calls], None]:
    """Let the command run on a machine with these system calls."""

    def use(calls: Calls) -> None:
        platform = MachinePlatform(calls)
        monkeypatch.setattr("linker.engine.current", lambda: platform)

    return use


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own."""
    return subprocess.run(
        (sys.executable, "-W", "error", "-m", "linker", *arguments),
        text=True,
        errors="surrogateescape",
        timeout=SECONDS,
        check=False,
        **{
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            **options,
        },
    )


# --- what is linked -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["hardlink", pytest.param("symlink", marks=pytest.mark.faked("symlinks")), "copy"]
)
def test_a_tree_is_linked_in_the_mode_that_was_asked_for(
    ground: str, source: str, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([source, f"{ground}/target", "--mode", mode]) == Status.DONE

    said = capsys.readouterr()
    assert said.out == f"5 files (5 {mode}), 2 new directories{RECREATED}\n"
    assert said.err == ""
    assert os.path.samefile(
        f"{source}/package/module.py", f"{ground}/target/package/module.py"
    ) is (mode != "copy")


def test_the_default_mode_is_that_of_the_policy(
    ground: str, source: str, machine: Callable[[Calls], None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(seams.REFLINKING)
    assert main([source, f"{ground}/target"]) == Status.DONE
    assert "(5 clone)" in capsys.readouterr().out
    assert main([source, f"{ground}/target", "--mode", "reflink", "--json"]) == Status.DONE
    assert json.loads(capsys.readouterr().out)["requested"] == "clone"


def test_options_may_stand_between_source_and_target(ground: str, source: str) -> None:
    assert main(["--quiet", source, "--mode", "copy", f"{ground}/target"]) == Status.DONE
    assert os.listdir(f"{ground}/target")


def test_mutable_files_are_copied(
    ground: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--mode", "hardlink", "--mutable", "*.py", "--mutable", "package/t*"]
    assert main([source, f"{ground}/target", *given]) == Status.DONE
    assert "1 hardlink" in capsys.readouterr().out
    assert not os.path.samefile(f"{source}/package/tool", f"{ground}/target/package/tool")


@pytest.mark.parametrize("policy", sorted(ALL))
def test_every_policy_counts_what_it_made(
    ground: str, source: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [source, f"{ground}/target", "--mode=copy", "--policy", policy]
    assert main(given) == Status.DONE
    said = f"5 files (5 copy), 2 new directories{RECREATED}\n"
    assert capsys.readouterr().out == said


def test_what_was_replaced_is_counted(
    ground: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main([source, f"{ground}/target", "--mode", "copy", "--quiet"])
    main([source, f"{ground}/target", "--mode", "copy"])
    replaced = len(trees.possible(PACKAGE))
    said = f"0 new directories{RECREATED}, {replaced} replaced\n"
    assert capsys.readouterr().out.endswith(said)


def test_a_run_in_a_process_of_its_own_says_and_does_the_same(ground: str, source: str) -> None:
    run = command(source, f"{ground}/target", "--mode=copy")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"5 files (5 copy), 2 new directories{RECREATED}\n"


# --- fallbacks ----------------------------------------------------------------------------------


def fallbacks(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> list[str]:
    """Run the command to a good end; return the lines that it wrote to stderr."""
    assert main(arguments) == Status.DONE
    return capsys.readouterr().err.splitlines()


def test_a_fallback_names_what_was_asked_and_what_happened(
    ground: str, source: str, machine: Callable[[Calls], None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(refusing(ficlone=errno.EXDEV))
    lines = fallbacks(capsys, [source, f"{ground}/target", "--quiet"])
    whole = [line for line in lines if "this pair of filesystems" in line]
    assert len(whole) == 1
    assert whole[0].startswith("asked for clone, got copy: ")
    assert "met cross-device at clone-file (Invalid cross-device link)" in whole[0]
    assert all(line.startswith("asked for clone, got copy: ") for line in lines)


@pytest.mark.parametrize(
    ("refused", "ended"),
    [(("ficlone",), "hardlink"), (("ficlone", "link"), "copy")],
    ids=["clone refused", "clone and hardlink refused"],
)
def test_a_chain_of_fallbacks_names_the_mode_at_its_end(
    ground: str,
    source: str,
    machine: Callable[[Calls], None],
    capsys: pytest.CaptureFixture[str],
    refused: tuple[str, ...],
    ended: str,
) -> None:
    """Measured with uv 0.13: clone was asked for, and "Failed to hardlink files" printed."""
    machine(refusing(**dict.fromkeys(refused, errno.EXDEV)))

    lines = fallbacks(capsys, [source, f"{ground}/target", "--policy", "uv", "--quiet"])

    assert len(lines) == len(refused)
    assert all(line.startswith(f"asked for clone, got {ended}: ") for line in lines)
    main([source, f"{ground}/other", "--policy", "uv", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {ended: 5}
    assert {each["ended"] for each in report["fallbacks"]} == {ended}


def test_fallbacks_of_single_files_are_grouped_and_counted(
    ground: str, machine: Callable[[Calls], None], capsys: pytest.CaptureFixture[str]
) -> None:
    trees.build(f"{ground}/source", {f"d/{n}": File(trees.noise(9000, n)) for n in range(7)})

    def too_many(source: str, *rest: Any, **options: Any) -> None:
        if source in "135":
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        os.link(source, *rest, **options)

    machine(dataclasses.replace(CALLS, link=too_many))
    lines = fallbacks(capsys, [f"{ground}/source", f"{ground}/target", "--mode", "hardlink"])

    assert lines == [
        "asked for hardlink, got copy: 3 files met too-many-links at hardlink (Too many links), "
        "first d/1"
    ]


def test_strict_fails_instead(
    ground: str, source: str, machine: Callable[[Calls], None], capsys: pytest.CaptureFixture[str]
) -> None:
    machine(refusing(ficlone=errno.EOPNOTSUPP))
    assert main([source, f"{ground}/target", "--strict"]) == Status.FAILED
    said = capsys.readouterr()
    assert "cannot clone" in said.err
    assert "hint: without strict it would be linked by copy" in said.err
    assert not os.path.exists(f"{ground}/target")


# --- failures -----------------------------------------------------------------------------------


def test_a_failure_says_what_why_and_a_hint(
    ground: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.build(f"{ground}/target", {"package": File(b"theirs")})
    before = trees.snapshot(ground)

    assert main([source, f"{ground}/target", "--json"]) == Status.FAILED

    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "cannot merge the directory package: the target has a file of that name",
        "hint: remove the file from the target",
    ]
    error = json.loads(said.out)["error"]
    assert (error["path"], error["condition"], error["left"]) == ("package", "not-directory", [])
    assert trees.differences(before, trees.snapshot(ground)) == []


def test_a_name_that_exists_is_a_failure_if_so_asked(
    ground: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.build(f"{ground}/target", {"package/module.py": File(b"theirs")})
    arguments = [source, f"{ground}/target", "--mode=copy", "--existing"]
    assert main([*arguments, "fail"]) == Status.FAILED
    assert "package exists already" in capsys.readouterr().err
    assert main([*arguments, "merge"]) == Status.DONE


def test_what_could_not_be_undone_has_a_status_of_its_own(
    ground: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LinkError(
            "cannot link a", why="a\nreason", hint="a hint", left=("b\x1b[2J", "c\udcff")
        )

    monkeypatch.setattr("linker.engine.link_tree", fail)
    assert main([source, f"{ground}/target"]) == Status.LEFT
    assert capsys.readouterr().err.splitlines() == [
        "cannot link a: a\\nreason",
        "could not be undone: b\\x1b[2J, c\\udcff",
        "hint: a hint",
    ]


def test_names_of_any_bytes_reach_any_terminal(ground: str) -> None:
    name = os.fsdecode(b"odd \xff\n\x1b[31m n\xc3\xa4me")
    trees.build(f"{ground}/source", {f"{name}/a": File()})
    trees.build(f"{ground}/target", {name: File(b"in the way")})
    environment = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}

    run = subprocess.run(
        (sys.executable, "-m", "linker", f"{ground}/source", f"{ground}/target"),
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )

    assert run.returncode == Status.FAILED
    lines = run.stderr.decode("ascii").splitlines()
    assert lines[0].startswith("cannot merge the directory odd \\udcff\\n\\x1b[31m n\\xe4me: ")
    assert len(lines) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("source",),
        ("source", "target", "more"),
        ("source", "target", "--mode", "hardlnk"),
        ("source", "target", "--policy", "nobody"),
        ("source", "target", "--existing", "maybe"),
        ("source", "target", "--strct"),
        ("source", "target", "--stri"),
        ("source", "target", "--no-verify"),
        ("add", "source"),
        ("add", "--store", "store"),
        ("add", "--store", "store", "source", "--algorithm", "md5"),
    ],
    ids=" ".join,
)
def test_wrong_usage_has_a_status_of_its_own_and_does_nothing(
    ground: str,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trees.build(f"{ground}/source", NO_LINKS)
    monkeypatch.chdir(ground)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == Status.USAGE
    assert "usage: python -m linker" in capsys.readouterr().err
    assert os.listdir(ground) == ["source"]


def test_help_documents_every_status(capsys: pytest.CaptureFixture[str]) -> None:
    every = {each.value for each in Status}
    for arguments, there in ((["--help"], every), (["add", "--help"], every - {Status.LEFT})):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        listed = capsys.readouterr().out.partition("exit status:")[2].splitlines()
        assert {int(line.split()[0]) for line in listed if line} == there


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [(), ("--json",), ("--progress",)], ids=["words", "json", "progress"]
)
def test_a_reader_who_is_gone_is_no_reason_to_fail(
    ground: str, source: str, more: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        run = command(source, f"{ground}/target", "--mode=copy", *more, stdout=writing)
        assert (run.returncode, "rror" in run.stderr) == (0, False)
        run = command(source, f"{ground}/target", "--mode=copy", *more, stderr=writing)
        assert run.returncode == 0
        assert run.stdout
    finally:
        os.close(writing)
    assert trees.snapshot(f"{ground}/target").keys() == trees.snapshot(source).keys()


def test_a_report_that_cannot_be_written_is_a_status_of_its_own(ground: str, source: str) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        run = command(source, f"{ground}/target", "--mode=copy", stdout=full)
        assert run.returncode == Status.UNTOLD
        assert run.stderr == "cannot write to stdout: No space left on device\n"
        quiet = command(source, f"{ground}/target", "--mode=copy", "--quiet", stdout=full)
        assert quiet.returncode == Status.DONE
        mute = command(source, f"{ground}/source/package", stdout=full, stderr=full)
        assert mute.returncode == Status.FAILED


def test_closed_streams_are_no_reason_to_fail(ground: str, source: str) -> None:
    def close_both() -> None:
        os.close(1)
        os.close(2)

    run = command(
        source,
        f"{ground}/target",
        "--progress",
        stdout=None,
        stderr=None,
        preexec_fn=close_both,
    )
    assert run.returncode == 0
    assert trees.snapshot(f"{ground}/target").keys() == trees.snapshot(source).keys()


def test_progress_is_told_by_the_line_where_there_is_no_terminal(
    ground: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.build(f"{ground}/source", {f"{n:03}/file": File() for n in range(100)})
    assert main([f"{ground}/source", f"{ground}/target", "--mode=copy", "--progress"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[-1] == "100 of 100 files"
    assert all(line.endswith(" of 100 files") for line in lines)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_stays_on_its_line_where_there_is_a_terminal(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/source", {f"{n:03}/file": File() for n in range(100)})
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main([f"{ground}/source", f"{ground}/target", "--mode=copy", "--progress"]) == 0
    said = terminal.getvalue()
    assert said.startswith("\r")
    assert said.endswith("\r100 of 100 files\n")
    assert said.count("\n") == 1


def test_an_interrupted_link_is_undone(
    ground: str, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.build(f"{ground}/target", {"package/module.py": File(b"old")})
    before = trees.lasting(trees.snapshot(ground))

    def interrupt(self: object, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli._Counter, "__call__", interrupt)
    assert main([source, f"{ground}/target", "--mode=copy", "--progress"]) == Status.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert trees.differences(before, trees.lasting(trees.snapshot(ground))) == []


def test_control_c_is_such_an_interruption(ground: str) -> None:
    trees.build(f"{ground}/source", {f"{n:03}/file": File(trees.noise(1000)) for n in range(50)})
    script = (
        "import sys, time; from linker import cli\n"
        f"def wait(*_): print('here', flush=True); time.sleep({LONGER})\n"
        "cli._Counter.__call__ = wait\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        (sys.executable, "-c", script, f"{ground}/source", f"{ground}/target", "--progress"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "here\n"
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == Status.INTERRUPTED
    assert said == "interrupted\n"
    assert os.listdir(ground) == ["source"]


# --- stores -------------------------------------------------------------------------------------


@pytest.fixture
def added(ground: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """A store and a manifest, made by the command."""
    trees.build(f"{ground}/files", NO_LINKS)
    store, manifest = f"{ground}/store", f"{ground}/manifest.json"
    assert main(["add", "--store", store, "--manifest", manifest, f"{ground}/files"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "3 files, 3 different, are in the store\n"
    return store, manifest


def test_what_was_added_is_linked(
    ground: str, added: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, manifest = added
    assert main(["--store", store, manifest, f"{ground}/target", "--mode=hardlink"]) == 0
    assert capsys.readouterr().out == "3 files (3 hardlink), 2 new directories\n"
    assert os.stat(f"{ground}/target/d/b").st_nlink == 2


def test_nothing_is_added_whose_manifest_could_not_be_written(
    ground: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trees.build(f"{ground}/files", NO_LINKS)
    manifest = f"{ground}/nowhere/manifest.json"
    status = main(["add", "--store", f"{ground}/store", "--manifest", manifest, f"{ground}/files"])
    assert status == Status.FAILED
    assert f"cannot write the manifest {manifest}: No such" in capsys.readouterr().err
    assert os.listdir(ground) == ["files"]


def test_a_manifest_may_lie_in_a_store_that_is_made_for_it(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/files", NO_LINKS)
    monkeypatch.chdir(ground)
    assert main(["add", "--store", "store", "--manifest", "store/m.json", "files"]) == 0
    assert Manifest.read("store/m.json").files.keys() == {"a", "d/b", "d/c"}
    assert main(["add", "--store", "other", "--manifest", "other/in/m.json", "files"]) == 1
    assert not os.path.exists("other")


@pytest.mark.parametrize("stderr", ["open", "closed", "full"])
def test_an_interrupt_while_the_linker_is_loaded_is_told(ground: str, stderr: str) -> None:
    press_early(Path(ground))
    path = os.pathsep.join([ground, *sys.path])
    options: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": path}}
    if stderr == "closed":
        options["preexec_fn"] = lambda: os.close(2)
    with open("/dev/full", "w", encoding="ascii") as full:
        if stderr == "full":
            options["stderr"] = full
        run = command(f"{ground}/source", f"{ground}/target", **options)
    assert (run.returncode, run.stdout) == (Status.INTERRUPTED, "")
    if stderr == "open":
        assert run.stderr.splitlines() == ["interrupted"]


def test_a_manifest_goes_through_a_pipe(ground: str) -> None:
    trees.build(f"{ground}/files", NO_LINKS)
    out = command("add", "--store", f"{ground}/store", "--quiet", f"{ground}/files")
    assert (out.returncode, out.stderr) == (0, "")
    link = command("--store", f"{ground}/store", "-", f"{ground}/target", input=out.stdout)
    assert link.returncode == 0
    assert Manifest.loads(out.stdout) == Store(f"{ground}/store").add(f"{ground}/target")


def test_a_directory_called_add_is_linked_by_its_path(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.build(f"{ground}/add", NO_LINKS)
    monkeypatch.chdir(ground)
    assert main(["./add", "target", "--mode=copy", "--quiet"]) == 0
    assert sorted(os.listdir(f"{ground}/target")) == ["a", "d"]


@pytest.mark.parametrize("option", ["--manifest", "--expect", "--store"])
def test_an_empty_word_is_no_path_and_nothing_is_added(
    ground: str,
    added: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    monkeypatch.chdir(ground)
    trees.build("others", {"o": File(b"o")})
    options = {"--store": f"{ground}/store", option: ""}
    before = trees.snapshot(ground)
    words = [word for pair in options.items() for word in pair]
    assert main(["add", *words, "others"]) == Status.FAILED
    assert "'' is no path" in capsys.readouterr().err
    assert main(["--store", "", "others", "target"]) == Status.FAILED
    assert "the store '' is no path" in capsys.readouterr().err
    assert main(["--store=", "others", "target"]) == Status.FAILED
    assert trees.differences(before, trees.snapshot(ground)) == []


def test_a_manifest_that_cannot_come_from_stdin_is_told(
    ground: str, added: tuple[str, str]
) -> None:
    words = ("--store", added[0], "-", f"{ground}/target")
    closed = command(*words, stdin=None, preexec_fn=lambda: os.close(0))
    assert (closed.returncode, closed.stderr.count("\n")) == (Status.FAILED, 2)
    assert "cannot read the manifest from stdin" in closed.stderr
    with open(os.devnull, "wb") as writing:
        run = command(*words, stdin=writing)
    assert "cannot read the manifest from stdin" in run.stderr


def test_an_error_that_no_program_reads_is_told_to_people(ground: str) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        run = command(f"{ground}/missing", f"{ground}/target", "--json", stdout=full)
    assert run.returncode == Status.FAILED
    assert run.stderr.startswith("cannot write to stdout: No space left on device\n")
    assert f"the source {ground}/missing does not exist" in run.stderr


def test_a_working_directory_that_was_removed_is_told(ground: str, source: str) -> None:
    script = (
        "import os, sys; from linker import cli; os.mkdir('gone'); os.chdir('gone');"
        "os.rmdir('../gone'); sys.exit(cli.main(sys.argv[1:]))"
    )
    for words in ((source, "target"), ("add", "--store", "store", source)):
        run = subprocess.run(
            (sys.executable, "-c", script, *words),
            cwd=ground,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert run.returncode == Status.FAILED, run.stderr
        assert "leads nowhere: the working directory was removed" in run.stderr


def test_a_source_that_was_not_expected_is_not_added(
    ground: str, added: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    store, manifest = added
    Path(f"{ground}/files/a").write_bytes(b"other")
    before = trees.snapshot(store)
    assert main(["add", "--store", store, "--expect", manifest, f"{ground}/files"]) == 1
    assert "not what the manifest says of 'a'" in capsys.readouterr().err
    assert trees.snapshot(store).keys() == before.keys()


BAD_PATHS = ["../a", "/etc/passwd", "C:\\a", "C:a", "a\\b", "A", "d", "a/b", "d//b", "d/b\0"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_manifest_that_leads_out_is_refused_before_anything_is_written(
    ground: str, added: tuple[str, str], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, manifest = added
    document = json.loads(Path(manifest).read_text())
    document["files"][path] = document["files"]["a"]
    Path(manifest).write_text(json.dumps(document))
    trees.build(f"{ground}/target", {"d/b": File(b"old")})
    before = trees.snapshot(ground)

    for target in ("target", "new"):
        assert main(["--store", store, manifest, f"{ground}/{target}"]) == Status.FAILED
        assert "the manifest must not name" in capsys.readouterr().err

    assert trees.differences(before, trees.snapshot(ground)) == []


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_a_store_without_the_content_is_refused_before_anything_is_written(
    ground: str, added: tuple[str, str], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store, manifest = added
    for parent, _, names in os.walk(f"{store}/files"):
        for name in names:
            path = f"{parent}/{name}"
            seen = os.stat(path)
            if damage == "missing":
                trees.remove(path)
            else:
                Path(path).chmod(0o600)
                Path(path).write_bytes(b"!" * (seen.st_size + 1))
                os.chmod(path, seen.st_mode)
                os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    before = trees.snapshot(ground)

    assert main(["--store", store, manifest, f"{ground}/target", "--json"]) == Status.FAILED

    said = capsys.readouterr()
    assert "the store cannot give 'a'" in said.err
    assert "hint: add the files to the store again" in said.err
    assert json.loads(said.out)["error"]["condition"] == (
        "missing" if damage == "missing" else "other"
    )
    assert trees.differences(before, trees.snapshot(ground)) == []
    if damage == "corrupt":  # trusted if so asked
        assert main(["--store", store, manifest, f"{ground}/target", "--no-verify"]) == 0


def test_modes_and_their_words_are_all_there() -> None:
    assert {LinkMode.parse(mode.value) for mode in LinkMode} == set(LinkMode)
