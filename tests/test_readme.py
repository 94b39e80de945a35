"""What the documentation promises is tried: examples run, commands and links lead somewhere, and
the tables of the code are in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from linker import LinkMode
from pytest_linkmode.evidence import Proof

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FAULTS = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
MACOS = (ROOT / "docs" / "macos.md").read_text(encoding="utf-8")

_BLOCK = re.compile(
    r"(?:<!-- example: (?P<arguments>[^\n]*) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL
)


def _examples(*texts: str) -> list[tuple[str, str]]:
    """Return (arguments of pytest, code) of each python block."""
    return [
        (found["arguments"] or "", found["code"])
        for text in texts
        for found in _BLOCK.finditer(text)
    ]


def test_every_python_block_says_how_it_is_run() -> None:
    for text in (README, FAULTS, MACOS):
        assert text.count("```python") == len(_examples(text)) > 0
        assert all(arguments.split()[:1] == ["pytest"] for arguments, _ in _examples(text))


@pytest.mark.parametrize(
    ("arguments", "code"), _examples(README, FAULTS, MACOS), ids=lambda value: ""
)
def test_the_examples_pass_as_they_stand(
    pytester: pytest.Pytester, arguments: str, code: str
) -> None:
    pytester.makepyfile(test_example=code)
    result = pytester.runpytest_subprocess(*arguments.split()[1:])
    outcomes = result.parseoutcomes()
    assert result.ret == 0
    assert outcomes.get("passed", 0) > 0
    assert "failed" not in outcomes


def test_the_first_example_without_its_fallback_fails_across_devices_as_promised(
    pytester: pytest.Pytester,
) -> None:
    arguments, code = _examples(README)[0]
    fallback = "        except OSError:\n            shutil.copy2(one, other)\n"
    assert fallback in code
    across = "test_install[[]tmpfs:disk-hardlink[]]"
    test = pytester.makepyfile(test_example=code)
    whole = pytester.runpytest_subprocess(*arguments.split()[1:], "-v")
    if not re.search(r"tmpfs:disk-hardlink\] PASSED", str(whole.stdout)):
        pytest.skip("tmpfs is the only filesystem here: there is no other device to fail on")
    test.write_text(
        code.replace(fallback, "        finally:\n            pass\n"), encoding="utf-8"
    )
    result = pytester.runpytest_subprocess(*arguments.split()[1:], "-v")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{across} FAILED*"])


@pytest.mark.parametrize("command", re.findall(r"^\$ \./(\S+)", README, re.MULTILINE))
def test_the_commands_that_are_named_are_there(command: str) -> None:
    assert os.access(ROOT / command, os.X_OK)


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_table_of_the_main_job_is_whole_and_as_expected() -> None:
    found = re.search(r"<!-- table: begin -->\n```text\n(.*?)\n```", README, re.DOTALL)
    command = re.search(r"run-matrix --layout ([\w,:+-]+)", README)
    assert found
    assert command
    layouts = command[1].split(",")
    head, _, *lines = found[1].partition("\n\n")[0].splitlines()
    column = head.index("mode")
    names = [name for line in lines if (name := line[:column].strip())]
    assert names == layouts
    assert [line[column:].split()[0] for line in lines] == [*map(str, LinkMode)] * len(layouts)
    assert all(line.endswith(" ok") for line in lines)


EXPLANATION = (ROOT / "docs" / "explanation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "proof",
    [
        Proof.SAME_INODE,
        Proof.LINK_TARGET,
        Proof.SHARED_EXTENTS,
        Proof.DIFFERENT_EXTENTS,
        Proof.DIFFERENT_FILESYSTEMS,
        Proof.INDEPENDENCE,
        Proof.EMPTY,
        Proof.HOLES,
    ],
)
def test_every_proof_of_a_mode_is_in_the_explanation(proof: Proof) -> None:
    rows = [line for line in EXPLANATION.splitlines() if line.startswith("| ")]
    assert any(str(proof) in row.split("|")[1] for row in rows)
