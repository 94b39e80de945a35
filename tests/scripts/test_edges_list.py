"""The list of what a real filesystem shows speaks of edges that there are."""

from __future__ import annotations

import os

from linker.policies import REFERENCE
from pytest_linkmode.report import expected
from scripts.bootstrap import ROOT


def test_every_line_is_an_edge_of_linux_that_must_be_real() -> None:
    found = expected.read(os.path.join(ROOT, "scripts", "edges.txt"))
    assert found.edges.keys() <= {edge.id for edge in REFERENCE.of("linux")}
    assert set(found.edges.values()) == {"real"}
    assert len(found.edges) >= 19
