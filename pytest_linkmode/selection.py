"""What tests are varied over: layouts, filesystems and link modes, by static tables.

The settings choose, the marker narrows, a capability that is surely lacking deselects. All of it
is decided at collection, without a mount or a probe, so that every worker of pytest-xdist comes
to the same test ids.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from linker.modes import LinkMode
from pytest_linkmode.config import ALL, AUTO, GROUPS, Settings, parse_mode, suggestion
from pytest_linkmode.errors import UsageError
from pytest_linkmode.layouts import LayoutSpec, lacks, parse, select, specials
from pytest_linkmode.options import BY_NAME

if TYPE_CHECKING:
    import pytest

MARKER = "linkmode"
NOTHING = "nothing"
"""The id of the one parameter of a test that is left without any; it is deselected."""


@dataclass(frozen=True)
class Choice:
    """One parameter of `linkmode_layout`, `linkmode_fs` or `link_mode`.

    `skip` says why it cannot be had here, `out` why the test is deselected with it. `required`
    tells that it was asked for by name: then it is an error, not a skip, if it turns out at
    first use that it cannot be had after all.
    """

    name: str
    spec: LayoutSpec | None = None
    mode: LinkMode | None = None
    skip: str = ""
    out: str = ""
    required: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Selection:
    """Every parameter of this run, before any marker.

    `specials` are layouts that only tests get which say that they know of them.
    """

    layouts: tuple[Choice, ...]
    filesystems: tuple[Choice, ...]
    specials: tuple[Choice, ...] = ()
    modes: tuple[Choice, ...] = tuple(Choice(mode.value, mode=mode) for mode in LinkMode)

    @property
    def order(self) -> tuple[str, ...]:
        """The names of layouts and filesystems, in the order of tables."""
        every = (*self.layouts, *self.specials, *self.filesystems)
        names = [choice.name for choice in every]
        return tuple(dict.fromkeys(names))


class Want(enum.Enum):
    """How a filesystem was asked for."""

    REQUIRED = "by name"
    OPTIONAL = "by name, if it can be had"
    AUTOMATIC = "by auto"


def wanted(settings: Settings, known: Iterable[str], automatic: Iterable[str]) -> dict[str, Want]:
    """Return those of all `known` filesystems that the settings select, in order.

    `automatic` are those that ``auto`` means. Raises UsageError for a name that nobody knows.
    """
    known = tuple(known)
    for name, path in settings.dirs.items():
        try:
            check("filesystem", name, known)
        except UsageError as error:
            raise error.of(f"{BY_NAME['dir'].flag}={name}={path}") from None
    names: dict[str, Want] = {}
    for request in settings.fs:
        check("filesystem", request.name, known, also=(AUTO, ALL))
        names[request.name] = Want.OPTIONAL if request.optional else Want.REQUIRED
    if settings.every:
        names |= dict.fromkeys(known, Want.REQUIRED)
    for spec in exact_layouts(settings):
        names |= dict.fromkeys((spec.source, spec.target), Want.REQUIRED)
    if settings.auto:
        names |= {name: Want.AUTOMATIC for name in automatic if name not in names}
    return names


def exact_layouts(settings: Settings) -> tuple[LayoutSpec, ...]:
    """Return the layouts that were named one by one. Raises UsageError."""
    return tuple(parse(name) for name in settings.layouts or () if name not in GROUPS)


def make_selection(
    settings: Settings,
    names: Mapping[str, Want],
    missing: Callable[[str], str],
    missing_layout: Callable[[LayoutSpec], str],
) -> Selection:
    """Return every parameter for the filesystems `names`, and the layouts of the settings.

    `missing` and `missing_layout` return why one cannot be had, or an empty string.
    """
    exact = exact_layouts(settings)
    there = [name for name in names if not missing(name)]
    groups = tuple(name for name in settings.layouts or () if name in GROUPS)
    specs = exact
    more: tuple[LayoutSpec, ...] = ()
    if groups:
        specs += select(there, groups)
    elif not exact:
        specs, more = select(there), specials(there)

    def choice(spec: LayoutSpec, reason: str) -> Choice:
        parts = (spec.source, spec.target)
        required = all(names.get(name) is Want.REQUIRED for name in parts)
        return Choice(spec.name, spec, skip=reason, required=required)

    layouts = [choice(spec, missing_layout(spec)) for spec in dict.fromkeys(specs)]
    special = tuple(choice(spec, missing_layout(spec)) for spec in more)
    alone = [choice(LayoutSpec(name, name), missing(name)) for name in names]
    if not exact:
        # One parameter that says why, not one for each of its layouts.
        layouts += [each for each in alone if each.skip]
    return Selection(tuple(layouts), tuple(alone), special)


@dataclass(frozen=True)
class Narrowing:
    """What one `linkmode` marker, or one fixture of a project's own, leaves of the selection.

    None leaves everything. `needs` are capabilities that a layout must have; `fresh` asks for
    filesystems that no other test has used; `special` for all special layouts too. `only` is what
    a fixture of a project's own looks for in a layout.
    """

    fs: frozenset[str] | None = None
    layouts: frozenset[LayoutSpec] | None = None
    modes: frozenset[LinkMode] | None = None
    needs: frozenset[str] = frozenset()
    fresh: bool = False
    special: bool = False
    only: Callable[[LayoutSpec], bool] | None = None

    def allows_layout(self, spec: LayoutSpec) -> bool:
        """Whether this layout is left: named, or one that these filesystems would select."""
        if self.layouts is not None and spec not in self.layouts:
            return False
        if self.only is not None and not self.only(spec):
            return False
        if self.fs is None or {spec.source, spec.target} <= self.fs:
            return True
        names = sorted(self.fs)
        return spec in (*select(names), *specials(names))

    def knows(self, spec: LayoutSpec) -> bool:
        """Whether a test knows what a special layout asks of it: all of them, or this by name."""
        return self.special or (self.layouts is not None and spec in self.layouts)

    def allows_filesystem(self, spec: LayoutSpec) -> bool:
        """Whether a lone filesystem is left: named, or part of a layout that is."""
        if self.fs is not None and spec.source not in self.fs:
            return False
        return self.layouts is None or any(
            spec.source in (layout.source, layout.target) for layout in self.layouts
        )

    def allows_mode(self, mode: LinkMode) -> bool:
        """Whether this link mode is left."""
        return self.modes is None or mode in self.modes


def narrowing(
    *,
    known: Iterable[str],
    fs: Iterable[str] | str | None = None,
    layout: Iterable[str] | str | None = None,
    modes: Iterable[LinkMode | str] | LinkMode | str | None = None,
    needs: Iterable[str] | str = (),
    fresh: bool = False,
    special: bool = False,
    only: Callable[[LayoutSpec], bool] | None = None,
) -> Narrowing:
    """Return what these arguments, those of the marker, leave. Raises UsageError."""
    from pytest_linkmode.capabilities import CAPABILITIES

    names = None if fs is None else _several("fs", fs)
    for name in names or ():
        check("filesystem", name, known)
    needed = _several("needs", needs)
    for name in needed:
        check("capability", name, CAPABILITIES)
    layouts = None if layout is None else _several("layout", layout)
    words = None if modes is None else _several("modes", modes)
    return Narrowing(
        fs=None if names is None else frozenset(names),
        layouts=None if layouts is None else frozenset(map(parse, layouts)),
        modes=None if words is None else frozenset(map(parse_mode, words)),
        needs=frozenset(needed),
        fresh=_flag("fresh", fresh),
        special=_flag("special", special),
        only=only,
    )


def from_marks(marks: Iterable[pytest.Mark], known: Iterable[str]) -> list[Narrowing]:
    """Return what each of some `linkmode` markers leaves. Raises UsageError."""
    narrowings = []
    for mark in marks:
        unknown = set(mark.kwargs) - {"fs", "layout", "modes", "needs", "fresh", "special"}
        if mark.args or unknown:
            wrong = ", ".join([*map(repr, mark.args), *sorted(unknown)])
            raise UsageError(
                f"the marker linkmode does not take {wrong}",
                hint="write it as linkmode(fs=..., layout=..., modes=..., needs=..., fresh=..., "
                "special=...)",
            )
        narrowings.append(narrowing(known=known, **mark.kwargs))
    return narrowings


def narrow(
    choices: Sequence[Choice], narrowings: Iterable[Narrowing], *, lone: bool = False
) -> tuple[Choice, ...]:
    """Return the choices that are left, those deselected for a lack of capabilities marked so.

    `lone` tells that the choices are filesystems, not layouts.
    """
    left = list(choices)
    for rule in narrowings:
        if lone:
            left = [
                choice for choice in left if choice.spec and rule.allows_filesystem(choice.spec)
            ]
        else:
            left = [
                choice
                for choice in left
                if (choice.spec is None or rule.allows_layout(choice.spec))
                and (choice.mode is None or rule.allows_mode(choice.mode))
            ]
        left = [_applicable(choice, rule.needs) for choice in left]
    return tuple(left)


def known_specials(
    choices: Sequence[Choice], narrowings: Iterable[Narrowing]
) -> tuple[Choice, ...]:
    """Return the special layouts that a test knows of, by its markers or its fixture."""
    rules = tuple(narrowings)
    return tuple(
        choice
        for choice in choices
        if choice.spec is not None and any(rule.knows(choice.spec) for rule in rules)
    )


def nothing(axis: str) -> Choice:
    """Return the choice of a test that the marker left without any."""
    return Choice(NOTHING, out=f"its marker leaves no {axis} of the selection")


def _applicable(choice: Choice, needs: frozenset[str]) -> Choice:
    if choice.spec is None or choice.out:
        return choice
    lacking = sorted(needs & lacks(choice.spec))
    if not lacking:
        return choice
    return replace(choice, out=f"not applicable: no {', no '.join(lacking)} there")


def _several(what: str, values: Any) -> tuple[Any, ...]:
    """Return one word, or several, as several. Raises UsageError for what is neither."""
    one = isinstance(values, (str, LinkMode))
    words = (values,) if one else tuple(values) if isinstance(values, Iterable) else None
    if words is None or not all(isinstance(word, (str, LinkMode)) for word in words):
        raise UsageError(
            f"{what}={values!r}",
            why="it is neither a word nor several of them",
            hint=f'write it as in {what}="..." or {what}=["...", "..."]',
        )
    return words


def _flag(what: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{what}={value!r}", why="it is neither True nor False")
    return value


def check(what: str, name: str, known: Iterable[str], also: Iterable[str] = ()) -> None:
    """Raise UsageError, with suggestions, unless `name` is one of the `known` names of `what`."""
    known = tuple(known)
    if name not in known:
        raise UsageError(f"no {what} is called {name!r}", hint=suggestion(name, (*known, *also)))


def choice_of(
    value: Choice | LayoutSpec | LinkMode | str,
    names: Mapping[str, Want] | None = None,
    *,
    mode: bool = False,
) -> Choice:
    """Return the choice that a test made itself, in words or as a value. Raises UsageError.

    It is required if all its filesystems are among `names` as such.
    """
    if isinstance(value, Choice):
        return value
    if mode or isinstance(value, LinkMode):
        chosen = parse_mode(value)  # type: ignore[arg-type]
        return Choice(chosen.value, mode=chosen)
    spec = value if isinstance(value, LayoutSpec) else parse(value)
    required = all((names or {}).get(name) is Want.REQUIRED for name in (spec.source, spec.target))
    return Choice(spec.name, spec, required=required)
