"""Reports of many machines are one, or are refused; a list holds them to their word."""

from __future__ import annotations

import copy
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from linker.policies import REFERENCE, UV
from pytest_linkmode import cli
from pytest_linkmode.errors import UsageError
from pytest_linkmode.report import expected
from pytest_linkmode.report import json as json_report
from pytest_linkmode.report.merging import labels, merge
from tests.pytest_linkmode.sample_report import report_of as report

FIRST, SECOND, THIRD = (edge.id for edge in REFERENCE.edges[:3])


Written = Callable[..., str]


@pytest.fixture
def written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    monkeypatch.chdir(tmp_path)

    def write(name: str, *proofs: str, **more: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json_report.text(report(*proofs, **more)), encoding="utf-8")
        return name

    return write


def linkmode(*words: str) -> int:
    return int(cli.main(["merge", *words]))


def test_an_edge_has_the_best_proof_of_all_runs() -> None:
    merged = merge({"b": report("injected", "injected"), "a": report("", "", "modelled")})
    assert [run["name"] for run in merged["runs"]] == ["a", "b"]
    edges = merged["union"]["edges"]
    assert edges[FIRST] == {"proof": "injected", "tests": 1, "runs": {"b": "injected"}}
    assert edges[THIRD]["proof"] == "modelled"
    assert edges[REFERENCE.edges[3].id] == {"proof": None, "tests": 0, "runs": {}}


def test_the_order_of_the_arguments_changes_nothing(written: Written) -> None:
    first, second = written("a.json", "real"), written("b.json", "injected", "injected")
    assert linkmode(first, second, "-o", "one.json") == 0
    assert linkmode(second, first, "-o", "other.json") == 0
    assert pathlib.Path("one.json").read_bytes() == pathlib.Path("other.json").read_bytes()


def test_a_merged_report_is_merged_like_any_other(written: Written) -> None:
    names = [written(f"{name}.json", *["real"] * number) for number, name in enumerate("abc")]
    assert linkmode(*names, "-o", "all.json") == 0
    assert linkmode(names[0], names[1], "-o", "two.json") == 0
    assert linkmode("two.json", names[2], "-o", "three.json") == 0
    assert pathlib.Path("three.json").read_bytes() == pathlib.Path("all.json").read_bytes()


def test_runs_are_called_by_what_their_paths_have_of_their_own() -> None:
    assert labels(["out/a.json", "out/b.json"]) == ["a", "b"]
    assert labels(["reports/linux/r.json", "reports/mac/r.json"]) == ["linux", "mac"]
    assert labels(["reports/linux/x/r.json", "reports/mac/y/r.json"]) == ["linux/x", "mac/y"]
    assert labels(["somewhere/r.json"]) == ["r"]
    assert labels(["r.json", "r.json"]) == ["r", "r"]
    assert labels(["r/a.json", "r/a/b.json"]) == ["a", "a/b"]


