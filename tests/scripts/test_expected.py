"""The list of what must be verified shrinks only with a line in the changelog."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from linker.policies import REFERENCE
from pytest_linkmode.report.expected import parse, read
from scripts import ci, expected
from tests.patience import SECONDS

EDGE = "linux/clone/clone-file/cross-device"
OTHER = "linux/hardlink/hardlink/cross-device"


def test_the_committed_list_can_be_read_and_speaks_of_edges_that_are_there() -> None:
    found = read(ci.EXPECTED)
    assert found.edges.keys() <= {edge.id for edge in REFERENCE.edges}
    assert found.edges[EDGE] == "real"
    assert ("linux", "btrfs", "clone") in found.cells


BEFORE = f"edge {EDGE} real\nedge {OTHER} injected\ncell linux btrfs clone\n"


@pytest.mark.parametrize(
    ("after", "said", "missing"),
    [
        (BEFORE, "", []),
        (BEFORE + "cell linux xfs clone\n", "", []),
        (BEFORE.replace("injected", "real"), "", []),
        (BEFORE.replace(" real", " modelled"), "", [EDGE]),
        (BEFORE.replace(" real", " modelled"), f"`{EDGE}` is a model's now.", []),
        (BEFORE.replace(f"edge {EDGE} real\n", ""), "", [EDGE]),
        (BEFORE.replace(f"edge {EDGE} real\n", ""), f"`{OTHER}` is another.", [EDGE]),
        (BEFORE.replace("cell linux btrfs clone\n", ""), "", ["linux btrfs clone"]),
        (BEFORE.replace("cell linux btrfs clone\n", ""), "No more `linux btrfs clone`.", []),
        (BEFORE.replace("cell linux btrfs clone\n", ""), "No more `linux btrfs`.", []),
        ("", f"`{EDGE}`, `{OTHER}`", ["linux btrfs clone"]),
    ],
)
def test_what_is_lost_must_be_said(after: str, said: str, missing: list[str]) -> None:
    assert expected.unsaid(parse(BEFORE, "x"), parse(after, "x"), said) == missing


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose first commit has the list, a changelog and a fragment."""
    for path, text in {
        expected.LIST: BEFORE,
        "CHANGELOG.md": f"# Changelog\n\n- `{EDGE}` was said long ago.\n",
        "changelog.d/old.changed.md": f"`{OTHER}` was said long ago.\n",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    _git(tmp_path, "init", "--quiet")
    _commit(tmp_path)
    monkeypatch.setenv("BASE", "HEAD")
    return tmp_path


def _git(where: Path, *words: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=where, check=True, timeout=SECONDS)


def _commit(where: Path) -> None:
    _git(where, "add", "--all")
    _git(where, "commit", "--quiet", "--message=x")


def test_a_shorter_list_needs_a_line_that_was_not_there_before(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert expected.main(str(checkout)) == 0
    (checkout / expected.LIST).write_text("cell linux btrfs clone\n")
    assert expected.main(str(checkout)) == 1
    said = capsys.readouterr().err
    assert said.count("expects less of") == 2
    assert f"`{EDGE}`" in said
    (checkout / "changelog.d/new.changed.md").write_text(f"`{EDGE}` is gone.\n")
    with (checkout / "CHANGELOG.md").open("a") as file:
        file.write(f"- `{OTHER}` is gone.\n")
    assert expected.main(str(checkout)) == 0
    _commit(checkout)
    monkeypatch.setenv("BASE", "0" * 40)
    assert expected.main(str(checkout)) == 0
