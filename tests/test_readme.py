"""What the documentation promises is tried: examples run, commands and links lead somewhere, and
the tables of the code are in it."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from linker import LinkMode
from pytest_linkmode import cli
from pytest_linkmode.evidence import Proof
from pytest_linkmode.options import BY_NAME, FLAG
from tests.documentation import (
    FAILS,
    PAGES,
    PROGRAM,
    ROOT,
    Example,
    blocks,
    commands,
    essence,
    examples,
    runs,
)
from tests.patience import SECONDS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix().replace("/", "-")


@pytest.mark.parametrize("run", runs(), ids=lambda run: " ".join(run[0].arguments) or "plain")
def test_the_examples_end_as_they_say(pytester: pytest.Pytester, run: list[Example]) -> None:
    first = run[0]
    for name, text in first.files.items():
        (pytester.path / name).write_text(text, encoding="utf-8")
    pages = [re.sub(r"\W", "_", each.page.lower()) for each in run]
    names = [f"test_{number}_{page}.py" for number, page in enumerate(pages)]
    for name, example in zip(names, run, strict=True):
        (pytester.path / name).write_text(example.code, encoding="utf-8")
    result = pytester.runpytest_subprocess("-v", *first.arguments)
    ended = {
        (found[1], found[2])
        for line in result.outlines
        if (found := re.match(r"(test_\w+\.py)::\S+ (PASSED|FAILED|ERROR)", line))
    }
    for example in run:
        for line in example.shown.splitlines():
            assert essence(line) in essence(str(result.stdout))
    word = "FAILED" if first.what == FAILS else "PASSED"
    if first.what == FAILS:
        ended -= {(name, "PASSED") for name in names}
    assert ended == {(name, word) for name in names}
    assert result.ret == (
        pytest.ExitCode.TESTS_FAILED if first.what == FAILS else pytest.ExitCode.OK
    )


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_block_that_is_no_test_is_a_program(page: Path, tmp_path: Path) -> None:
    for program in (each for each in examples(page) if each.what == PROGRAM):
        ran = subprocess.run(
            [sys.executable, "-c", program.code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert ran.returncode == 0, f"{program.code}\n{ran.stderr}"


@pytest.mark.parametrize("command", re.findall(r"^\$ \./(\S+)", README, re.MULTILINE))
def test_the_commands_that_are_named_are_there(command: str) -> None:
    assert os.access(ROOT / command, os.X_OK)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if "docs" in page.parts], ids=_name)
def test_a_page_of_the_site_links_to_no_page_outside_of_it(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    outside = [
        target
        for target in targets
        if not (page.parent / target).resolve().is_relative_to(ROOT / "docs")
    ]
    assert outside == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_the_commands_of_every_page_can_be_typed(page: Path) -> None:
    for words in commands(page):
        program, *rest = words
        if program == "linkmode":
            assert _takes(rest), words
        elif program in ("python", "python3") and rest[:1] == ["-m"] and "scripts" in rest[1]:
            assert importlib.util.find_spec(rest[1]), words
        for word in rest:
            if word.startswith("--linkmode-"):
                name, equals, value = word.removeprefix("--linkmode-").partition("=")
                assert name in BY_NAME, words
                assert (BY_NAME[name].shape is FLAG) == (not equals and not value), words


def _takes(words: list[str]) -> bool:
    """Whether `linkmode` has this subcommand, and the subcommand all these options."""
    command = next((command for command in cli.COMMANDS if command.name == words[0]), None)
    if command is None:
        return False
    parser = argparse.ArgumentParser()
    command.configure(parser)
    known = {name for action in parser._actions for name in action.option_strings}
    ours = words[1 : words.index("--")] if "--" in words else words[1:]
    return {word.partition("=")[0] for word in ours if word.startswith("-")} <= known


def test_the_settings_that_pages_show_are_settings() -> None:
    shown = [tomllib.loads(text) for page in PAGES for text in blocks(page, "toml")]
    keys = {key for each in shown for key in each["tool"]["pytest"]["ini_options"]}
    assert "linkmode_fs" in keys
    assert keys <= {option.key for option in BY_NAME.values()}


def test_the_workflow_that_the_documentation_shows_has_the_inputs_of_the_action() -> None:
    action = (ROOT / "action.yml").read_text(encoding="utf-8").partition("\nruns:")[0]
    page = ROOT / "docs" / "how-to" / "ci.md"
    (shown,) = blocks(page, "yaml")
    given = re.findall(r"^    (\w+):", shown, re.MULTILINE)
    declared = re.findall(r"^  (\w+):$", action, re.MULTILINE)
    assert len(given) == 3
    assert {*given} <= {*declared}
    assert re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE) == declared


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
