"""The programs as a table: their modes, how each is warmed, and how it installs offline.

A program is a row; its functions only say which command is run, with which environment and in which
directory. Everything that a program may write lies below one place of the cell.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from linker.modes import LinkMode
from linker.policies import coreutils
from pytest_linkmode.installers import sample
from pytest_linkmode.installers.kit import Kit

HERE = os.path.dirname(os.path.abspath(__file__))
CLONE, HARDLINK, SYMLINK, COPY = LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.SYMLINK, LinkMode.COPY


@dataclass(frozen=True)
class Mode:
    """A mode of a program: its own word, the link mode that it means, and the policy of that.

    A `strict` one fails where the policy would fall back.
    """

    word: str
    asks: LinkMode
    policy: str
    strict: bool = False


@dataclass(frozen=True)
class Place:
    """The directories of one installation.

    `cache` lies on the source's side, with `supply` beside it: the wheel, the npm package, and the
    plain trees. `target` is empty; `home` is what the program takes for the user's. Both lie in
    `around`, with nothing else in it.
    """

    kit: Kit
    cache: str
    supply: str
    around: str

    @property
    def target(self) -> str:
        """The directory that is installed into."""
        return os.path.join(self.around, "target")

    @property
    def home(self) -> str:
        """The home directory."""
        return os.path.join(self.around, "home")

    @property
    def temporary(self) -> str:
        """The directory for temporary files."""
        return os.path.join(self.home, "tmp")


@dataclass(frozen=True)
class Command:
    """What is run: the arguments, what is added to the environment, and the working directory."""

    arguments: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that the project has before: path below `cwd` -> text."""


@dataclass(frozen=True)
class Program:
    """One program: a row of the table.

    `index` is where it comes from ("", "python", "npm"), `pin` its name there; `files` are what it
    installs. The first of `modes` is what it does where nobody asks. `where` is the directory of
    the package below the target. `locks` are files of the project that warming makes. A `zipped`
    one installs from an archive: its cache has no files that could be odd. `slow` ones are run in
    fewer cells. Where what a program does has changed from version to version,
    `policy_of` returns the name of the policy that stands for `family` in a version.
    """

    name: str
    index: str
    pin: str
    files: Callable[[], sample.Files]
    modes: tuple[Mode, ...]
    command: Callable[[Place, Mode], Command]
    where: str
    locks: tuple[str, ...] = ()
    warms: bool = True
    zipped: bool = False
    slow: bool = False
    family: str = ""
    policy_of: Callable[[str], str] | None = None

    @property
    def volume(self) -> str:
        """The directory below the target that people mount something on."""
        above, _, name = self.where.partition("/")
        return above if name and self.index == "npm" else self.where

    def at(self, version: str) -> Program:
        """Return this program with the policies of one of its versions."""
        if self.policy_of is None:
            return self
        policy = self.policy_of(version)
        modes = (
            replace(mode, policy=policy) if mode.policy == self.family else mode
            for mode in self.modes
        )
        return replace(self, modes=tuple(modes))


# --- those of Python's index -------------------------------------------------------------------


def _uv(place: Place, mode: Mode) -> Command:
    return Command(
        (
            *(os.path.join(place.kit.python, "bin", "uv"), "pip", "install", "--offline"),
            *("--no-index", "--find-links", place.supply, "--python", sys.executable),
            *("--target", place.target, "--link-mode", mode.word, sample.NAME),
        ),
        {
            "UV_CACHE_DIR": place.cache,
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            # With one thread the nth call is the same file every time.
            "UV_CONCURRENT_INSTALLS": "1",
            "RAYON_NUM_THREADS": "1",
            "TOKIO_WORKER_THREADS": "1",
        },
    )


def _pip(place: Place, mode: Mode) -> Command:  # noqa: ARG001  # it has one
    return Command(
        (
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-index", "--find-links", place.supply, "--no-compile", "--no-deps"),
            *("--target", place.target, sample.NAME),
        ),
        {
            "PYTHONPATH": place.kit.python,
            "PIP_CACHE_DIR": place.cache,
            "PIP_CONFIG_FILE": os.devnull,
        },
    )


def _pdm(place: Place, mode: Mode) -> Command:
    links = mode.asks is not COPY  # it copies where it keeps no packages
    method = f'cache_method = "{mode.word}"\n' if links else ""
    wheel = os.path.join(place.supply, sample.WHEEL)
    return Command(
        (sys.executable, "-m", "pdm", "install", "--no-self", "--frozen-lockfile", "-p", "."),
        {
            "PYTHONPATH": place.kit.python,
            "PDM_CHECK_UPDATE": "0",
            "PDM_CACHE_DIR": place.cache,
            "PDM_IGNORE_ACTIVE_VENV": "1",
        },
        place.target,
        {
            "pyproject.toml": '[project]\nname = "project"\nversion = "1"\n'
            'requires-python = ">=3.11"\n'
            f'dependencies = ["{sample.NAME} @ file://{wheel}"]\n'
            "[tool.pdm]\ndistribution = false\n",
            "pdm.toml": f"[install]\ncache = {str(links).lower()}\n{method}"
            "[python]\nuse_venv = false\n",
        },
    )


