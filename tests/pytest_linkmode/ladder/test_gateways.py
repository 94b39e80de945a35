"""One suite over two kinds of gateway, a process and a guest with its own kernel: one report."""

from __future__ import annotations

import json
import os

import pytest

from pytest_linkmode import cli
from pytest_linkmode.config import Settings
from pytest_linkmode.guests import uml
from tests.pytest_linkmode.ladder.people import Person

REFUSED = uml.look(Settings())

SUITE = """
from linker import link_tree
from pytest_linkmode import assert_linked

def test_it(linkmode_layout, link_mode, linkmode_tree):
    linkmode_tree(linkmode_layout.source)
    link_tree(linkmode_layout.source, linkmode_layout.target, mode=link_mode)
    expected = linkmode_layout.expect(link_mode)
    assert_linked(linkmode_layout.source, linkmode_layout.target, expected)
"""
RUNS = {
    "process": ("-n1", "--linkmode-layout=shm,tmpfs:shm"),
    "guest": ("--linkmode-provider=uml", "--linkmode-layout=btrfs,btrfs:tmpfs"),
}


@pytest.mark.skipif(REFUSED is not None, reason=" ".join(str(REFUSED).split()))
def test_what_ran_in_a_process_and_what_ran_in_a_guest_is_one_report(person: Person) -> None:
    person.write("test_it.py", SUITE)
    reports = []
    for name, options in RUNS.items():
        said = person.pytest(*options, f"--linkmode-report={name}.json")
        assert said.status == 0, said.out + said.err
        reports.append(str(person.home / f"{name}.json"))
    merged = person.home / "all.json"
    page = person.home / "all.html"
    guards = ("--require=reflink,hardlink,cross-device",)
    assert cli.main(["merge", *reports, f"-o{merged}", f"-o{page}", *guards]) == 0
    assert cli.main(["merge", reports[0], "--require=reflink"]) == 1
    report = json.loads(merged.read_text())
    guest, process = report["runs"]
    assert [guest["name"], process["name"]] == ["guest", "process"]
    ours = f"Linux {os.uname().release}"
    assert process["machine"]["kernel"] == guest["machine"]["kernel"] == ours
    assert process["other_machines"] == {}
    kernels = {facts["kernel"] for facts in guest["other_machines"].values()}
    assert kernels
    assert ours not in kernels
    evidence = guest["layouts"]["btrfs"]["modes"]["clone"]["evidence"]
    assert evidence["shared extents"] > 0
    edge = report["union"]["edges"]["linux/hardlink/hardlink/cross-device"]
    assert edge["runs"] == {"guest": "real", "process": "real"}
    assert kernels.pop() in page.read_text()
