"""Reports are what their schema says, no more and no less; the schema is in the package."""

from __future__ import annotations

import copy
import json
import pathlib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from pytest_linkmode.report.checking import ANNOTATIONS, CHECKED, wrong
from pytest_linkmode.report.document import SCHEMA, load
from pytest_linkmode.report.merging import merge
from pytest_linkmode.report.writing import write
from tests.pytest_linkmode.sample_report import report, report_of


def schema() -> dict[str, Any]:
    path = files("pytest_linkmode.report").joinpath("schema.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def parts(found: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a schema that lists its keys."""
    if isinstance(found, dict):
        if "properties" in found and "type" in found:
            yield found
        for value in found.values():
            yield from parts(value)


def strict() -> jsonschema.protocols.Validator:
    """The schema without the room that it leaves for keys of later versions."""
    tight = schema()
    for part in parts(tight):
        part["additionalProperties"] = False
    return jsonschema.Draft202012Validator(tight)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["properties"]["schema"]["const"] == SCHEMA


def test_a_report_has_every_key_of_the_schema_and_no_other() -> None:
    strict().validate(json.loads(json.dumps(report())))
    strict().validate(merge({"one": report(), "other": report("Linux 5.4")}))


def test_a_report_that_was_written_and_read_is_the_same(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "report.json"
    made = report()
    write(made, str(path))
    strict().validate(json.loads(path.read_text(encoding="utf-8")))
    assert load(str(path))["union"] == made["union"]


def test_a_key_of_a_later_version_is_left_alone(tmp_path: pathlib.Path) -> None:
    made = report()
    made["runs"][0]["later"] = 1
    jsonschema.validate(made, schema())
    path = tmp_path / "report.json"
    write(made, str(path))
    assert load(str(path))["runs"][0]["later"] == 1


@pytest.mark.parametrize(
    ("where", "value"),
    [("schema", "pytest-linkmode/2"), ("runs", {}), ("ok", None), ("union", {"total": -1})],
)
def test_what_is_no_report_does_not_pass(where: str, value: object) -> None:
    wrong = copy.deepcopy(report())
    wrong[where] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema())


def test_readers_check_every_word_that_the_schema_uses() -> None:
    used: set[str] = set()
    found = [schema()]
    while found:
        part = found.pop()
        used |= part.keys()
        found += [*part.get("properties", {}).values(), *part.get("$defs", {}).values()]
        found += part.get("oneOf", [])
        found += [part[word] for word in ("items", "additionalProperties") if word in part]
    assert used <= CHECKED | ANNOTATIONS


@pytest.mark.parametrize("made", [report(), report_of("real", "injected")])
def test_readers_find_nothing_wrong_with_a_report(made: dict[str, Any]) -> None:
    assert wrong(json.loads(json.dumps(made))) == ""
    assert wrong(merge({"one": made, "other": report("Linux 5.4")})) == ""


def test_every_key_says_what_it_means() -> None:
    for part in parts(schema()):
        assert part["description"]
        assert all(value["description"] for value in part["properties"].values())
