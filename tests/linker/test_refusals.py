"""What is refused before anything is written: each in its words, with its path and condition."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from linker import link_file, link_tree
from linker.conditions import Condition, Primitive
from linker.inputs import (
    check_file,
    check_paths,
    check_policy,
    check_roots,
    mutable_matcher,
    parse_mode,
    parse_processes,
)
from linker.journal import SAVED, STAGE
from linker.modes import LinkMode
from linker.platforms.base import Failed, Kind
from linker.report import LinkError
from linker.sources import DirectorySource, Shelf, absolute_prefix, survey
from linker.tree import Lost, Node, Reserved, SpecialFile
from tests.linker import trees, users
from tests.linker.seams import MachinePlatform
from tests.linker.trees import Directory, File, Symlink, Tree

TREE: Tree = {
    "file": File(b"file"),
    "dir/sub": Directory(),
    "ln": Symlink("dir"),
    "dangling": Symlink("nowhere"),
    "file-ln": Symlink("file"),
}

Words = tuple[str, str, str, str, Condition | None]


@pytest.fixture
def here(ground: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A directory with one thing of every kind, and the working directory."""
    trees.build(f"{ground}/here", TREE)
    monkeypatch.chdir(f"{ground}/here")
    return os.getcwd()


def words(call: Callable[..., object], *arguments: Any, **options: Any) -> Words:
    """Return what an error says: what, why, hint, path and condition."""
    with pytest.raises(LinkError) as caught:
        call(*arguments, **options)
    error = caught.value
    return error.what, error.why, error.hint, error.path, error.condition


def test_a_path_that_names_nothing_is_refused() -> None:
    for path, why in (("", "it is empty"), ("a\0b", "it holds a NUL")):
        assert words(check_paths, source="fine", target=path) == (
            f"the target {path!r} is no path",
            why,
            "the working directory is called '.'",
            path,
            None,
        )
    check_paths(source="a", target="b")
    for check in (check_file, check_roots):
        assert words(check, "", "t")[0] == "the source '' is no path"
        assert words(check, "s", "\0")[0] == "the target '\\x00' is no path"
    assert words(check_roots, "s", "", target_is="store")[0] == "the store '' is no path"


@pytest.mark.parametrize("check", [check_roots, check_file])
def test_a_source_that_is_not_there_is_refused(here: str, check: Callable[..., object]) -> None:
    assert words(check, "missing\n", "new") == (
        "the source missing\\n does not exist",
        "",
        "check the path; a relative one starts at the working directory",
        "missing\n",
        Condition.MISSING,
    )


@pytest.mark.parametrize("source", ["file", "dangling", "file-ln"])
def test_a_source_that_is_no_directory_is_refused(here: str, source: str) -> None:
    assert words(check_roots, source, "new") == (
        f"the source {source} is no directory",
        "",
        "link_file links a single file",
        source,
        Condition.NOT_DIRECTORY,
    )


@pytest.mark.parametrize("target", ["file", "file-ln", "dangling"])
def test_a_target_that_is_no_directory_is_refused(here: str, target: str) -> None:
    for called in ({}, {"target_is": "store"}):
        assert words(check_roots, "dir", target, **called) == (
            f"the {called.get('target_is', 'target')} {target} is no directory",
            "",
            "name a directory, or a path where nothing is yet",
            target,
            Condition.NOT_DIRECTORY,
        )


@pytest.mark.parametrize("target", ["dir", "ln", "dir/../dir/"])
def test_one_directory_under_two_names_is_refused(here: str, target: str) -> None:
    assert words(check_roots, "dir", target, target_is="store") == (
        "source and store are the same directory",
        f"both are {here}/dir",
        "name another directory for one of them",
        target,
        None,
    )


@pytest.mark.parametrize("target", ["dir/sub", "ln/sub", "dir/new", "ln/sub/new/newer"])
def test_a_target_inside_the_source_is_refused(here: str, target: str) -> None:
    assert words(check_roots, "dir", target, target_is="store") == (
        "the store lies inside the source",
        f"{os.path.realpath(target)} is below {here}/dir",
        "a tree cannot be linked into itself",
        target,
        None,
    )


@pytest.mark.parametrize("target", [".", "dir", "ln"])
def test_a_source_inside_the_target_is_refused(here: str, target: str) -> None:
    assert words(check_roots, "dir/sub", target) == (
        "the source lies inside the target",
        f"{here}/dir/sub is below {os.path.realpath(target)}",
        "a tree cannot be linked into itself",
        target,
        None,
    )


@pytest.mark.parametrize(
    "target", ["new", "new/newer", "dir2", "dir2/in", "ln2", "ln2/new", "ln2/in", "ln2/../dir2/"]
)
def test_roots_that_can_be_linked_are_told_by_the_targets_real_path(here: str, target: str) -> None:
    os.makedirs("dir2/in")
    os.symlink("dir2", "ln2")
    ways = ["", f"{here}/", f"{here}//", f"{here}/./", f"{here}/dir/../"]
    if os.sep == "/":
        ways.append(f"/{here}/")
    for way in ways:
        assert check_roots(f"{here}/dir", way + target) == os.path.realpath(target)


