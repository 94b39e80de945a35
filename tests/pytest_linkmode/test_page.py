"""The report as a page: whole in one file, in light and dark, by mouse and key and on paper."""

from __future__ import annotations

import base64
import html.parser
import pathlib
import re
from collections.abc import Iterator

import pytest

from linker.policies import REFERENCE
from pytest_linkmode.assertions import LinkAssertionError, assert_linked
from pytest_linkmode.config import Settings
from pytest_linkmode.coverage import Ledger, Recorder
from pytest_linkmode.listening import _cut
from pytest_linkmode.report import html as html_report
from pytest_linkmode.report.document import document
from pytest_linkmode.report.markup import escaped, tag
from pytest_linkmode.report.merging import merge
from pytest_linkmode.report.model import verdict
from pytest_linkmode.report.writing import write
from tests.pytest_linkmode.browser import Browser, Keys, browsing, refusal
from tests.pytest_linkmode.sample_report import MANY, PROOFS, REPLAY, report


class Reader(html.parser.HTMLParser):
    """What a page is made of, and whether every element that is opened is closed."""

    VOID = frozenset({"meta", "br", "hr", "link", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "srcset", "action", "xlink:href"):
                self.addresses.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_text_cannot_break_out_of_its_element() -> None:
    assert tag("p", "<b>", title='"') == '<p title="&quot;">&lt;b&gt;</p>'
    assert tag("p", tag("b", "&")) == "<p><b>&amp;</b></p>"
    assert tag("p", hidden=True, id=None, class_="a", data_edge="e") == (
        '<p hidden class="a" data-edge="e"></p>'
    )
    assert escaped("\x1b[31m\udc80") == "\\x1b[31m\\udc80"


def test_a_page_is_whole_by_itself_and_names_nobody_else() -> None:
    page = html_report.text(report())
    reader = Reader(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert {address[0] for address in reader.addresses} == {"#"}
    assert {address[1:] for address in reader.addresses} <= set(reader.ids)
    assert reader.tags.count("script") == 1
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


def matrix(*layouts: tuple[str, str]) -> str:
    """The matrix of the page on which a test in each layout ended so."""
    ledger = Ledger()
    for layout, outcome in layouts:
        data = Recorder(layout, "clone").plain()
        ledger.add(f"test_it[{layout}]", "setup", "passed", data=data)
        ledger.add(f"test_it[{layout}]", "call", outcome, data=data)
    page = html_report.text(document(verdict(Settings(), ledger, REFERENCE, platform="linux")))
    return page.partition('id="matrix"')[2].partition("<section")[0]


def test_what_is_not_green_in_a_long_matrix_stands_before_the_rest_and_lists_are_short() -> None:
    green = [(f"green{number:02}", "passed") for number in range(50)]
    found = matrix(*green[:20], ("red", "failed"), *green[20:])
    open_, _, folded = found.partition("<details")
    assert "red" in open_
    assert "green" not in open_
    assert "50 more, on which all tests passed" in folded
    assert folded.count('<th scope="row">green') == 50
    skips = [(f"none{number}", "skipped") for number in range(9)]
    found = matrix(*skips)
    assert "skipped on none0 (1), none1 (1), " in found
    assert "none5 (1) and 3 more</summary>" in found
    assert "none8 (1)</p>" in found  # all of them
    assert "<details" not in matrix(*green)  # nothing stands out
    assert "<details" not in matrix(*green[:10], ("red", "failed"))  # it fits as it is


def test_whatever_tests_are_called_nothing_of_it_is_markup() -> None:
    page = html_report.text(report())
    assert "alert(&#x27;x&#x27;)" in page
    for wrong in (
        "<script>alert",
        "<mkfs>",
        "<note>",
        "<ext4>",
        "<odd>",
        "<i>ln",
        "<b>1 ==",
        "\x1b",
    ):
        assert wrong not in page
    page.encode()  # no half of a character


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "def test():\nE   AssertionError: one\nE   two\n\ntest_it.py:3: Error",
            "AssertionError: one",
        ),
        (
            "E   pytest_linkmode.assertions.LinkAssertionError: no clone",
            "LinkAssertionError: no clone",
        ),
        ("E   RuntimeError: \nE   \nE   at last\n", "RuntimeError: at last"),
        ("E       \nE   at last\n", "at last"),
        (
            "E   FileExistsError: first\n\na.py:1: FileExistsError\n\nThe above exception was "
            "the direct cause of the following exception:\n\n>   explore()\n"
            "E   linker.ScheduleFailed: a schedule fails\nE   \nE   more\n\nb.py:2: Error",
            "ScheduleFailed: a schedule fails",
        ),
        (
            f"E   AssertionError: one\nE   {'two ' * 600}\n" + 60 * f"E   {'three ' * 20}\n",
            "AssertionError: one",
        ),
        ("the reason\nand more", "the reason"),
        ("Traceback (most recent call last):\n  File ...\nOSError: gone\n", "OSError: gone"),
        ("worker 'gw0' crashed while running 'test_it'", "worker &#x27;gw0&#x27; crashed"),
    ],
)
def test_a_failure_says_in_one_line_what_happened(text: str, said: str) -> None:
    page = html_report._failure(
        {
            "test": "test_" + "long" * 100,
            "outcome": "failed",
            "cases": [{"where": "call", "text": _cut(text), "replay": []}],
        }
    )
    assert f"<summary>call: {said}" in page


