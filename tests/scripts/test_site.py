"""The navigation of the documentation: every page once, none that is not there, none lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from linker.policies import ALL
from scripts import site
from scripts.bootstrap import ROOT

DOCS = os.path.join(ROOT, "docs")


def test_every_page_is_in_the_navigation_once() -> None:
    rows = [page for section in site.navigation(DOCS).values() for page in section]
    assert sorted(rows) == site.pages(DOCS)
    assert {"tutorial", "how-to/ci", "reference/options", "explanation"} <= {*rows}


def test_a_page_that_nobody_has_placed_is_shown_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "how-to").mkdir()
    for name in ("README.md", "tutorial.md", "how-to/ci.md", "how-to/stray.md"):
        (tmp_path / name).write_text("# x\n")
    found = site.navigation(str(tmp_path))
    assert found == {"Tutorial": ["tutorial"], "How to": ["how-to/ci"], "More": ["how-to/stray"]}
    assert [*found][-1] == site.REST


def test_the_first_page_has_a_hidden_table_for_each_section(tmp_path: Path) -> None:
    (tmp_path / "tutorial.md").write_text("# x\n")
    assert site.trees(str(tmp_path)) == (
        "\n```{toctree}\n:hidden:\n:caption: Tutorial\n\ntutorial\n```\n"
    )


GRAPH = '```mermaid\nflowchart LR\n  copy -- "exists" --> abort\n```\n'


def test_a_graph_is_drawn_where_its_mermaid_stood() -> None:
    page = site.drawn(f"# x\n\n### pip on linux\n\nbefore\n\n{GRAPH}\nafter\n")
    assert page.startswith("# x\n\n### pip on linux\n\nbefore\n\n<style>\n")
    assert page.endswith(f"</style>\n\n{site.picture(ALL['pip'], 'linux')}\n\nafter\n")
    assert "mermaid" not in page


def test_two_graphs_have_their_looks_once() -> None:
    page = site.drawn(f"### pip on linux\n{GRAPH}\n### uv on macos\n{GRAPH}")
    assert page.count("<style>") == 1
    assert page.count('<div class="graph">') == 2


def test_a_graph_that_no_heading_names_is_an_error() -> None:
    with pytest.raises(ValueError, match="no heading"):
        site.drawn(f"# x\n{GRAPH}")
    with pytest.raises(ValueError, match="no heading"):
        site.drawn(f"### pip on linux\n{GRAPH}{GRAPH}")


def test_the_page_of_policies_has_a_picture_of_each() -> None:
    page = site.drawn(Path(DOCS, "reference", "policies.md").read_text())
    graphs = [(policy, each) for policy in ALL.values() for each in policy.platforms()]
    assert page.count('<div class="graph">') == len(graphs)
    for policy, platform in graphs:
        assert f"\n{site.picture(policy, platform)}\n" in page


@pytest.mark.parametrize("name", ALL)
def test_what_is_written_in_a_picture_fits_into_its_box(name: str) -> None:
    for platform in ALL[name].platforms():
        for arrow in site._arrows(ALL[name], platform):
            assert max(map(len, arrow.condition.split("\n"))) <= 21
            assert max(map(len, arrow.then.split("\n"))) <= 20


HTTPS = "https:" + "//example.org"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.html", f'<script src="{HTTPS}/x.js"></script>', f"{HTTPS}/x.js"),
        ("a.html", '<link rel="stylesheet" href="//example.org/x.css">', "//example.org/x.css"),
        ("a.html", f'<img src="{HTTPS}/x.png">', f"{HTTPS}/x.png"),
        ("a.html", f'<p style="background: url({HTTPS}/x.png)">', f"{HTTPS}/x.png"),
        ("a.html", f"<style>@import '{HTTPS}/x.css';</style>", f"{HTTPS}/x.css"),
        (
            "a.html",
            f'<script type="module">import m from "{HTTPS}/m.mjs";</script>',
            f"{HTTPS}/m.mjs",
        ),
        ("_static/a.css", f"@font-face {{ src: url('{HTTPS}/x.woff') }}", f"{HTTPS}/x.woff"),
        ("_static/a.js", f'const m = await import("{HTTPS}/m.mjs");', f"{HTTPS}/m.mjs"),
    ],
)
def test_what_a_site_loads_from_a_network_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, found: str
) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    assert site.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"loaded from a network: {name}: {found}\n"


def test_a_site_may_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        f'<a href="{HTTPS}">there</a> <script src="x.js"></script> <img src="data:,"/>'
        f'<link rel="canonical" href="{HTTPS}"><svg xmlns="http://www.w3.org/2000/svg"></svg>'
    )
    assert site.main([str(tmp_path)]) == 0


def test_a_site_that_was_not_built_is_an_error(tmp_path: Path) -> None:
    assert site.main([str(tmp_path)]) == 2
    assert site.main([]) == 2
