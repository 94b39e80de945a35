"""The list of edges on Linux has each of them, and a reason where one is not real."""

from __future__ import annotations

import os
import pathlib

from linker.policies import REFERENCE
from pytest_linkmode.coverage import INJECTED, REAL, filesystems
from pytest_linkmode.report import expected
from scripts import ci, edges
from scripts.bootstrap import ROOT


def test_every_edge_of_linux_is_listed_once() -> None:
    listed = [edge for edge, _, _ in edges.rows()]
    assert listed == [edge.id for edge in REFERENCE.of("linux")]
    assert expected.read(edges.LIST).edges.keys() == set(listed)


def test_an_edge_is_real_or_says_why_no_filesystem_shows_it() -> None:
    for edge, proof, reason in edges.rows():
        assert (proof, bool(reason)) in {(REAL, False), (INJECTED, True)}, edge


def test_the_matrix_of_ci_is_held_to_no_less() -> None:
    asked = expected.read(os.path.join(ROOT, "scripts", "expected.txt")).edges
    assert asked.keys() == {edge.id for edge in REFERENCE.edges}
    for edge, proof, _ in edges.rows():
        assert asked[edge] == proof


BY_THE_KERNEL = {*ci.SYSTEMS["linux"].filesystems, "disk"}
"""What a hosted Ubuntu has without the package of further modules, which may not be had."""


def test_the_matrix_of_ci_asks_a_machine_for_nothing_that_it_may_not_have() -> None:
    cells = expected.read(os.path.join(ROOT, "scripts", "expected.txt")).cells
    assert {platform for platform, _, _ in cells} == {"linux"}
    for _, layout, _ in cells:
        assert set(filesystems(layout)) <= BY_THE_KERNEL, layout


def test_the_readme_says_how_many_are_real() -> None:
    proofs = [proof for _, proof, _ in edges.rows()]
    readme = pathlib.Path(ROOT, "README.md").read_text()
    assert f"{proofs.count(REAL)} of {len(proofs)} by an error of the kernel's own" in readme
    assert proofs.count(REAL) >= 44


def test_the_documentation_has_each_weak_edge_with_its_reason() -> None:
    shown = edges.table()
    for edge, proof, reason in edges.rows():
        name = f"`{edge.removeprefix('linux/')}`"
        assert (name in shown) == (proof != REAL)
        assert reason in shown