def test_a_run_can_be_given_a_name(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = written("a.json", "real"), written("b.json", "injected")
    assert linkmode(f"btrfs={first}", second) == 0
    assert capsys.readouterr().out.startswith("2 runs: b, btrfs\n")


def test_one_run_twice_is_refused(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = written("a.json", "real"), written("b.json", "real")
    assert linkmode(first, second) == 2
    assert "one run is there twice, as a and as b" in capsys.readouterr().err


def test_two_runs_of_one_name_are_refused(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = written("a.json", "real"), written("b.json", "injected")
    assert linkmode(f"x={first}", f"x={second}") == 2
    assert "two reports are called x" in capsys.readouterr().err
    with pytest.raises(UsageError, match="two different runs are called a"):
        merge(
            {
                "all": merge({"a": report("real"), "b": report()}),
                "a": report("injected"),
            }
        )


def test_different_policies_are_refused(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = written("a.json"), written("b.json", policy=UV)
    assert linkmode(first, second) == 2
    assert "a and b speak of different policies: reference and uv" in capsys.readouterr().err
    changed = report()
    changed["policy"]["edges"].pop()
    with pytest.raises(UsageError, match="reference has other edges in one than in the other"):
        merge({"a": report("real"), "b": changed})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "is no report: it is not JSON"),
        ("[]", "is no report: its schema is None"),
        ('{"schema": "other/1"}', "is no report: its schema is 'other/1'"),
        ('{"schema": "pytest-linkmode/2", "made_by": "pytest-linkmode 9.0"}', "upgrade"),
        ('{"schema": "pytest-linkmode/0"}', "use the same pytest-linkmode there"),
        ('{"schema": "pytest-linkmode/1"}', "is damaged: it has no 'made_by'"),
    ],
)
def test_what_is_no_report_is_refused_with_its_reason(
    content: str | None, said: str, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        pathlib.Path("bad.json").write_text(content, encoding="utf-8")
    assert linkmode(written("good.json"), "bad.json") == 2
    assert said in capsys.readouterr().err


def _drop(report: dict[str, Any], key: str) -> None:
    del report["runs"][0][key]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda report: _drop(report, "machine"), "runs[0] has no 'machine'"),
        (lambda report: _drop(report, "tests"), "runs[0] has no 'tests'"),
        (lambda report: report["runs"][0].update(layouts=[]), "runs[0].layouts is no object"),
        (lambda report: report["runs"][0].update(seconds="1"), "runs[0].seconds is no number"),
        (lambda report: report["runs"][0].update(exit_status=True), "exit_status is no integer"),
        (lambda report: report["policy"]["edges"][2].pop("id"), "policy.edges[2] has no 'id'"),
        (lambda report: report["runs"].append(None), "runs[1] is no object"),
        (lambda report: report["runs"][0]["edges"].update(a={"real": [7]}), "no such real proof"),
        (lambda report: report["runs"][0]["edges"].update(a={"odd": [0]}), "no such odd proof"),
        (lambda report: report["runs"][0]["edges"].update(a={"real": [-1]}), "less than 0"),
        (
            lambda report: report["union"]["edges"][FIRST].update(proof="sometimes"),
            f"union.edges.{FIRST}.proof has a value that it cannot have",
        ),
    ],
)
def test_a_damaged_report_is_refused_with_the_place_of_the_damage(
    damage: Callable[[dict[str, Any]], object],
    said: str,
    written: Written,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = pathlib.Path(written("bad.json", "real"))
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    assert linkmode(written("good.json"), str(path), "-o", "all.html") == 2
    told = capsys.readouterr().err
    assert "bad.json is damaged: " in told
    assert said in told
    assert not pathlib.Path("all.html").exists()


def test_an_output_of_no_known_kind_is_refused(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkmode(written("a.json"), "-o", "a.pdf") == 2
    assert "choose a name that ends in" in capsys.readouterr().err
    assert linkmode("a.json", "-o", "a.json/b.json") == 1
    assert "cannot write a.json/b.json" in capsys.readouterr().err


def test_a_list_that_was_written_is_met(written: Written) -> None:
    first, second = written("a.json", "real"), written("b.json", "", "injected", layout="xfs")
    assert linkmode(first, second, "-o", "list.txt") == 0
    lines = pathlib.Path("list.txt").read_text().splitlines()
    assert lines[1:] == [
        f"edge {FIRST} real",
        f"edge {SECOND} injected",
        "cell linux btrfs clone",
        "cell linux xfs clone",
    ]
    assert linkmode(first, second, "--expect", "list.txt") == 0


def test_less_than_a_list_says_fails_and_is_named(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written("a.json", "injected", "real")
    pathlib.Path("list.txt").write_text(
        f"# a comment\nedge {FIRST} real  # why\n\nedge {SECOND} modelled\nedge {THIRD} injected\n"
        "edge linux/clone/nothing/at-all real\n"
        "cell linux btrfs clone\ncell linux xfs clone\n"
    )
    assert linkmode(path, "--expect", "list.txt") == 1
    assert capsys.readouterr().err.splitlines() == [
        f"--expect: {FIRST}: expected real, but it is injected only",
        f"--expect: {THIRD}: expected injected, but it is not verified",
        "--expect: linux/clone/nothing/at-all: expected real, but it is no edge of reference",
        "--expect: linux xfs clone: expected a test that passes there",
    ]


def test_several_lists_hold_together() -> None:
    lists = [
        expected.parse(text, "list") for text in ("edge a injected", "edge a real\ncell l x y")
    ]
    both = lists[0] | lists[1]
    assert both == lists[1] | lists[0]
    assert dict(both.edges) == {"a": "real"}
    assert both.cells == {("l", "x", "y")}


@pytest.mark.parametrize(
    "line", ["edge a", "edge a sometimes", "cell a", "cell a b c d", "word", "edge a real real"]
)
def test_a_line_that_means_nothing_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match=r"list:2: cannot understand"):
        expected.parse(f"\n{line}\n", "list")


def test_an_edge_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="there already"):
        expected.parse("edge a real\nedge a injected\n", "list")


def test_a_test_that_failed_verifies_nothing_and_is_told(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written("a.json", "real", outcome="failed")
    content = json.loads(pathlib.Path(path).read_text())
    content["runs"][0] |= {"exit_status": 1, "ok": False}
    pathlib.Path(path).write_text(json.dumps(content))
    assert linkmode(path, written("b.json", "", "real"), "-o", "list.txt") == 1
    said = capsys.readouterr().err
    assert "a was not green: 1 of our tests failed; pytest ended with 1" in said
    assert f"edge {FIRST} real" not in pathlib.Path("list.txt").read_text()


def test_a_run_in_which_nothing_ran_is_not_green(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = written("a.json", "real", outcome="skipped"), written("b.json", "", "real")
    assert linkmode(first, second, "-o", "all.html") == 1
    said = "a was not green: no test of ours was executed; pytest ended with 0"
    assert said in capsys.readouterr().err
    page = pathlib.Path("all.html").read_text(encoding="utf-8")
    assert "nothing ran in 1 run" in page
    assert '<td class="bad">nothing ran</td>' in page


def test_too_few_edges_of_all_platforms_fail_and_are_named(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    total = len(REFERENCE.edges)
    all_but_one = ["real"] * (total - 1)
    path = written("a.json", *all_but_one)
    assert linkmode(path, "--fail-under=100") == 1
    assert f"not verified: {REFERENCE.edges[-1].id}" in capsys.readouterr().err
    assert linkmode(path, "--fail-under=50") == 0
    assert linkmode(written("b.json", *["real"] * total), "--fail-under=100") == 0
    assert linkmode(path, "--fail-under=1", "--platform=amiga") == 2


def test_the_platforms_that_must_be_verified_can_be_named(written: Written) -> None:
    linux = REFERENCE.of("linux")
    assert REFERENCE.edges[: len(linux)] == linux
    path = written("a.json", *["real"] * len(linux))
    assert linkmode(path, "--fail-under=100", "--platform=linux") == 0


def test_a_required_capability_must_have_been_executed_somewhere(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkmode(written("a.json"), "--require=reflink") == 0
    assert linkmode("a.json", "--require=reflink,dirclone") == 1
    assert "--require dirclone: no test of any run" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        linkmode("a.json", "--require=reflnk")
    assert "did you mean 'reflink'" in capsys.readouterr().err


def test_the_answer_can_be_had_as_json(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkmode(written("a.json", "real"), "--json", "--fail-under=99") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert answer["runs"] == ["a"]
    assert answer["proofs"] == {"real": 1}
    assert "--fail-under 99" in answer["wrong"][0]


def test_an_edge_that_no_policy_has_is_named(
    written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written("a.json", "real")
    content = json.loads(pathlib.Path(path).read_text())
    odd = copy.deepcopy(content)
    odd["runs"][0]["edges"]["linux/clone/clone-file/odd"] = {"real": [0]}
    pathlib.Path(path).write_text(json.dumps(odd))
    assert linkmode(path) == 0
    assert (
        "linux/clone/clone-file/odd: taken, but not an edge of reference" in capsys.readouterr().out
    )


def test_a_list_that_expects_nothing_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing yet\n")
    with pytest.raises(UsageError, match=r"(?s)list.txt expects nothing: no edge.*write edge ID"):
        expected.read(str(tmp_path / "list.txt"))