def _driver(module: str, *words: str) -> Callable[[Place, Mode], Command]:
    """Return how a library is run: by the small program `drivers` that calls it for each file."""

    def command(place: Place, mode: Mode) -> Command:
        source = os.path.join(place.supply, "plain")
        program = os.path.join(HERE, "drivers", f"{module}.py")
        return Command(
            (sys.executable, program, mode.word, source, place.target, *words),
            {"PYTHONPATH": place.kit.python},
        )

    return command


# --- those of npm's index ----------------------------------------------------------------------


def _node(place: Place) -> dict[str, str]:
    """Return what Node is told: where it keeps compiled code, which else it would make each time.

    Programs that no Node runs do not look at it.
    """
    return {"NODE_COMPILE_CACHE": place.kit.compiled}


def _project(**more: object) -> dict[str, str]:
    described = {
        "name": "project",
        "version": "1.0.0",
        "dependencies": {sample.NAME: f"file:./{sample.TARBALL}"},
        **more,
    }
    return {"package.json": json.dumps(described)}


def _pnpm(place: Place, mode: Mode, *program: str) -> Command:
    # As an option, pnpm 11 does not know of clone-or-copy, and takes what is the default.
    settings = f"packageImportMethod: {mode.word}\n"
    return Command(
        (
            *(*program, "install", "--offline", "--ignore-scripts", "--no-frozen-lockfile"),
            *("--store-dir", place.cache),
        ),
        _node(place),
        place.target,
        {**_project(), "pnpm-workspace.yaml": settings},
    )


def _pnpm_11(place: Place, mode: Mode) -> Command:
    return _pnpm(place, mode, place.kit.node, place.kit.one_of("pnpm-11/dist/pnpm.mjs"))


def _pnpm_12(place: Place, mode: Mode) -> Command:
    names = ("@pnpm/exe.linux-x64/pnpm", "@pnpm/exe.linux-arm64/pnpm")
    return _pnpm(place, mode, place.kit.one_of(*names))


def _bun(place: Place, mode: Mode) -> Command:
    program = place.kit.one_of("@oven/bun-linux-x64/bin/bun", "@oven/bun-linux-aarch64/bin/bun")
    return Command(
        (program, "install", "--ignore-scripts", "--no-progress", f"--backend={mode.word}"),
        {"BUN_INSTALL_CACHE_DIR": place.cache, "DO_NOT_TRACK": "1"},
        place.target,
        _project(),
    )


def _yarn(place: Place, mode: Mode) -> Command:
    program = place.kit.one_of("@yarnpkg/cli-dist/bin/yarn.js")
    settings = {
        "nodeLinker": "node-modules",
        "nmMode": mode.word,
        "globalFolder": place.cache,
        "enableGlobalCache": "true",
        "enableNetwork": "false",
        "enableTelemetry": "false",
        "enableScripts": "false",
        "enableImmutableInstalls": "false",
    }
    lines = "".join(f"{name}: {value}\n" for name, value in settings.items())
    return Command(
        (place.kit.node, program, "install"),
        _node(place),
        place.target,
        {**_project(), ".yarnrc.yml": lines},
    )


def _cacache(place: Place, mode: Mode) -> Command:  # noqa: ARG001  # it has one
    program = os.path.join(HERE, "drivers", "cacache.cjs")
    source = os.path.join(place.supply, "plain")
    package = place.kit.one_of("cacache")
    words = (place.kit.node, program, package, place.cache, source, place.target)
    return Command(words, _node(place))


# --- those of the machine ----------------------------------------------------------------------

_CP = {
    "reflink=auto": ("-a", "--reflink=auto"),
    "reflink=always": ("-a", "--reflink=always"),
    "link": ("-al",),
    "symbolic-link": ("-as",),
    "reflink=never": ("-a", "--reflink=never"),
}


def _cp(place: Place, mode: Mode) -> Command:
    source = os.path.join(place.supply, "plain")
    return Command(("cp", *_CP[mode.word], f"{source}/.", place.target))


def _reference(place: Place, mode: Mode) -> Command:
    source = os.path.join(place.supply, "plain")
    checkout = os.path.dirname(os.path.dirname(HERE))
    options = ("--mode", mode.asks.value, *(("--strict",) if mode.strict else ()))
    return Command(
        (sys.executable, "-m", "linker", *options, source, place.target), {"PYTHONPATH": checkout}
    )


