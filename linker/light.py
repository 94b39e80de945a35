"""What modules need of `dataclasses` and `typing`, without importing them.

Together those take as long as linking two thousand files, at each start of a command: one brings
`inspect` and compiles six functions a class, the other `re`. Here a *record* behaves as a frozen
dataclass, `dataclasses.fields` and `dataclasses.replace` included, but what only those need is made
when they ask; a type checker sees the real ones.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache

TYPE_CHECKING = False
"""As in `typing`: true for type checkers alone."""

if TYPE_CHECKING:
    from dataclasses import dataclass as record
    from typing import Any, NamedTuple, Protocol, cast

    __all__ = ["TYPE_CHECKING", "NamedTuple", "Protocol", "cast", "record"]
else:

    class Protocol:
        """What a class offers is a type checker's to look at."""

    def cast(_kind, value):
        """Return the value."""
        return value

    def record(*, frozen, slots=False):
        """Make a class what ``dataclass(frozen=True, slots=slots)`` makes of it."""
        assert frozen  # there is no other kind
        return lambda plain: _made(plain, slots=slots)

    class _Tuples(type):
        def __new__(kind, name, bases, space):  # of classes that are no types of it
            plain = type(name, (), space)
            if not bases:
                return super().__new__(kind, name, bases, space)
            fields = list(plain.__annotations__)
            defaults = [space[field] for field in fields if field in space]
            made = namedtuple(name, fields, defaults=defaults, module=plain.__module__)
            for key in space.keys() - {*fields, "__annotations__", "__module__"}:
                setattr(made, key, space[key])
            return made

    class NamedTuple(metaclass=_Tuples):
        """The base that turns a class with annotations into a named tuple."""


def _made(plain: Any, *, slots: bool) -> Any:
    """Return a class with the methods of a record."""
    inherited = [name for base in plain.__bases__ for name in getattr(base, "__match_args__", ())]
    own = list(plain.__annotations__)
    names = tuple(dict.fromkeys([*inherited, *own]))
    defaults = {name: getattr(plain, name) for name in own if name in plain.__dict__}
    for base in plain.__bases__:
        defaults = {**getattr(base, "_defaults", {}), **defaults}
    space = {
        "__init__": _initialise,
        "__eq__": _equals,
        "__hash__": _hashed,
        "__repr__": _shown,
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
        "__reduce__": _reduced,
        "__match_args__": names,
        "_defaults": defaults,
        **{name: _Asked(name) for name in _ASKED},
    }
    if not slots:
        for name, value in space.items():
            setattr(plain, name, value)
        return plain
    kept = {
        name: value
        for name, value in plain.__dict__.items()
        if name not in ("__dict__", "__weakref__") and name not in own
    }
    added = tuple(name for name in own if name not in inherited)
    return type(plain)(plain.__name__, plain.__bases__, {**kept, **space, "__slots__": added})


def _initialise(self: Any, /, *given: object, **named: object) -> None:
    names, values = self.__match_args__, list(given)
    for name in names[len(given) :]:
        if name not in named and name not in self._defaults:
            break
        values.append(named.pop(name) if name in named else self._defaults[name])
    if named or len(values) != len(names):
        raise TypeError(f"{type(self).__name__}() takes {', '.join(names)}, each once")
    put = object.__setattr__
    for name, value in zip(names, values, strict=True):
        put(self, name, value)
    check = getattr(self, "__post_init__", None)
    if check is not None:
        check()


def _values(self: Any) -> tuple[object, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _equals(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _values(self) == _values(other)


def _hashed(self: Any) -> int:
    return hash(_values(self))


def _shown(self: Any) -> str:
    parts = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({parts})"


def _refuse_to_set(_self: object, name: str, _value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: object, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _reduced(self: Any) -> tuple[type[Any], tuple[object, ...]]:
    return type(self), _values(self)


# --- for those who ask --------------------------------------------------------------------------

_ASKED = ("__dataclass_fields__", "__dataclass_params__", "__signature__")
"""What a dataclass has and a record makes when it is asked for."""


class _Asked:
    """An attribute of a class that is made when it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: Any) -> object:
        if self._name == "__signature__":
            from inspect import signature

            return signature(_modelled(owner))
        return getattr(_modelled(owner), self._name)


@cache
def _modelled(owner: Any) -> Any:
    """Return a dataclass with the fields of a record."""
    from dataclasses import field, make_dataclass
    from inspect import get_annotations

    types: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        types |= get_annotations(base)
    rows: list[tuple[Any, ...]] = []
    for name in owner.__match_args__:
        row: tuple[Any, ...] = (name, types[name])
        if name in owner._defaults:
            value = owner._defaults[name]
            fixed = type(value).__hash__ is not None
            row += (field(default=value) if fixed else field(default_factory=value.copy),)
        rows.append(row)
    return make_dataclass(owner.__name__, rows, frozen=True)
