"""How the suites drive a linker: the reference linker, a Python callable, or a command line.

An adapter says which modes its linker has, prepares a source for it, and links. Whatever a linker
of somebody else raises or prints comes back as one `AdapterError`; what it did to the disk is
not an adapter's business, that is what evidence is for.
"""

from __future__ import annotations

import inspect
import operator
import os
import pathlib
import re
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from linker.modes import LinkMode
from pytest_linkmode import HERE
from pytest_linkmode.errors import IMPORT_HINT, LinkmodeError, UsageError

if TYPE_CHECKING:
    from linker.policy import Policy
    from linker.report import LinkReport

EVERY_MODE = tuple(LinkMode)


@dataclass(frozen=True, slots=True)
class AdapterResult:
    """What a linker said when it was done, for people; nothing here is believed.

    `report` is there if the linker gives one as the reference linker does; `seconds` is how
    long it took.
    """

    seconds: float
    report: LinkReport | None = None
    output: str = ""


class AdapterError(LinkmodeError):
    """The linker failed, or said so. `__cause__` is what a function of Python raised."""


class Adapter(Protocol):
    """A linker as the suites see it."""

    @property
    def name(self) -> str:
        """How people call it."""

    def modes(self) -> tuple[LinkMode, ...]:
        """Return the modes that it has; tests of the others do not apply to it."""

    def prepare(self, source: pathlib.Path) -> None:
        """Make the directory `source` a warm source: whatever the linker wants before linking."""

    def link(self, source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> AdapterResult:
        """Link the tree below `source` into the directory `target`. Raises AdapterError."""


def is_command_line(text: str) -> bool:
    """Whether ``--linkmode-linker=TEXT`` names a program, and not a function."""
    return re.search(r"[\s{]", text) is not None


def adapter_from(
    text: str | None, policy: Policy | None = None, *, witnessed: bool = False
) -> Adapter:
    """Return the adapter that ``--linkmode-linker=TEXT`` names.

    Nothing is the reference linker, following `policy`; ``module:callable`` a Python function;
    anything with a blank or a brace a command line. With `witnessed` the calls of a command line
    are read, and told as edges of `policy`. Raises UsageError, saying how to write it.
    """
    if not text:
        return ReferenceAdapter(policy)
    if is_command_line(text):
        return CommandAdapter(text, policy=policy if witnessed else None)
    return CallableAdapter(text)


class ReferenceAdapter:
    """The reference linker, by a policy of one's choice."""

    def __init__(self, policy: Policy | None = None) -> None:
        from linker.policies import REFERENCE

        self.policy: Policy = policy or REFERENCE

    @property
    def name(self) -> str:
        """The reference linker, and its policy if that is another than its own."""
        own = self.policy.name == "reference"
        return "reference linker" if own else f"reference linker as {self.policy.name}"

    def modes(self) -> tuple[LinkMode, ...]:
        """Return all four."""
        return EVERY_MODE

    def prepare(self, source: pathlib.Path) -> None:
        """Do nothing: any tree is a source."""

    def link(self, source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> AdapterResult:
        """Link with `link_tree`."""
        from linker import link_tree
        from linker.choices import forget_process

        __tracebackhide__ = True
        forget_process()  # each call stands for a run of the program that is modelled
        start = time.perf_counter()
        with _Foreign(self.name):
            report = link_tree(source, target, mode=mode, policy=self.policy)
        return AdapterResult(time.perf_counter() - start, report)


class CallableAdapter:
    """A Python function, called as ``f(source, target, mode)`` with two paths and a `LinkMode`.

    It may have an attribute ``modes``, those that it has (default: all), and an attribute
    ``prepare``, called with the source before it is linked.
    """

    def __init__(self, where: str) -> None:
        self._name = where
        self._link = _resolve(where)
        given = getattr(self._link, "modes", EVERY_MODE)
        try:
            self._modes = tuple(
                mode if isinstance(mode, LinkMode) else LinkMode.parse(mode) for mode in given
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{where}.modes is not a list of link modes", why=str(error)) from None
        self._prepare: Callable[[pathlib.Path], object] | None = getattr(
            self._link, "prepare", None
        )

    @property
    def name(self) -> str:
        """Where it was found."""
        return self._name

    def modes(self) -> tuple[LinkMode, ...]:
        """Return the modes that the function says it has."""
        return self._modes

    def prepare(self, source: pathlib.Path) -> None:
        """Call the function's own ``prepare``, if it has one."""
        if self._prepare is not None:
            with _Foreign(self._name):
                self._prepare(source)

    def link(self, source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> AdapterResult:
        """Call the function; what it returns is kept if it is a `LinkReport`."""
        from linker.report import LinkReport

        __tracebackhide__ = True
        start = time.perf_counter()
        with _Foreign(self._name):
            report = self._link(source, target, mode)
        kept = report if isinstance(report, LinkReport) else None
        return AdapterResult(time.perf_counter() - start, kept)


class CommandAdapter:
    """A command line, run without a shell.

    ``my-linker --mode={mode} {source} {target}`` has all four modes; ``clone,copy=my-linker
    --mode={mode} {source} {target}`` these two; ``copy=cp -a {source}/. {target}`` needs no
    ``{mode}``, for it has one. Several lines make one linker out of several commands.

    With `policy` it runs under supervision, where the system allows that, and what it did is told
    as edges of that policy.
    """

    def __init__(self, text: str, *, timeout: float = 300, policy: Policy | None = None) -> None:
        self._timeout = timeout
        self._policy = policy
        self._templates: dict[LinkMode, tuple[str, ...]] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            modes, template = _template(line)
            self._templates |= dict.fromkeys(modes, template)
        first = next(iter(self._templates.values()), ("",))
        self._name = os.path.basename(first[0])

    @property
    def name(self) -> str:
        """The program."""
        return self._name

    def modes(self) -> tuple[LinkMode, ...]:
        """Return the modes for which there is a command."""
        return tuple(mode for mode in LinkMode if mode in self._templates)

    def prepare(self, source: pathlib.Path) -> None:
        """Do nothing: a command takes the source as it is."""

    def check(self, *, to_be_built: bool = False) -> None:
        """Look for the programs of all commands. Raises UsageError for one that cannot be run.

        A linker that never starts would pass every test of what must be refused. One `to_be_built`
        may still be missing where its path says that it will be.
        """
        from pytest_linkmode import processes

        __tracebackhide__ = True
        for program in dict.fromkeys(template[0] for template in self._templates.values()):
            if _PLACES.search(program) or processes.which(program) is not None:
                continue
            if to_be_built and _may_be_built(program):
                continue
            why, hint = _why_not(program)
            raise UsageError(
                f"the program {program!r} of the linker cannot be run", why=why, hint=hint
            )

    def command(
        self, source: pathlib.Path, target: pathlib.Path, mode: LinkMode
    ) -> tuple[str, ...]:
        """Return the arguments of one run. Raises UsageError for a mode without a command."""
        template = self._templates.get(mode)
        if template is None:
            had = ", ".join(map(str, self.modes()))
            raise UsageError(f"{self._name} has no command for {mode}", hint=f"it has {had}")
        values = {"mode": mode.value, "source": str(source), "target": str(target)}
        return tuple(_PLACES.sub(lambda place: values[place[1]], word) for word in template)

    def link(self, source: pathlib.Path, target: pathlib.Path, mode: LinkMode) -> AdapterResult:
        """Run the command for `mode`; its exit status decides."""
        __tracebackhide__ = True
        start = time.perf_counter()
        with _Foreign(self._name, says_all=True):
            stdout, stderr = self._run(self.command(source, target, mode), mode)
        output = "\n".join(filter(None, (stdout.strip(), stderr.strip())))
        return AdapterResult(time.perf_counter() - start, output=output)

    def _run(self, command: tuple[str, ...], mode: LinkMode) -> tuple[str, str]:
        """Run a command, watched if that is wanted and can be done; return what it printed."""
        from pytest_linkmode import processes

        if self._policy is not None:
            from pytest_linkmode.faults.support import unavailable

            if unavailable() is None:
                try:
                    return self._watched(command, mode, self._policy)
                except OSError as error:
                    why = processes.not_started(error)
                    raise processes.CommandFailed(command, None, "", why=why) from error
        done = processes.run(command, timeout=self._timeout, locale=None)
        return done.stdout, done.stderr

    def _watched(self, command: tuple[str, ...], mode: LinkMode, policy: Policy) -> tuple[str, str]:
        from pytest_linkmode.faults.runner import FaultRunner
        from pytest_linkmode.processes import CommandFailed, ended
        from pytest_linkmode.witnessing import witness

        runner = FaultRunner(witness=lambda run: witness(run, policy, mode))
        done = runner.run(command, timeout=self._timeout, log=())
        if done.returncode:
            why = ended(done.returncode)
            raise CommandFailed(command, done.returncode, done.stderr, why=why)
        return done.stdout, done.stderr


_PLACES = re.compile(r"\{(mode|source|target)\}")
_MODES = re.compile(r"([a-z]+(?:,[a-z]+)*)=(.*)", re.DOTALL)
_EXAMPLE = "write it as in: my-linker --mode={mode} {source} {target}"
_FOR_A_SHELL = re.compile(r"~|[A-Za-z_]\w*=|.*\$", re.DOTALL)
_NO_SHELL = (
    "no shell reads the command line: write the path out, or call a shell, as in: "
    "sh -c '~/my-linker \"$@\"' sh --mode={mode} {source} {target}"
)


def _is_path(program: str) -> bool:
    return os.path.basename(program) != program


def _may_be_built(program: str) -> bool:
    """Whether a program that cannot be run may be there once the tests have begun."""
    is_missing = _is_path(program) and not os.path.exists(program)
    return is_missing and not _FOR_A_SHELL.match(program)


def _why_not(program: str) -> tuple[str, str]:
    """Return why a program cannot be run, and what mends it."""
    by_path = "name it by its path, or add its directory to PATH"
    if _is_path(program) and os.path.isdir(program):
        return "it is a directory", "name the program in it"
    if _is_path(program) and os.path.exists(program):
        return "this user may not execute it", "chmod +x it, or put its interpreter before it"
    why = "there is no such file" if _is_path(program) else "it is in no directory of PATH"
    return why, _NO_SHELL if _FOR_A_SHELL.match(program) else by_path


def _words(line: str, *, windows: bool = HERE == "win32") -> tuple[str, ...]:
    """Take a line apart as a shell would; on Windows a backslash is a part of a path."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    if windows:
        lexer.escape = ""
    return tuple(lexer)


def _template(line: str) -> tuple[Sequence[LinkMode], tuple[str, ...]]:
    """Take one line apart into modes and arguments. Raises UsageError."""
    modes: Sequence[LinkMode] = EVERY_MODE
    prefix = _MODES.fullmatch(line)
    if prefix is not None:
        try:
            modes = [LinkMode.parse(word) for word in prefix[1].split(",")]
        except ValueError as error:
            raise UsageError(f"cannot understand {line!r}", why=str(error), hint=_EXAMPLE) from None
        line = prefix[2]
    try:
        words = _words(line)
    except ValueError as error:
        raise UsageError(f"cannot take {line!r} apart", why=str(error)) from None
    there = {place for word in words for place in _PLACES.findall(word)}
    needed = ("source", "target") if len(modes) == 1 else ("mode", "source", "target")
    missing = [f"{{{place}}}" for place in needed if place not in there]
    if missing:
        hint = _EXAMPLE
        if missing == ["{mode}"]:
            hint += "\nor say which mode this command has: copy=cp -a {source}/. {target}"
        raise UsageError(
            f"the command line {line!r} cannot be a linker",
            why=f"it lacks {' and '.join(missing)}",
            hint=hint,
        )
    return modes, words


_SIGNATURE = "name a function of a source directory, a target directory and a LinkMode"


def _resolve(where: str) -> Callable[[pathlib.Path, pathlib.Path, LinkMode], object]:
    """Return the function that ``module:callable`` names. Raises UsageError."""
    module_name, colon, path = where.partition(":")
    if not (module_name and colon and path):
        raise UsageError(
            f"{where!r} is no linker",
            why="it is neither module:callable nor a command line",
            hint=f"{_EXAMPLE}\nor as in: my_package.my_module:my_function",
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"cannot import the linker {where!r}",
            why=str(error),
            hint=IMPORT_HINT,
        ) from error
    try:
        found: object = operator.attrgetter(path)(module)
    except AttributeError as error:
        hint = "write module:callable, with a name of that module"
        raise UsageError(f"there is no linker {where!r}", why=str(error), hint=hint) from None
    if not callable(found):
        raise UsageError(
            f"the linker {where!r} cannot be called", why=f"it is {found!r}", hint=_SIGNATURE
        )
    try:
        inspect.signature(found).bind(pathlib.Path(), pathlib.Path(), LinkMode.COPY)
    except TypeError as error:
        raise UsageError(
            f"the linker {where!r} cannot be called as f(source, target, mode)",
            why=str(error),
            hint=_SIGNATURE,
        ) from None
    except ValueError:  # written in C: it does not tell
        pass
    return found


class _Foreign:
    """Code that is not ours: whatever it raises becomes an `AdapterError` that names it.

    What ends a test or a run on purpose (KeyboardInterrupt, pytest's outcomes) goes through. Where
    an error of ours `says_all`, as that of a program does, no frames of ours are shown with it.
    """

    def __init__(self, name: str, *, says_all: bool = False) -> None:
        self._name = name
        self._says_all = says_all

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        if isinstance(error, Exception) and not isinstance(error, UsageError):
            said, is_ours = str(error), isinstance(error, LinkmodeError)
            if not is_ours:
                said = f"{type(error).__name__}: {said}" if said else type(error).__name__
            cause = None if is_ours and self._says_all else error
            raise AdapterError(f"{self._name} failed", why=said) from cause