def _modes(policy: str, **words: LinkMode) -> tuple[Mode, ...]:
    return tuple(Mode(word.replace("_", "-"), asks, policy) for word, asks in words.items())


PROGRAMS: tuple[Program, ...] = (
    Program(
        "reference", "", "", sample.wheel_files,
        (
            *_modes("reference", clone=CLONE, hardlink=HARDLINK, symlink=SYMLINK, copy=COPY),
            Mode("clone --strict", CLONE, "reference", strict=True),
        ),
        _reference, sample.PACKAGE, warms=False,
    ),
    Program(
        "uv", "python", "uv", sample.wheel_files,
        _modes("uv", clone=CLONE, hardlink=HARDLINK, symlink=SYMLINK, copy=COPY),
        _uv, sample.PACKAGE,
    ),
    Program(
        "pip", "python", "pip", sample.wheel_files, _modes("pip", copy=COPY), _pip,
        sample.PACKAGE, warms=False, zipped=True, slow=True,
    ),
    Program(
        "pdm", "python", "pdm", sample.wheel_files,
        _modes("pdm", symlink=SYMLINK, hardlink=HARDLINK, copy=COPY), _pdm,
        f"__pypackages__/{sys.version_info.major}.{sys.version_info.minor}/lib/{sample.PACKAGE}",
        locks=("pdm.lock",), slow=True,
    ),
    Program(
        "dvc-objects", "python", "dvc-objects", sample.wheel_files,
        _modes("dvc", reflink=CLONE, hardlink=HARDLINK, symlink=SYMLINK, copy=COPY),
        _driver("dvc"), sample.PACKAGE, warms=False,
    ),
    Program(
        "reflink-copy", "python", "reflink-copy", sample.wheel_files,
        _modes("reflink-copy", reflink_or_copy=CLONE), _driver("reflinkcopy"), sample.PACKAGE,
        warms=False,
    ),
    Program(
        "pnpm-12", "npm", "@pnpm/exe.linux-x64", sample.package_files,
        (
            Mode("auto", HARDLINK, "pnpm-12"),
            Mode("hardlink", HARDLINK, "pnpm-12-hardlink"),
            Mode("clone", CLONE, "pnpm-12-clone"),
            Mode("clone-or-copy", CLONE, "pnpm-12-clone-or-copy"),
            Mode("copy", COPY, "pnpm-12"),
        ),
        _pnpm_12, f"node_modules/{sample.NAME}", locks=("pnpm-lock.yaml",),
    ),
    Program(
        "pnpm-11", "npm", "pnpm-11", sample.package_files,
        (
            Mode("auto", CLONE, "pnpm-11"),
            Mode("hardlink", HARDLINK, "pnpm-11-hardlink"),
            Mode("clone", CLONE, "pnpm-11-clone"),
            Mode("clone-or-copy", CLONE, "pnpm-11-clone-or-copy"),
            Mode("copy", COPY, "pnpm-11"),
        ),
        _pnpm_11, f"node_modules/{sample.NAME}", locks=("pnpm-lock.yaml",),
    ),
    Program(
        "bun", "npm", "@oven/bun-linux-x64", sample.package_files,
        _modes("bun", hardlink=HARDLINK, copyfile=COPY, symlink=SYMLINK), _bun,
        f"node_modules/{sample.NAME}", locks=("bun.lock",),
    ),
    Program(
        "yarn", "npm", "@yarnpkg/cli-dist", sample.package_files,
        (
            Mode("classic", COPY, "yarn"),
            Mode("hardlinks-local", COPY, "yarn"),
            Mode("hardlinks-global", HARDLINK, "yarn"),
        ),
        _yarn, f"node_modules/{sample.NAME}", locks=("yarn.lock",), slow=True,
    ),
    Program(
        "cacache", "npm", "cacache", sample.wheel_files, _modes("cacache", copy=COPY),
        _cacache, sample.PACKAGE,
    ),
    Program(
        "cp", "", "", sample.wheel_files,
        (
            Mode("reflink=auto", CLONE, "coreutils"),
            Mode("reflink=always", CLONE, "coreutils-always", strict=True),
            Mode("link", HARDLINK, "coreutils"),
            Mode("symbolic-link", SYMLINK, "coreutils"),
            Mode("reflink=never", COPY, "coreutils"),
        ),
        _cp, sample.PACKAGE, warms=False, family="coreutils", policy_of=coreutils.of_version,
    ),
)  # fmt: skip
"""Every program, the reference linker first. Orogene is in no index: there is its policy only."""

NOT_RUN: Mapping[str, str] = {
    "orogene": "in no package index that this project reaches: policy only",
    "rattler": "a library inside of other programs: policy only",
    "cpython": "Path.copy needs Python 3.14: policy only",
}
"""Systems that have a policy and are not run, and why."""