@pytest.mark.parametrize(
    ("number", "condition"),
    [
        (errno.EACCES, Condition.DENIED),
        (errno.EPERM, Condition.DENIED),
        (errno.EIO, Condition.OTHER),
    ],
)
def test_a_directory_above_that_cannot_be_looked_at_is_told(
    here: str, monkeypatch: pytest.MonkeyPatch, number: int, condition: Condition
) -> None:
    plain = os.stat

    def stat(path: Any, **options: Any) -> os.stat_result:
        if path == f"{here}/shut":
            raise OSError(number, os.strerror(number), path)
        return plain(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert words(check_roots, "dir", "shut/new") == (
        f"cannot look at {here}/shut",
        os.strerror(number),
        "let this user look there: source and target must not lie in one another",
        f"{here}/shut",
        condition,
    )


# One file.


def test_a_directory_is_no_file(here: str) -> None:
    assert words(check_file, "dir", "new") == (
        "the source dir is a directory",
        "",
        "link_tree links a directory",
        "dir",
        Condition.IS_DIRECTORY,
    )


def test_a_special_file_is_no_file(here: str) -> None:
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    for name in ("fifo", "socket"):
        assert words(check_file, name, "new") == (
            f"cannot link {name}",
            "it is a device, socket or fifo, and only files, directories and symlinks can be "
            "linked",
            "make what it is where it is needed: mkfifo(1), mknod(1)",
            name,
            None,
        )


def test_the_root_of_all_directories_is_no_name(here: str) -> None:
    assert words(check_file, "file", "/") == (
        "cannot replace /",
        "it is the root of all directories",
        "name the file that shall be made",
        "/",
        Condition.IS_DIRECTORY,
    )


@pytest.mark.parametrize("target", ["file", "./file", "dir/../file"])
def test_one_file_under_one_name_is_refused(here: str, target: str) -> None:
    assert words(check_file, "file", target) == (
        "source and target are the same file",
        "file",
        "name another path for one of them",
        target,
        None,
    )


def test_a_file_or_symlink_can_be_linked_elsewhere(here: str) -> None:
    assert check_file("file", "dir/file") is Kind.FILE
    assert check_file("file", "other") is Kind.FILE
    for symlink in ("ln", "dangling", "file-ln"):
        assert check_file(symlink, "other") is Kind.SYMLINK


# Modes and globs.


@pytest.mark.parametrize("mode", ["move", "", 3])
def test_an_unknown_mode_is_refused_with_those_there_are(mode: Any) -> None:
    assert words(parse_mode, mode) == (
        f"unknown link mode {mode!r}",
        "",
        "choose one of clone, hardlink, symlink, copy (or reflink)",
        "",
        None,
    )
    assert parse_mode("reflink") is parse_mode(LinkMode.CLONE) is LinkMode.CLONE


@pytest.mark.parametrize("processes", [0, -1])
def test_a_number_of_processes_is_one_or_more(processes: int) -> None:
    what, _, hint, _, _ = words(parse_processes, processes)
    assert what == f"{processes} is no number of processes"
    assert hint == "1 is this one alone, 2 is with one helper"
    assert [parse_processes(number) for number in (1, 2)] == [1, 2]


def test_globs_are_held_against_names_or_whole_paths() -> None:
    top = Node("", None)
    info = Node("x.dist-info", top)

    def mutable(patterns: Any) -> list[str]:
        matches = mutable_matcher(patterns)
        assert matches is not None
        found = [(top, "RECORD"), (info, "RECORD"), (info, "RECORD2"), (info, "other.py")]
        return [node.join(name) for node, name in found if matches(node, name)]

    assert mutable(["RECORD"]) == mutable("RECORD") == ["RECORD", "x.dist-info/RECORD"]
    assert mutable(["*.dist-info/RECORD"]) == ["x.dist-info/RECORD"]
    assert mutable(["*.dist-info/RECORD", "other.*"]) == [
        "x.dist-info/RECORD",
        "x.dist-info/other.py",
    ]
    assert mutable(["a/b", "c/d"]) == []
    assert mutable(["a/b", "*.dist-info/RECORD", "c/d"]) == ["x.dist-info/RECORD"]
    assert mutable(["no", "other.py"]) == ["x.dist-info/other.py"]
    assert mutable_matcher([]) is None
    assert mutable_matcher(iter(())) is None


# What a source holds.


@pytest.mark.parametrize("what", ["source", "target"])
def test_nothing_is_linked_from_or_to_what_the_next_link_would_remove(here: str, what: str) -> None:
    name = f"{here}/dir/{STAGE}1"
    os.makedirs(f"{name}/in")
    paths = [f"{here}/source", f"{here}/target"]
    os.makedirs(paths[0], exist_ok=True)
    real = paths[what == "target"] = os.path.realpath(f"{name}/in")
    assert words(check_roots, *paths) == (
        f"the {what} {real} has a reserved name",
        f"names that begin with {STAGE!r} are those of interrupted links, which are removed",
        "give it another name",
        real,
        None,
    )


def test_a_name_is_no_policy() -> None:
    assert words(check_policy, "uv") == (
        "'uv' is no policy",
        "a policy is a whole fallback graph, not its name",
        "take one of linker.policies: REFERENCE, UV, …",
        "",
        None,
    )
    for link in (link_tree, link_file):
        assert (
            words(partial(cast("Any", link), policy="uv"), "source", "target")[0]
            == "'uv' is no policy"
        )


@pytest.mark.parametrize("globs", [5, None, [5], ["*.pth", b"RECORD"]])
def test_globs_are_texts(globs: Any) -> None:
    what, why, hint, *_ = words(mutable_matcher, globs)
    assert what == f"{globs!r} are no globs of files"
    assert why.endswith(("is not iterable", "5 is no text", "b'RECORD' is no text"))
    assert hint == 'give a sequence of texts, as in mutable=["RECORD", "*.pth"]'


class Raising:
    """A source that cannot be described."""

    root = "/"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def fill(self, *_: object) -> Any:
        raise self.error


def surveyed(error: Exception) -> Words:
    return words(survey, Raising(error), MachinePlatform(), 7, Node("", None), ".ours-")


def test_what_a_source_may_not_hold_is_named() -> None:
    why = "names that begin like that are reserved for interrupted links"
    what = "cannot link d/.ours-1\\n"
    assert surveyed(Reserved("d/.ours-1\n")) == (what, why, "rename it", "d/.ours-1\n", None)
    assert surveyed(Reserved(f"d/{STAGE}1"))[1:3] == (
        "the name is reserved: it is what an interrupted link left there",
        "link into that directory once more, which removes it",
    )
    assert surveyed(Reserved(f"{SAVED}1"))[1:3] == (
        "the name is reserved: it holds files that an undo could not put back",
        "move what is in it to where it belongs, then remove it",
    )
    assert surveyed(SpecialFile("d/fifo\n")) == (
        "cannot link d/fifo\\n",
        "it is a device, socket or fifo, and only files, directories and symlinks can be linked",
        "remove it from the source",
        "d/fifo\n",
        None,
    )


@pytest.mark.parametrize("path", ["", "a"])
def test_what_cannot_be_read_of_a_source_is_named(path: str) -> None:
    refusal = OSError(errno.EACCES, "Permission denied")
    failed = Failed(Primitive.READ, refusal)
    node = Node(path, Node("", None)) if path else Node("", None)
    for error, named in ((Lost(node, failed), path or "the source"), (failed, "the source")):
        what, why, _, where, condition = surveyed(error)
        assert (what, why) == (f"cannot read {named}", "Permission denied (EACCES)")
        assert (where, condition) == (named, Condition.DENIED)


def test_a_directory_is_a_source_of_what_lies_in_it(here: str) -> None:
    top, handle = Node("", None), os.open(".", os.O_RDONLY)
    source = DirectorySource(here)
    contents = survey(source, MachinePlatform(), handle, top, ".ours-")
    assert source.root == here
    assert (contents.files, contents.folding) == (1, [])
    assert [node.name for node in top.directories] == ["dir"]
    with pytest.raises(Failed) as caught:
        contents.way.enter("missing")
    assert caught.value.primitive is Primitive.READ
    assert os.fstat(contents.way.seek(top.directories[0])).st_ino == os.stat("dir").st_ino
    shelf = Shelf(MachinePlatform(), handle, top)
    assert shelf.seek(top.directories[0]) == handle
    contents.way.reset()
    refused = words(survey, source, MachinePlatform(), handle, Node("", None), "di")
    assert refused[0] == "cannot link dir"
    os.close(handle)
    refused = words(survey, source, MachinePlatform(), handle, Node("", None), ".ours-")
    assert refused[0] == "cannot read the source"


def test_absolute_paths_below_a_directory_begin_alike(here: str) -> None:
    assert absolute_prefix("dir") == f"{here}/dir/"
    assert absolute_prefix("/") == "/"


@users.ROOT_ONLY
def test_a_source_that_may_not_be_looked_at_is_refused_as_that(here: str) -> None:
    os.makedirs("shut/in")
    os.chmod("shut", 0o700)
    with users.ordinary_user():
        for check, source in ((check_roots, "shut/in"), (check_file, f"{here}/shut/in")):
            assert words(check, source, "target") == (
                f"cannot look at the source {source}",
                "Permission denied",
                "a directory on the way to it may not be searched by this user",
                source,
                Condition.DENIED,
            )


def test_a_working_directory_that_was_removed_is_told_of_relative_paths_alone(
    here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkdir("gone")
    monkeypatch.chdir("gone")
    os.rmdir(f"{here}/gone")
    assert words(check_roots, f"{here}/dir", "target") == (
        "target leads nowhere",
        "the working directory was removed",
        "name a path from the root, or work in another directory",
        "target",
        Condition.MISSING,
    )
    assert check_roots(f"{here}/dir", f"{here}/new") == f"{here}/new"
    assert words(check_roots, f"{here}/dir", "")[1] == "it is empty"
