"""Fragments of the changelog are called and written so that a release shows all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import changelog
from scripts.bootstrap import ROOT
from tests.patience import SECONDS


def test_the_fragments_that_are_there_are_as_they_should_be() -> None:
    assert changelog.check() == []


@pytest.mark.parametrize(
    ("name", "text", "objection"),
    [
        ("x.feature.md", "A thing.\n", "must be called"),
        ("x.md", "A thing.\n", "must be called"),
        ("X_y.added.md", "A thing.\n", "must be called"),
        ("x.added.md", "", "is empty"),
        ("x.added.md", "- A thing.\n", "must be sentences"),
        ("x.added.md", "# A thing.\n", "must be sentences"),
        ("x.added.md", "A thing\n", "must end with a full stop"),
        ("x.added.md", "A thing.", "must end with one newline"),
        ("x.added.md", "A thing.\n\n", "must end with one newline"),
    ],
)
def test_a_fragment_that_a_release_would_lose_or_garble_is_objected_to(
    tmp_path: Path, name: str, text: str, objection: str
) -> None:
    (tmp_path / "README.md").write_text("anything")
    (tmp_path / "good.fixed.md").write_text("A thing. And `another`\nbelow it (as before.)\n")
    (tmp_path / name).write_text(text)
    (found,) = changelog.check(str(tmp_path))
    assert found.startswith(f"changelog.d/{name} {objection}")


def test_the_section_of_a_release_has_every_fragment_under_the_heading_of_its_type() -> None:
    pytest.importorskip("towncrier", reason="towncrier is in the dependency group changelog")
    ran = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version=9.9.9", "--date=D"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("## [9.9.9] - D\n\n### ")
    shown = " ".join(ran.stdout.split())
    for kind in changelog.types():
        heading = f"### {kind.title()} "
        _, found, rest = shown.partition(heading)
        section = rest.partition(" ### ")[0]
        for fragment in Path(changelog.FRAGMENTS).glob(f"*.{kind}.md"):
            assert found, f"{os.fspath(fragment)} has no heading"
            assert f"- {' '.join(fragment.read_text().split())}" in f"{section} "
