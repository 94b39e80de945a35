"""The wheels of the main job: pinned, checked, unpacked whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import wheels
from scripts.wheels import Pin, WheelsError

MakeWheel = Callable[[Path, str, dict[str, tuple[bytes, int]]], Pin]


def test_the_pins_that_ship_can_be_read_and_name_each_project_once() -> None:
    pins = wheels.read_pins()
    names = [pin.project for pin in pins]
    assert {"numpy", "scipy", "sympy", "django"} < set(names)
    assert len(names) == len(set(names))


def test_quick_takes_the_small_ones_only() -> None:
    assert sorted(pin.project for pin in wheels.read_pins(quick=True)) == sorted(wheels.QUICK)


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        "numpy==2.0",
        "numpy>=2.0 --hash=sha256:" + "0" * 64,
        "numpy==2.0 --hash=sha256:" + "0" * 63,
        "numpy==2.0 --hash=md5:" + "0" * 32,
    ],
)
def test_a_line_without_version_or_hash_is_refused_by_number(line: str) -> None:
    with pytest.raises(WheelsError, match=r"wheels\.txt, line 3"):
        wheels.parse_pins(f"# a comment\n\n{line}\n")


def test_a_wheel_that_is_there_is_not_asked_for_again(
    tmp_path: Path, make_wheel: MakeWheel
) -> None:
    pin = make_wheel(tmp_path, "one", {"one.py": (b"x = 1\n", 0o100644)})
    said: list[str] = []
    found = wheels.ensure_wheels(str(tmp_path), [pin], said.append)
    assert found == [str(tmp_path / "one-1.0-py3-none-any.whl")]
    assert said == []


def test_a_wheel_with_other_content_counts_as_missing(
    tmp_path: Path, make_wheel: MakeWheel
) -> None:
    pin = make_wheel(tmp_path, "one", {"one.py": (b"x = 1\n", 0o100644)})
    with (tmp_path / "one-1.0-py3-none-any.whl").open("ab") as file:
        file.write(b"more")
    assert wheels.find_wheels(str(tmp_path), [pin]) == ({}, (pin,))


def test_without_the_index_the_error_says_where_the_wheels_can_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho no route to the index; exit 3\n")
    failing.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(failing))
    cache = tmp_path / "cache"
    with pytest.raises(WheelsError) as caught:
        wheels.ensure_wheels(str(cache), [Pin("one", "1.0", "0" * 64)], lambda _: None)
    said = str(caught.value)
    assert "no route to the index" in said
    assert "exit status 3" in said
    assert str(cache) in said


def test_unpacking_keeps_bits_and_times(tmp_path: Path, make_wheel: MakeWheel) -> None:
    pin = make_wheel(
        tmp_path / "wheels",
        "one",
        {
            "one/__init__.py": (b"", 0o100644),
            "one/run.sh": (b"#!/bin/sh\n", 0o100755),
            "one/secret": (b"s", 0o100600),
            "one/of-another-system": (b"d", 0o100000),
        },
    )
    found, _ = wheels.find_wheels(str(tmp_path / "wheels"), [pin])
    tree = wheels.ensure_tree(str(tmp_path), list(found.values()), [pin])
    root = Path(tree.path, "one")
    bits = {path.name: path.stat().st_mode & 0o7777 for path in root.iterdir()}
    assert bits == {
        "__init__.py": 0o644,
        "run.sh": 0o755,
        "secret": 0o600,
        "of-another-system": 0o644,
    }
    assert {path.stat().st_mtime for path in (root, *root.iterdir())} == {1709209858.0}
    assert (tree.files, tree.directories, tree.bytes) == (4, 1, 12)
    assert tree.wheels == ("one 1.0",)


def test_a_tree_is_unpacked_once_and_found_again(tmp_path: Path, make_wheel: MakeWheel) -> None:
    pin = make_wheel(tmp_path / "wheels", "one", {"one.py": (b"x = 1\n", 0o100644)})
    found, _ = wheels.find_wheels(str(tmp_path / "wheels"), [pin])
    first = wheels.ensure_tree(str(tmp_path), list(found.values()), [pin])
    inode = os.stat(first.path).st_ino
    assert wheels.ensure_tree(str(tmp_path), ["no such wheel"], [pin]) == first
    assert os.stat(first.path).st_ino == inode


@pytest.mark.parametrize("name", ["../outside", "/outside", "one/../../outside"])
def test_an_entry_that_would_leave_the_tree_is_refused_and_nothing_stays(
    tmp_path: Path, name: str, make_wheel: MakeWheel
) -> None:
    pin = make_wheel(tmp_path / "wheels", "one", {"one.py": (b"", 0o100644), name: (b"", 0o100644)})
    found, _ = wheels.find_wheels(str(tmp_path / "wheels"), [pin])
    with pytest.raises(WheelsError, match="would leave the tree"):
        wheels.ensure_tree(str(tmp_path / "trees"), list(found.values()), [pin])
    assert os.listdir(tmp_path / "trees") == []


def test_two_wheels_with_one_file_are_refused(tmp_path: Path, make_wheel: MakeWheel) -> None:
    entries = {"same.py": (b"", 0o100644)}
    pins = [make_wheel(tmp_path / "wheels", name, entries) for name in ("one", "two")]
    paths = [str(path) for path in sorted((tmp_path / "wheels").iterdir())]
    with pytest.raises(WheelsError, match="is there already"):
        wheels.ensure_tree(str(tmp_path / "trees"), paths, pins)
