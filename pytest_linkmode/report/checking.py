"""Whether plain data is what the schema of reports says: the first thing that is not, in words.

It knows those words of JSON Schema that `schema.json` uses, and no others: a report can be read
where no validator is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any

Schema = Mapping[str, Any]

TYPES: Mapping[str, Callable[[object], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}

ANNOTATIONS = frozenset({"$schema", "$defs", "title", "description"})
CHECKED = frozenset(
    {
        *("$ref", "type", "const", "enum", "oneOf", "minimum"),
        *("required", "properties", "additionalProperties", "items"),
    }
)


def wrong(report: object) -> str:
    """Return in words the first place at which a report is not what the schema says, if any."""
    path = files("pytest_linkmode.report").joinpath("schema.json")
    schema = json.loads(path.read_text(encoding="utf-8"))
    return next(_wrong(report, schema, schema, ""), "")


def _wrong(value: Any, schema: Schema, whole: Schema, where: str) -> Iterator[str]:
    here = where or "it"
    if "$ref" in schema:
        yield from _wrong(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, where)
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(TYPES[kind](value) for kind in kinds):
        yield f"{here} is no {' or '.join(kinds)}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{here} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{here} is none of {', '.join(schema['enum'])}"
    choices = schema.get("oneOf", ())
    if choices and all(any(_wrong(value, each, whole, where)) for each in choices):
        yield f"{here} has a value that it cannot have"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{here} is less than {schema['minimum']}"
    if isinstance(value, dict):
        yield from _wrong_object(value, schema, whole, where)
    if isinstance(value, list) and "items" in schema:
        for number, each in enumerate(value):
            yield from _wrong(each, schema["items"], whole, f"{where}[{number}]")


def _wrong_object(
    value: Mapping[str, Any], schema: Schema, whole: Schema, where: str
) -> Iterator[str]:
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{where or 'it'} has no {key!r}"
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for key, each in value.items():
        part = known.get(key, others)
        if part is not None:
            yield from _wrong(each, part, whole, f"{where}.{key}".lstrip("."))