@pytest.mark.parametrize("files", [("a",), ("a", "b")])
def test_a_target_that_is_wrong_is_told_in_one_line_by_its_first_row(
    files: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    for root in ("source", "target"):
        for name in files:
            (tmp_path / root).mkdir(exist_ok=True)
            (tmp_path / root / name).write_bytes(b"same")
    (tmp_path / "target" / "a").write_bytes(b"other")
    below = "a" if len(files) == 1 else ""
    with pytest.raises(LinkAssertionError) as caught:
        assert_linked(tmp_path / "source" / below, tmp_path / "target" / below, "copy")
    kind = f"{LinkAssertionError.__module__}.{LinkAssertionError.__name__}"
    lines = f"{kind}: {caught.value}".splitlines()
    said = html_report._short("\n".join(f"E   {line}" for line in lines))
    assert said.startswith("LinkAssertionError: ")
    assert "the source has 4 bytes, the target 5" in said
    assert "expected" not in said


def test_a_failure_without_a_word_says_where_it_was() -> None:
    case = {"where": "call", "text": " \n", "replay": []}
    page = html_report._failure({"test": "test_it", "outcome": "failed", "cases": [case]})
    assert "<summary>call</summary>" in page


def test_long_lists_are_cut_and_say_so() -> None:
    page = html_report.text(report())
    assert f"... and {MANY + 1 - html_report.TESTS_SHOWN} more tests" in page
    assert page.count("test_many[39]") < page.count("test_many[3]")


def test_every_edge_is_drawn_and_has_its_tests() -> None:
    made = report()
    page = html_report.text(made)
    for number, edge in enumerate(REFERENCE.edges):
        assert page.count(f'data-edge="edge-{number}"') == 1
        assert page.count(f'id="edge-{number}"') == 1
        assert edge.id in page
    assert page.count("No test that passed took it.") == len(REFERENCE.edges) - 12


def test_a_page_of_many_runs_tells_them_apart() -> None:
    page = html_report.text(merge({"one": report(), "other": report("Linux 5.4")}))
    assert Reader(page).open == []
    assert page.count("Linux 5.4") == 1
    assert "one, real: 41 tests" in page
    assert "other, real: 41 tests" in page


needs_browser = pytest.mark.skipif(bool(refusal()), reason=refusal())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as window:
        yield window


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write(report(), str(path))
    return path


@needs_browser
def test_a_click_on_an_edge_shows_its_tests(browser: Browser, page: pathlib.Path) -> None:
    browser.open(page)
    assert browser.value("document.getElementById('panel').hidden") is True
    browser.value("document.querySelector('#graph').scrollIntoView()")
    first, second = REFERENCE.edges[:2]
    browser.find("svg a[data-edge=edge-0] text").click()
    shown = browser.find("#panel").text
    assert first.id in shown
    assert "test_many[3]" in shown
    assert f"{MANY + 1} tests" in shown
    browser.find("svg a[data-edge=edge-1] text").click()
    shown = browser.find("#panel").text
    assert second.id in shown
    assert "alert('x')" in shown
    assert browser.value("document.querySelectorAll('svg a.chosen').length") == 1
    browser.find("#panel .close").click()
    assert browser.value("document.getElementById('panel').hidden") is True
    assert browser.value("scrollY") > 0
    assert browser.troubles() == []


@needs_browser
def test_the_graph_can_be_used_with_the_keyboard_alone(
    browser: Browser, page: pathlib.Path
) -> None:
    browser.open(page)
    browser.press(Keys.TAB)
    assert browser.value("document.activeElement.className") == "skip"
    for _ in range(100):
        browser.press(Keys.TAB)
        if browser.value("document.activeElement.dataset.edge ?? null"):
            break
    chosen = "document.querySelector('svg a.chosen')?.dataset.edge ?? null"
    assert browser.value("document.activeElement.dataset.edge") == "edge-0"
    browser.press(Keys.ENTER)
    assert browser.value(chosen) == "edge-0"
    browser.press(Keys.ARROW_DOWN)
    assert browser.value(chosen) == "edge-1"
    assert REFERENCE.edges[1].id in browser.find("#panel").text
    browser.press(Keys.ARROW_UP)
    browser.press(Keys.ESCAPE)
    assert browser.value(chosen) is None
    assert browser.value("document.activeElement.dataset.edge") == "edge-0"
    assert browser.troubles() == []


@needs_browser
def test_a_kind_of_proof_can_be_picked_out(browser: Browser, page: pathlib.Path) -> None:
    browser.open(page)
    away = "document.querySelectorAll('svg a.away').length"
    button = browser.find("button[data-proof=injected]")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert browser.value(away) == len(REFERENCE.edges) - 4
    browser.find("button[data-proof=real]").click()
    assert button.get_attribute("aria-pressed") == "false"
    browser.find("button[data-proof=real]").click()
    assert browser.value(away) == 0


@needs_browser
def test_every_line_that_replays_a_case_can_be_copied(browser: Browser, page: pathlib.Path) -> None:
    browser.open(page)
    line = browser.find(".replay code").text
    assert line.endswith(REPLAY)
    assert line.startswith("pytest 'red_")
    button = browser.find(".replay button")
    assert button.is_displayed()
    button.click()
    assert button.text in ("Copied", "Selected")


def luminance(colour: str) -> float:
    """How bright a colour of CSS is, by WCAG 2."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read_in_light_and_in_dark(
    scheme: str, browser: Browser, page: pathlib.Path
) -> None:
    browser.open(page, scheme=scheme)
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (luminance(background) < 0.2) is (scheme == "dark")
    card = browser.value("getComputedStyle(document.querySelector('.card')).backgroundColor")
    for selector in ("body", ".dim", ".good", ".bad", ".mark.real", ".mark.injected", ".mark.none"):
        ink = browser.value(f"getComputedStyle(document.querySelector('{selector}')).color")
        assert contrast(ink, card) >= 4.5, selector
    for proof in (*PROOFS, "none"):
        label = browser.value(
            f"getComputedStyle(document.querySelector('svg a.{proof} text')).fill"
        )
        assert contrast(label, card) >= 4.5, proof


@needs_browser
def test_a_narrow_window_scrolls_no_way_but_down(browser: Browser, page: pathlib.Path) -> None:
    browser.open(page, width=360, height=700)
    assert browser.value("document.documentElement.scrollWidth") <= 360
    browser.open(page)


@needs_browser
def test_it_prints_without_what_only_a_screen_can_use(browser: Browser, page: pathlib.Path) -> None:
    browser.open(page, scheme="dark")
    printed = base64.b64decode(browser.command("Page.printToPDF", printBackground=True)["data"])
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
    browser.command("Emulation.setEmulatedMedia", media="print", features=[])
    assert not browser.find("nav").is_displayed()
    assert not browser.find(".replay button").is_displayed()
    assert browser.find("svg a .pill").is_displayed()
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert luminance(background) == 1
    browser.command("Emulation.setEmulatedMedia", media="", features=[])
    assert browser.troubles() == []


@needs_browser
def test_without_its_script_an_edge_is_a_link_to_its_tests(
    browser: Browser, page: pathlib.Path
) -> None:
    browser.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert not browser.find("#edge-0").is_displayed()
        browser.find("svg a[data-edge=edge-0] text").click()
        assert browser.find("#edge-0").is_displayed()
        assert "test_many[3]" in browser.find("#edge-0").text
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)
