"""A manifest comes from elsewhere, and is refused if it could lead out of a target."""

from __future__ import annotations

import errno
import json
import ntpath
import os
import posixpath
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from linker import LinkError
from linker.manifest import FORMAT, VERSION, Entry, Manifest
from tests.linker import users
from tests.patience import in_time
from tests.profiles import PROFILE

EMPTY = Entry("sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

PATHS = {
    "up": ("..", "leads out"),
    "up at the start": ("../a", "leads out"),
    "up in the middle": ("a/../b", "leads out"),
    "up at the end": ("a/b/..", "leads out"),
    "here": ("./a", "no name"),
    "here at the end": ("a/.", "no name"),
    "absolute": ("/etc/passwd", "absolute"),
    "absolute twice": ("//etc/passwd", "absolute"),
    "root": ("/", "absolute"),
    "drive": ("C:/windows", "drive"),
    "drive without a root": ("c:windows", "drive"),
    "what Windows takes for a drive": ("::", "drive"),
    "drive further down": ("a/D:b", "drive"),
    "backslash": ("a\\b", "backslash"),
    "backslash up": ("..\\a", "backslash"),
    "share": ("\\\\server\\share", "backslash"),
    "nothing": ("", "no path"),
    "empty component": ("a//b", "empty"),
    "slash at the end": ("a/", "empty"),
    "nul": ("a\0b", "NUL"),
    "dots": ("...", "Windows"),
    "up and a blank": ("a/.. /b", "Windows"),
    "blank": ("a/ /b", "Windows"),
    "no bytes": ("a\ud800", "cannot be the name"),
    "letters as bytes": ("a/\udcc3\udca9", "its bytes are those of 'a/\u00e9'"),
    "reserved": ("a/.linkmode-stage-1", "reserved"),
}


@pytest.mark.parametrize("case", PATHS)
@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_path_that_could_lead_elsewhere_is_refused(case: str, what: str) -> None:
    path, words = PATHS[case]
    with pytest.raises(LinkError) as caught:
        Manifest({path: EMPTY}) if what == "file" else Manifest({}, (path,))
    assert caught.value.path == path
    assert words in caught.value.why
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


@settings(PROFILE)
@given(st.text(alphabet="./\\:aA \0\u00e9", max_size=8))
@example("a:/../b")
@example(".. /a")
def test_a_path_that_is_accepted_stays_inside_on_every_system(path: str) -> None:
    try:
        Manifest({path: EMPTY})
    except LinkError:
        reject()
    here = posixpath.normpath(posixpath.join("/target", path))
    assert here == f"/target/{path}"
    there = ntpath.normpath(ntpath.join("X:\\target", *path.split("/")))
    assert there == "X:\\target\\" + path.replace("/", "\\")
    trimmed = [part.rstrip(" .") for part in path.split("/")]
    assert all(trimmed)


@pytest.mark.parametrize(
    "path",
    ["a", "a b/c", "-rf", "new\nline", "foo::bar", "\udcff\udcfe", "a/b/c/d", "~", "..a", "a.."],
)
def test_odd_names_are_names(path: str) -> None:
    assert Manifest.loads(Manifest({path: EMPTY}).dumps()).files == {path: EMPTY}


TWICE = {
    "case": ("a/Name", "a/name"),
    "case of a directory": ("A/x", "a/y"),
    "accents": ("caf\u00e9", "cafe\u0301"),
    "sharp s": ("stra\u00dfe", "STRASSE"),
    "kelvin": ("\u212a", "k"),
    "trailing dot": ("a", "a."),
    "trailing blank": ("d/a", "d /a"),
    "file and directory": ("a", "a/b"),
    "file and directory, folded": ("a", "A/b"),
    "directory and file": ("a/b/c", "a/b"),
}


@pytest.mark.parametrize("case", TWICE)
def test_two_paths_that_some_target_takes_for_one_are_refused(case: str) -> None:
    for first, second in (TWICE[case], reversed(TWICE[case])):
        with pytest.raises(LinkError) as caught:
            Manifest({first: EMPTY, second: EMPTY})
        assert caught.value.path == second
        assert caught.value.why


def test_an_empty_directory_is_no_file_as_well() -> None:
    with pytest.raises(LinkError, match="a file and a directory"):
        Manifest({"a/b": EMPTY}, ("a/b",))
    with pytest.raises(LinkError, match="a file and a directory"):
        Manifest({"a": EMPTY}, ("a/b",))
    with pytest.raises(LinkError, match="one name"):
        Manifest({}, ("a", "A"))


def test_an_empty_directory_may_be_named_that_is_there_anyway() -> None:
    assert Manifest({"a/b": EMPTY}, ("a",)).directories == ("a",)


def _json(**changes: Any) -> str:
    document = {"format": FORMAT, "version": VERSION, "files": {}, "directories": []}
    return json.dumps({**document, **changes})


def _files(facts: object) -> str:
    return _json(files={"a": facts})


DIGEST = EMPTY.digest

MALFORMED: dict[str, str | bytes] = {
    "no json": "{",
    "no text": b"\xff\xfe\xfd",
    "nothing": "",
    "too deep": "[" * 100_000,
    "a list": "[]",
    "a number": "3",
    "another format": _json(format="package-lock"),
    "another version": _json(version=2),
    "no version": json.dumps({"format": FORMAT, "files": {}}),
    "no files": json.dumps({"format": FORMAT, "version": VERSION}),
    "files as a list": _json(files=[]),
    "directories as an object": _json(directories={}),
    "a directory that is no text": _json(directories=[3]),
    "something unknown": _json(links={}),
    "a file that is no object": _files(DIGEST),
    "no digest": _files({"executable": True}),
    "digest of no text": _files({"digest": 5}),
    "unknown digest": _files({"digest": "md5-d41d8cd98f00b204e9800998ecf8427e"}),
    "bare digest": _files({"digest": DIGEST[7:]}),
    "digest in upper case": _files({"digest": "sha256-" + DIGEST[7:].upper()}),
    "short digest": _files({"digest": DIGEST[:-1]}),
    "long digest": _files({"digest": DIGEST + "0"}),
    "digest and a newline": _files({"digest": DIGEST + "\n"}),
    "digest that is a path": _files({"digest": "sha256-../../../../etc/passwd"}),
    "sha512 of another length": _files({"digest": "sha512-" + DIGEST[7:]}),
    "exec bit as a number": _files({"digest": DIGEST, "executable": 1}),
    "exec bit misspelt": _files({"digest": DIGEST, "executeable": True}),
    "a path twice": '{"format": "linker-manifest", "version": 1, "files": {'
    f'"a": {{"digest": "{DIGEST}"}}, "a": {{"digest": "{DIGEST}"}}}}}}',
    "a path twice, escaped": '{"format": "linker-manifest", "version": 1, "files": {'
    f'"a": {{"digest": "{DIGEST}"}}, "\\u0061": {{"digest": "{DIGEST}"}}}}}}',
    "a digest twice": '{"format": "linker-manifest", "version": 1, "files": {'
    f'"a": {{"digest": "{DIGEST}", "digest": "{DIGEST}"}}}}}}',
    "files twice": '{"format": "linker-manifest", "version": 1, "files": {}, "files": {}}',
    "a directory twice": _json(directories=["a", "b", "a"]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_text_that_is_no_manifest_is_refused(case: str) -> None:
    with pytest.raises(LinkError) as caught:
        Manifest.loads(MALFORMED[case])
    assert caught.value.why
    assert caught.value.hint
    assert "manifest" in caught.value.what


def test_the_least_manifest_is_one() -> None:
    text = (
        f'{{"format": "linker-manifest", "version": 1, "files": {{"a": {{"digest": "{DIGEST}"}}}}}}'
    )
    assert Manifest.loads(text).files == {"a": Entry(DIGEST, executable=False)}


NAMES = st.text(st.characters(exclude_characters="/\\\0", codec="utf-8"), min_size=1, max_size=6)


@pytest.mark.parametrize("files", [{"a": None}, {1: EMPTY}, {"a": "sha256-00"}])
def test_what_is_no_path_or_no_entry_is_refused(files: Any) -> None:
    with pytest.raises(LinkError, match="the manifest must not name"):
        Manifest(files)


@settings(PROFILE)
@given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.booleans()))
def test_a_manifest_comes_back_from_json_as_it_was(given_paths: dict[str, bool]) -> None:
    try:
        manifest = Manifest({path: Entry(DIGEST, bit) for path, bit in given_paths.items()})
    except LinkError:
        reject()
    again = Manifest.loads(manifest.dumps())
    assert again == manifest
    assert again.dumps() == manifest.dumps()


def test_a_manifest_is_written_whole_or_not_at_all(ground: str) -> None:
    path = f"{ground}/manifest.json"
    Manifest({"a": EMPTY}).write(path)
    assert Manifest.read(path).files == {"a": EMPTY}

    class Broken(Manifest):
        def dumps(self) -> str:
            raise OSError(28, "No space left on device")

    with pytest.raises(LinkError, match="No space left"):
        Broken({}).write(path)
    with pytest.raises(LinkError, match="cannot write"):
        Manifest({}).write(f"{ground}/nowhere/manifest.json")
    assert Manifest.read(path).files == {"a": EMPTY}
    assert os.listdir(ground) == ["manifest.json"]


def test_whether_a_manifest_can_be_written_is_known_before(ground: str) -> None:
    path = f"{ground}/manifest.json"
    Manifest.check_writable(path)
    assert os.listdir(ground) == []
    Manifest({"a": EMPTY}).write(path)
    Manifest.check_writable(path)
    assert os.listdir(ground) == ["manifest.json"]
    assert Manifest.read(path).files == {"a": EMPTY}
    for wrong in (f"{ground}/nowhere/manifest.json", ground):
        with pytest.raises(LinkError, match="cannot write the manifest"):
            Manifest.check_writable(wrong)


def test_a_name_that_is_too_long_for_a_manifest_is_known_before(ground: str) -> None:
    for use in (Manifest.check_writable, Manifest({"a": EMPTY}).write):
        with pytest.raises(LinkError, match=r"cannot write the manifest .*: File name too long"):
            use(f"{ground}/{'m' * 300}")
    assert os.listdir(ground) == []


@users.ROOT_ONLY
def test_a_manifest_is_written_under_any_umask(ground: str) -> None:
    os.chmod(ground, 0o777)
    path, before = f"{ground}/manifest.json", os.umask(0o777)
    try:
        with users.ordinary_user():
            os.umask(0o777)
            Manifest.check_writable(path)
            Manifest({"a": EMPTY}).write(path)
            Manifest({"b": EMPTY}).write(path)
    finally:
        os.umask(before)
    assert os.listdir(ground) == ["manifest.json"]
    assert Manifest.read(path).files == {"b": EMPTY}


@pytest.mark.parametrize("call", ["replace", "unlink"])
def test_an_interrupt_leaves_no_draft_of_a_manifest(
    ground: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    plain = getattr(os, call)
    pressed = []

    def press(*paths: str) -> None:
        if call == "unlink":
            plain(*paths)
        pressed.append(paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, press)
    use = Manifest.check_writable if call == "unlink" else Manifest({}).write
    with pytest.raises(KeyboardInterrupt):
        use(f"{ground}/manifest.json")
    assert len(pressed) == 1
    assert os.listdir(ground) == []


def test_a_draft_of_a_manifest_that_cannot_be_removed_is_told_before(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(LinkError, match=r"cannot write the manifest .*: Operation not permitted"):
        Manifest.check_writable(f"{ground}/manifest.json")


def test_what_is_wrong_with_a_manifest_is_said_with_its_name(ground: str) -> None:
    path = f"{ground}/manifest.json"
    refused = "the manifest must not name '..'"
    leads_out = Manifest({"a": EMPTY}).dumps().replace('"a"', '".."')
    for text, wrong in (
        ("{", "this is no manifest"),
        (leads_out, refused),
    ):
        Path(path).write_text(text)
        with pytest.raises(LinkError) as told:
            Manifest.read(path)
        assert told.value.what == f"{path}: {wrong}"
        assert told.value.why
        assert told.value.hint


def test_a_manifest_that_cannot_be_read_is_an_error_of_ours(ground: str) -> None:
    with pytest.raises(LinkError, match="cannot read the manifest"):
        Manifest.read(f"{ground}/nothing")
    with pytest.raises(LinkError, match="cannot read the manifest"):
        Manifest.read(ground)


def test_the_first_error_of_a_manifest_that_is_not_written_is_the_one_that_is_told(
    ground: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    class Broken(Manifest):
        def dumps(self) -> str:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(LinkError, match="No space left"):
        Broken({}).write(f"{ground}/manifest.json")


def test_nobody_is_waited_for_who_might_write_a_manifest(ground: str) -> None:
    path, manifest = f"{ground}/fifo", Manifest({"a": EMPTY})
    os.mkfifo(path)
    with in_time(), pytest.raises(LinkError, match="this is no manifest"):
        Manifest.read(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)
    os.close(reading)

    def write() -> None:
        for part in (manifest.dumps()[:20], manifest.dumps()[20:]):
            started.wait(0.05)  # so that reading has to wait for it
            os.write(writing, part.encode("ascii"))
        os.close(writing)

    started = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    with in_time():
        assert Manifest.read(path) == manifest
    writer.join()


def test_a_manifest_takes_the_place_of_files_only(ground: str) -> None:
    os.mkfifo(f"{ground}/fifo")
    os.symlink("/dev/null", f"{ground}/null")
    os.mkdir(f"{ground}/directory")
    for name in ("fifo", "null", "directory"):
        before = os.lstat(f"{ground}/{name}")
        with in_time(), pytest.raises(LinkError, match="it is no file") as caught:
            Manifest({}).write(f"{ground}/{name}")
        assert caught.value.path == f"{ground}/{name}"
        assert os.lstat(f"{ground}/{name}") == before
    with pytest.raises(LinkError, match="it is no file"):
        Manifest.read(f"{ground}/null")
    assert sorted(os.listdir(ground)) == ["directory", "fifo", "null"]
    os.symlink("nothing", f"{ground}/dangling")
    Manifest({}).write(f"{ground}/dangling")
    assert Manifest.read(f"{ground}/dangling") == Manifest({})


def test_a_name_that_is_there_twice_is_found_among_many() -> None:
    names = [f"d{number}" for number in range(60_000)]
    document = {"format": FORMAT, "version": VERSION, "files": {}, "directories": [*names, "d7"]}
    with pytest.raises(LinkError, match="'d7'"), in_time():
        Manifest.loads(json.dumps(document))
    text = json.dumps({**document, "directories": []})
    twice = ", ".join(f'"{name}": 1' for name in [*names, "d7"])
    with pytest.raises(LinkError, match="'d7'"), in_time():
        Manifest.loads(text.replace('"files": {}', f'"files": {{{twice}}}'))


@pytest.mark.faked("symlinks")
def test_a_symlink_to_a_manifest_stays_one(ground: str) -> None:
    manifest = Manifest({"a": EMPTY})
    os.symlink("real.json", f"{ground}/link.json")
    manifest.write(f"{ground}/link.json")
    assert os.readlink(f"{ground}/link.json") == "real.json"
    assert Manifest.read(f"{ground}/real.json") == manifest
    assert sorted(os.listdir(ground)) == ["link.json", "real.json"]


def test_a_manifest_may_have_a_name_of_any_length_that_a_file_may_have(ground: str) -> None:
    manifest = Manifest({"a": EMPTY})
    path = f"{ground}/{'m' * 255}"
    manifest.write(path)
    assert Manifest.read(path) == manifest


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_names_nothing_names_no_manifest(path: str) -> None:
    for use in (Manifest.read, Manifest({"a": EMPTY}).write):
        with pytest.raises(LinkError, match=r"the manifest .* is no path"):
            use(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o664])
def test_a_manifest_is_shown_to_nobody_else_than_before(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "manifest.json"
    path.touch()
    path.chmod(mode)
    Manifest({}).write(path)
    assert path.stat().st_mode & 0o7777 == mode
    assert Manifest.read(path) == Manifest({})
