"""The state of one run of pytest, kept in the stash of its config.

A `Session` decides as late as it can: settings, the place, the filesystems, the selection and
the policy exist from their first use on. The controller and each worker of
pytest-xdist have one each; what a worker finds out goes to the controller as plain data.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pytest_linkmode.axes import CHANNEL

if TYPE_CHECKING:
    import argparse

    from linker.policy import Policy
    from pytest_linkmode.adapters import Adapter
    from pytest_linkmode.config import Settings
    from pytest_linkmode.coverage import Ledger
    from pytest_linkmode.errors import Unavailable
    from pytest_linkmode.faults.running import Run
    from pytest_linkmode.filesystems.base import Kind
    from pytest_linkmode.layouts import Layout, LayoutSpec, Workshop
    from pytest_linkmode.listening import Listener
    from pytest_linkmode.namespaces import Place
    from pytest_linkmode.selection import Choice, Narrowing, Selection, Want


class Session:
    """Everything of ours that one run of pytest holds."""

    def __init__(
        self, config: pytest.Config, options: argparse.Namespace, *, is_explicit: bool
    ) -> None:
        self.config = config
        self.is_explicit = is_explicit
        """Whether anything was asked for of this run."""
        self._options = options
        self.started = time.time()
        self.is_varied = False
        """Whether a test with a fixture of ours was collected in this process."""
        self.guests: frozenset[str] = frozenset()
        """Filesystems whose tests run in a guest, because they can be had nowhere else."""
        self._stack = ExitStack()
        worker: Mapping[str, Any] = getattr(config, "workerinput", {})
        handed: Mapping[str, Any] = worker.get(CHANNEL, {})
        self._run: str | None = handed.get("run")
        self._unavailable: dict[str, str] = dict(handed.get("unavailable", {}))
        if worker and "LINKMODE_PLACE" in os.environ:
            from pytest_linkmode import privileges

            privileges.settle()

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of pytest-xdist."""
        return hasattr(self.config, "workerinput")

    @property
    def is_distributed(self) -> bool:
        """Whether this is a controller whose workers run the tests."""
        option = self.config.getoption
        distributes = option("dist", "no") != "no" and option("tx", None)
        return bool(distributes) and not self.is_worker

    @property
    def is_used(self) -> bool:
        """Whether anything of ours was asked for, collected or run."""
        return self.is_explicit or self._has("ledger")

    # What exists from its first use on

    @functools.cached_property
    def listener(self) -> Listener:
        """Who hears what the linker does on behalf of tests of ours."""
        from pytest_linkmode.listening import Listener

        return Listener()

    @property
    def listening(self) -> Listener | None:
        """The listener, if any test has had use for it."""
        return self.listener if self._has("listener") else None

    @functools.cached_property
    def settings(self) -> Settings:
        """What was asked for, as this process is to understand it. Raises UsageError."""
        if "LINKMODE_GUEST" in os.environ:
            from pytest_linkmode.guests.uml import within

            return within(self.asked)
        return self.asked

    @functools.cached_property
    def asked(self) -> Settings:
        """What was asked for, as it was typed. Raises UsageError."""
        from pytest_linkmode.config import read

        return read(self.config, self._options)

    @functools.cached_property
    def ledger(self) -> Ledger:
        """What this run found out."""
        from pytest_linkmode.coverage import Ledger

        return Ledger()

    @functools.cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """The filesystems that are known by name, those of the project among them."""
        from pytest_linkmode.filesystems import FILESYSTEMS, rows

        answers = self.config.hook.pytest_linkmode_filesystems(config=self.config)
        for kind in rows(answers):
            # Another run in this process, as of pytester, has a project of its own.
            self._stack.callback(_put_back, FILESYSTEMS, kind.name, FILESYSTEMS.get(kind.name))
            FILESYSTEMS[kind.name] = kind
        return FILESYSTEMS

    def find_place(self) -> Place:
        """Enter the place where filesystems are made, if this process is not there yet."""
        from pytest_linkmode.ladder import find_place

        if self._run is not None:
            from pytest_linkmode.filesystems import registry

            registry.belong_to(self._run)
        return find_place(self.settings)

    @functools.cached_property
    def place(self) -> Place:
        """Where filesystems are made."""
        return self.find_place()

    @functools.cached_property
    def workshop(self) -> Workshop:
        """The filesystems of this process, for as long as the run."""
        return self._stack.enter_context(self.new_workshop())

    @contextlib.contextmanager
    def new_workshop(self) -> Iterator[Workshop]:
        """Make filesystems that live as long as the context."""
        from pytest_linkmode.layouts import Workshop

        with contextlib.closing(Workshop(self.place, self.settings)) as workshop:
            yield workshop

    @functools.cached_property
    def policy(self) -> Policy:
        """The fallback graph that expectations and coverage speak of."""
        return self.find_policy()

    def find_policy(self) -> Policy:
        """Return the policy that the settings name. Raises UsageError."""
        return load_policy(self.settings.policy)

    @functools.cached_property
    def adapter(self) -> Adapter:
        """The linker that the tests drive; asked for only by those that do.

        Raises UsageError, also where it is a program that cannot be run.
        """
        from pytest_linkmode.adapters import CommandAdapter

        adapter = self.find_adapter()
        if isinstance(adapter, CommandAdapter):
            adapter.check()
        return adapter

    @property
    def is_witnessing(self) -> bool:
        """Whether what programs do is held against a policy: only if one was asked for."""
        return "policy" in self.settings.origins

    @property
    def witness(self) -> Callable[[Run], None] | None:
        """What tells of the run of a program by the policy."""
        if not self.is_witnessing:
            return None
        from pytest_linkmode.witnessing import witness_by

        return witness_by(self.policy)

    def find_adapter(self) -> Adapter:
        """Return the linker that the settings name. Raises UsageError."""
        from pytest_linkmode.adapters import adapter_from

        return adapter_from(self.settings.linker, self.policy, witnessed=self.is_witnessing)

    @functools.cached_property
    def wanted(self) -> Mapping[str, Want]:
        """The filesystems that are selected, and how each was asked for. Raises UsageError."""
        from pytest_linkmode.filesystems import automatic
        from pytest_linkmode.selection import wanted

        return wanted(self.settings, self.kinds, automatic())

    @functools.cached_property
    def selection(self) -> Selection:
        """Every parameter of this run. Raises UsageError."""
        from pytest_linkmode.selection import make_selection

        return make_selection(self.settings, self.wanted, self.missing, self.missing_layout)

    def missing(self, name: str) -> str:
        """Return why a filesystem cannot be had here, in one line, or an empty string.

        What the controller found out by trying is believed; otherwise this looks, and makes
        nothing.
        """
        found = self._unavailable.get(name)
        if found is None:
            from pytest_linkmode.filesystems import missing

            error = missing(self.kinds[name], self.settings)
            found = self._unavailable[name] = one_line(error) if error else ""
        if found:
            self.ledger.unavailable[name] = found
        return found

    def missing_layout(self, spec: LayoutSpec) -> str:
        """Return why a layout cannot be had here, in one line, or an empty string."""
        from pytest_linkmode.layouts import missing

        for name in (spec.source, spec.target):
            if self.missing(name):
                return self.missing(name)
        error = missing(spec, self.settings)
        return one_line(error) if error else ""

    # What tests are given

    @contextlib.contextmanager
    def having(self, choice: Choice) -> Iterator[LayoutSpec]:
        """Skip the test, or fail it if this was asked for by name, where it cannot be had."""
        from pytest_linkmode.errors import LinkmodeError, Unavailable

        assert choice.spec is not None
        failure: LinkmodeError
        try:
            if choice.skip and not choice.required:
                pytest.skip(choice.skip)
            yield choice.spec
            return
        except Unavailable as error:
            if not choice.required:
                pytest.skip(one_line(error))
            failure = error
        except LinkmodeError as error:
            failure = error
        pytest.fail(str(failure), pytrace=False)

    def named_layout(self, name: str) -> Choice:
        """Return the layout that a test asks for by its name. Raises UsageError."""
        from pytest_linkmode.selection import choice_of

        assert self.kinds
        return choice_of(name, self.wanted)

    def named_filesystem(self, name: str) -> Choice:
        """Return the filesystem that a test asks for by its name. Raises UsageError."""
        from pytest_linkmode.selection import check, choice_of

        check("filesystem", name, self.kinds)
        return choice_of(name, self.wanted)

    def layout(self, workshop: Workshop, spec: LayoutSpec) -> Layout:
        """Return fresh directories whose expectations are those of the selected policy."""
        return dataclasses.replace(workshop.layout(spec), policy=self.policy)

    def rules(self, item: pytest.Item) -> list[Narrowing]:
        """Return what the markers of a test leave of the selection. Raises UsageError."""
        from pytest_linkmode.selection import MARKER, from_marks

        return from_marks(item.iter_markers(MARKER), self.kinds)

    # What people are told

    @property
    def header(self) -> str | None:
        """The header line, as one would type it; None where nothing was asked for."""
        if not self.is_explicit:
            return None
        import shlex

        place = f" ({self.place_words})" if self._has("place") else ""
        if self.guests:
            place += f"; in a guest (User-Mode Linux): {', '.join(sorted(self.guests))}"
        return f"linkmode: {shlex.join(self.settings.typed())}{place}"

    @property
    def place_words(self) -> str:
        """Where filesystems are made and as whom, for the header line."""
        user = os.geteuid() if hasattr(os, "geteuid") else None
        who = {None: "", 0: "root"}.get(user, f"uid {user}")
        if self._has("place"):
            note = f": {self.place.note}" if self.place.note else ""
            kind = f"{self.place.kind} {'user ' if self.place.user else ''}namespace"
            who = ", ".join(filter(None, (f"{kind}{note}", who)))
        return who

    def alone(self, item: pytest.Item) -> str:
        """Return the command line that runs this test as it runs here, and no other."""
        import shlex

        path, colons, name = item.nodeid.partition("::")
        path = os.path.join(self.config.rootpath, path)
        with contextlib.suppress(ValueError):  # it lies on another drive
            path = os.path.relpath(path, self.config.invocation_params.dir)
        test = path + colons + name
        options = self.asked.replaying(self.listener.layouts_of(item))
        return shlex.join(["pytest", test, *options])

    # Between processes

    def found_out(self, name: str, error: Unavailable | None) -> None:
        """Remember what came of really trying to get a filesystem."""
        self._unavailable[name] = one_line(error) if error else ""

    def make_way(self) -> None:
        """Let workers, which are programs of their own, mount what takes more than the right to.

        They hold it back as this process does. Tests run in none that is started later.
        """
        if "LINKMODE_PLACE" in os.environ:
            from pytest_linkmode import privileges

            privileges.prepare_workers()

    def hand_down(self) -> dict[str, str]:
        """Return what a worker must know of the controller's decision, as plain data."""
        return dict(self._unavailable)

    def said(self) -> dict[str, Any]:
        """Return what a worker has to say beyond its reports, as plain data."""
        if not self.is_used:
            return {}
        self.take_notes()
        if self.settings.report:
            from pytest_linkmode.report.machine import facts

            worker = self.config.workerinput["workerid"]  # type: ignore[attr-defined]
            self.ledger.machines[worker] = facts()
        return self.ledger.plain()

    def take_notes(self) -> None:
        """Note what people should know of the filesystems that this process made."""
        if not self._has("workshop"):
            return
        there = self.workshop.filesystems
        # The threads of a worker serve its channel; they touch no file of ours.
        expected = self.is_worker and self.place.private
        if self.place.note and not expected and any(one.made for one in there):
            self.ledger.notes[self.place.note] = None
        if self.settings.keep:
            for one in there:
                note = f"kept: {one.name} at {one.path} (to remove it: linkmode clean)"
                self.ledger.notes[note] = None

    def leave_workshop(self) -> None:
        """Undo all filesystems of this process; those used later are made anew."""
        if self._has("workshop"):
            self.__dict__.pop("workshop").close()

    def close(self) -> None:
        """Undo everything of ours."""
        self._stack.close()

    def _has(self, name: str) -> bool:
        """Whether a property that exists from its first use on exists by now."""
        return name in self.__dict__


