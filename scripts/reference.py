"""The reference documentation, made from what the code says of itself.

Options from their table, commands from their parsers, fixtures from their docstrings, policies and
conditions from the graph and the tables that decide. `scripts.docs` puts each into its page.
"""

from __future__ import annotations

import argparse
import ast
import enum
import importlib.resources
import inspect
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from linker.conditions import TABLES, Condition
from linker.policies import ALL, REFERENCE
from linker.policy import Promise, State, Step
from pytest_linkmode import cli, graphs, hookspecs, plugin
from pytest_linkmode.capabilities import CAPABILITIES
from pytest_linkmode.options import FLAG, LINES, OPTIONS, WORDS


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    cells = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in cells)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def options() -> str:
    """Return every option of the plugin: how it is typed, how often, and what it means."""
    several = {WORDS: "adds up; words between commas", LINES: "may be given again"}
    rows = [
        [
            f"`{option.flag}`" if option.shape is FLAG else f"`{option.flag}={option.metavar}`",
            f"`{option.key}`",
            _sentence(option.help.replace("%%", "%")),
            several.get(option.shape, ""),
        ]
        for option in OPTIONS
    ]
    return table(["option", "ini key", "meaning", "more than once"], rows)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def commands() -> str:
    """Return every subcommand of `linkmode`: what it is for, and what it takes."""
    parts = []
    for command in cli.COMMANDS:
        parser = argparse.ArgumentParser(prog=f"linkmode {command.name}", add_help=False)
        command.configure(parser)
        rows = [
            [_typed(action), (action.help or "").replace("%%", "%")] for action in parser._actions
        ]
        parts += [f"## `linkmode {command.name}`\n", f"{_sentence(command.help)}.\n"]
        parts += [table(["argument", "meaning"], rows) + "\n"]
        parts += [f"```text\n{command.ends.rstrip()}\n```\n"]
    return "\n".join(parts).rstrip()


def _typed(action: argparse.Action) -> str:
    shown = action.metavar or action.dest.upper()
    value = shown if isinstance(shown, str) else " ".join(shown)
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{value}`"


def fixtures() -> str:
    """Return every fixture, the marker and the hook, in the words of their docstrings."""
    parts = []
    for name in sorted(plugin.__all__):
        parts += [f"### `{name}`\n", f"{_words(getattr(plugin, name))}\n"]
    return "\n".join(parts).rstrip()


def hook() -> str:
    """Return what the hook is for."""
    return _words(hookspecs.pytest_linkmode_filesystems)


def _words(documented: object) -> str:
    text = inspect.getdoc(documented)
    if not text:
        raise ValueError(f"{documented!r} does not say what it is")
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def policies() -> str:
    """Return every fallback graph: what it says of itself, drawn for each platform."""
    names = [
        [
            f"[`{policy.name}`](#{policy.name})",
            *(str(policy.default_on(platform)) for platform in policy.platforms()),
        ]
        for policy in ALL.values()
    ]
    platforms = [f"default on {platform}" for platform in REFERENCE.platforms()]
    parts = [table(["policy", *platforms], names) + "\n"]
    parts += [f"{_said(each)}\n" for each in (Step, State, Promise)]
    for policy in ALL.values():
        parts.append(f"## {policy.name}\n")
        for platform in policy.platforms():
            parts.append(f"### {policy.name} on {platform}\n")
            parts += [f"- {fact}" for fact in graphs.facts(policy, platform)]
            parts.append(f"\n```mermaid\n{graphs.mermaid(policy, platform)}\n```\n")
            if policy is REFERENCE:
                head, *rows = graphs.table(policy, platform)
                parts.append(table(head, rows) + "\n")
    return "\n".join(parts).rstrip()


def _said(words: type[enum.StrEnum]) -> str:
    """Return an enumeration as a table."""
    rows = [[f"`{word}`", meaning] for word, meaning in _meanings(words).items()]
    return f"{inspect.getdoc(words)}\n\n{table(['word', 'meaning'], rows)}"


def _meanings(words: type[enum.StrEnum]) -> dict[str, str]:
    """Return the words of an enumeration, each with what its definition says of it, if anything."""
    (definition,) = ast.parse(inspect.getsource(words)).body
    assert isinstance(definition, ast.ClassDef)
    said = {str(word): "" for word in words}
    for each, after in itertools.pairwise(definition.body):
        if isinstance(each, ast.Assign) and isinstance(after, ast.Expr):
            assert isinstance(each.targets[0], ast.Name)
            said[str(words[each.targets[0].id])] = ast.literal_eval(after.value)
    return said


def capabilities() -> str:
    """Return what each capability of a filesystem means."""
    rows = [[f"`{name}`", meaning] for name, meaning in CAPABILITIES.items()]
    return table(["capability", "meaning"], rows)


def conditions() -> str:
    """Return what each error means on each platform, and how far each condition reaches."""
    said = _meanings(Condition)
    scopes = [[f"`{each}`", str(each.scope), said[each]] for each in Condition]
    heads = ["condition", "scope", "meaning, where the word does not say it"]
    parts = ["## Conditions and their scopes\n", table(heads, scopes) + "\n"]
    for platform, (common, special) in TABLES.items():
        parts += [f"## {platform}\n", "Wherever it is met:\n"]
        rows = [[f"`{name}`", f"`{found}`"] for name, found in common.items()]
        parts += [table(["error", "condition"], rows) + "\n", "At one primitive:\n"]
        parts += [table(["primitive", "error", "condition"], [*_special(special)]) + "\n"]
    return "\n".join(parts).rstrip()


def _special(special: object) -> Iterator[Sequence[str]]:
    assert isinstance(special, dict)
    for primitive, names in special.items():
        for name, found in names.items():
            yield (f"`{primitive}`", f"`{name}`", f"`{found}`")


def report_schema() -> str:
    """Return every key of the JSON report, from its schema."""
    path = importlib.resources.files("pytest_linkmode.report").joinpath("schema.json")
    schema = json.loads(path.read_text(encoding="utf-8"))
    parts = ["## The whole\n", _keys(schema, schema)]
    for name, found in schema["$defs"].items():
        if "properties" in found:
            parts += [f"\n## {name}\n", f"{found['description']}\n", _keys(found, schema)]
    return "\n".join(parts)


def _keys(found: dict[str, Any], schema: dict[str, Any]) -> str:
    return table(["key", "value", "meaning"], [*_rows_of(found, schema, "")])


def _rows_of(found: dict[str, Any], schema: dict[str, Any], above: str) -> Iterator[Sequence[str]]:
    """Yield a row for each key, and below it those of what it holds, unless that has a table."""
    for key, value in found.get("properties", {}).items():
        yield (f"`{above}{key}`", _kind_of(value, schema), value["description"])
        held, mark = value, "."
        while inner := held.get("items") or held.get("additionalProperties"):
            held, mark = inner, "[]." if held["type"] == "array" else ".*."
        yield from _rows_of(held, schema, f"{above}{key}{mark}")


def _kind_of(value: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return in words what a value is."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if "properties" in schema["$defs"][name]:
            return f"[{name}](#{name})"
        return _kind_of(schema["$defs"][name], schema)
    if "enum" in value:
        return " or ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "oneOf" in value:
        return " or ".join(_kind_of(each, schema) for each in value["oneOf"])
    kind = value["type"]
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_kind_of(value['items'], schema)}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"map to {_kind_of(value['additionalProperties'], schema)}"
    return str(kind)
