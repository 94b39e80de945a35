"""The parts of the documentation that are made from tables of the code are up to date."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from scripts import docs, reference
from scripts.bootstrap import ROOT
from tests.patience import SECONDS


def test_the_documentation_shows_the_tables_of_the_code() -> None:
    # In a process of its own: other tests add rows to the tables of this one.
    program = (
        "from scripts import docs\n"
        "for (page, name), make in docs.PARTS.items():\n"
        "    text = open(page, encoding='utf-8').read()\n"
        "    if docs.replaced(text, name, make()) != text:\n"
        "        print(page, name)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "", "out of date; run: python -m scripts.docs"


def test_help_is_shown_as_a_terminal_shows_it() -> None:
    assert "fewer than N % of" in reference.commands()


def test_a_part_is_exchanged_between_its_comments_and_nothing_else() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    assert docs.replaced(text, "x", "new") == text.replace("old", "new")
    assert docs.replaced(docs.replaced(text, "x", "new"), "x", "old") == text


def test_a_page_without_the_part_is_an_error() -> None:
    with pytest.raises(ValueError, match="<!-- x: begin -->"):
        docs.replaced("a\n", "x", "new")