def one_line(error: Unavailable) -> str:
    """Return all that an error says in one line, as the reason of a skip."""
    parts = [error.what + (f": {error.why}" if error.why else "")]
    if error.checked:
        parts.append("checked: " + "; ".join(error.checked))
    if error.mends:
        parts.append("to fix this: " + " or ".join(error.mends))
    return " | ".join(" ".join(part.split()) for part in parts)


def load_policy(text: str) -> Policy:
    """Return the policy called `text`, or the one at ``module:OBJ``. Raises UsageError."""
    from linker.policies import ALL
    from linker.policy import Policy
    from pytest_linkmode.config import suggestion
    from pytest_linkmode.errors import IMPORT_HINT, UsageError

    module, _, name = text.partition(":")
    if not (module and name):
        found = ALL.get(text.lower())
        if found is None:
            hint = f"{suggestion(text, ALL)}; one of your own is MODULE:OBJ"
            raise UsageError(f"no policy is called {text!r}", hint=hint)
        return found
    import importlib

    try:
        policy = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(
            f"cannot import the policy {text!r}", why=str(error), hint=IMPORT_HINT
        ) from None
    except AttributeError as error:
        hint = "write MODULE:OBJ, with a name of that module"
        raise UsageError(f"there is no policy {text!r}", why=str(error), hint=hint) from None
    if not isinstance(policy, Policy):
        raise UsageError(
            f"{text!r} is no policy",
            why=f"it is a {type(policy).__name__}",
            hint="name an object of the class linker.Policy",
        )
    return policy


def _put_back(kinds: dict[str, Kind], name: str, before: Kind | None) -> None:
    if before is None:
        del kinds[name]
    else:
        kinds[name] = before
