"""What the commands of the documentation presume, and what comes of them: the tables behind the
test that types them.

Every command of every page stands in one of the two: in `TRIED` with the directory in which the
page means it to be typed, or in `PARSED` with the reason why no test can type it. Programs of the
reader's (`my-linker`, `cargo test`) are scripts of a few lines.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_linkmode import cli
from pytest_linkmode.report import json as json_report
from tests.documentation import ROOT, examples
from tests.pytest_linkmode.sample_report import report_of


@dataclass(frozen=True)
class Scene:
    """What lies in the directory, what the command ends with, prints and leaves behind."""

    given: Sequence[Callable[[Path], object]] = ()
    status: int = 0
    prints: Sequence[str] = ()
    """Beside what the page shows."""
    leaves: Sequence[str] = ()
    """Names in the directory."""
    needs: Sequence[str] = ()
    """Filesystems and rungs without which the command is an error."""
    programs: Mapping[str, str] = field(default_factory=dict)
    """The reader's programs, as shell scripts."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """What is the reader's, a place or a number, and what it is in the test."""
    narrowed: Sequence[str] = ()
    """What is added, lest the command take a minute."""
    faults: bool = False
    """Whether calls of programs are to fail."""


def example(page: str, number: int) -> Callable[[Path], None]:
    """Return what writes the test that a page has shown, and the files beside it."""

    def write(directory: Path) -> None:
        shown = examples(ROOT / page)[number]
        name = page.lower().replace("/", "_").replace("-", "_").removesuffix(".md")
        for file, text in shown.files.items():
            (directory / file).write_text(text, encoding="utf-8")
        (directory / f"test_{name}.py").write_text(shown.code, encoding="utf-8")

    return write


def small_test(directory: Path) -> None:
    """A suite that knows nothing of the plugin."""
    (directory / "test_small.py").write_text(
        "def test_it(tmp_path):\n    (tmp_path / 'file').write_text('whole')\n", encoding="utf-8"
    )


def suite_of_clones(directory: Path) -> None:
    """A suite whose linker clones where that is possible."""
    (directory / "test_clones.py").write_text(
        """
import pytest
from linker import link_tree
from pytest_linkmode import assert_linked

@pytest.mark.linkmode(modes=["clone"])
def test_clones(linkmode_layout, link_mode):
    (linkmode_layout.source / "module.py").write_text("answer = 42")
    link_tree(linkmode_layout.source, linkmode_layout.target, mode=link_mode)
    expected = linkmode_layout.expect(link_mode)
    assert_linked(linkmode_layout.source, linkmode_layout.target, expected)
""",
        encoding="utf-8",
    )


def linked_trees(directory: Path) -> None:
    """A source, and a target that is copied from it."""
    for name in ("SOURCE", "TARGET"):
        (directory / name).mkdir()
        (directory / name / "module.py").write_text("answer = 42\n", encoding="utf-8")


def empty_trees(directory: Path) -> None:
    """Two directories."""
    for name in ("SOURCE", "TARGET"):
        (directory / name).mkdir()


def two_reports(directory: Path) -> None:
    """The reports of two machines, and a list that they meet together."""
    for name, proofs in (("linux", ("real", "")), ("macos", ("", "modelled"))):
        text = json_report.text(report_of(*proofs))
        (directory / f"{name}.json").write_text(text, encoding="utf-8")
    words = [str(directory / name) for name in ("linux.json", "macos.json")]
    assert cli.main(["merge", *words, "-o", str(directory / "expected.txt")]) == 0


def wheel_and_environment(directory: Path) -> None:
    """An environment, and a wheel of the name that is installed: no network is asked."""
    files = {
        "numpy/__init__.py": "answer = 42\n",
        "numpy/other.py": "",
        "numpy-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n",
        "numpy-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(directory / "numpy-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr("numpy-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    (directory / ".venv" / "bin").mkdir(parents=True)
    (directory / ".venv" / "bin" / "python").symlink_to(sys.executable)
    home = Path(sys.base_prefix) / "bin"
    (directory / ".venv" / "pyvenv.cfg").write_text(f"home = {home}\n", encoding="utf-8")
    (directory / "uv.toml").write_text(
        'offline = true\nno-index = true\nfind-links = ["."]\ncache-dir = ".cache"\n',
        encoding="utf-8",
    )


A_LINKER = f'exec "{sys.executable}" -m linker --quiet "$@"'
CONFORMANCE = "pytest --pyargs pytest_linkmode.conformance"
BOTH = ("btrfs", "xfs")
FEW = ("--linkmode-layout=btrfs,btrfs:tmpfs,xfs",)

TRIED: Mapping[str, Scene] = {
    "linkmode doctor": Scene(prints=["btrfs", "rung root"]),
    "linkmode probe SOURCE TARGET": Scene([empty_trees], prints=["hardlink", "reference", "uv"]),
    "linkmode verify clone SOURCE TARGET": Scene([linked_trees], status=1, prints=["module.py"]),
    "linkmode explain uv": Scene(prints=["uv on", "retry, then copy"]),
    "linkmode explain uv --layout btrfs:tmpfs": Scene(
        prints=["cross-device/initial -> copy", "left nothing of its own"],
        needs=["btrfs", "tmpfs"],
    ),
    "linkmode explain --help": Scene(prints=["reference, uv,", "exit status:"]),
    "linkmode explain reference": Scene(prints=["reference on", "retry, then copy"]),
    "linkmode merge linux.json macos.json -o all.html --expect expected.txt": Scene(
        [two_reports], leaves=["all.html"]
    ),
    "linkmode merge linux=linux.json macos=macos.json -o all.html -o all.txt "
    "--expect expected.txt": Scene([two_reports], leaves=["all.html", "all.txt"]),
    "linkmode merge linux=linux.json macos=macos.json -o all.html -o all.json": Scene(
        [two_reports], leaves=["all.html", "all.json"]
    ),
    "linkmode run --fault 'clone:EOPNOTSUPP:nth=3' -- mine install": Scene(
        faults=True, programs={"mine": 'test "$1" = install'}
    ),
    "linkmode run --fault 'clone:EOPNOTSUPP:path=*/numpy/__init__.py' -- uv pip install numpy": (
        Scene([wheel_and_environment], faults=True, prints=["+ numpy==1.0"], leaves=[".cache"])
    ),
    "linkmode run --env CACHE=btrfs --env TARGET=tmpfs -- make test": Scene(
        needs=["btrfs", "tmpfs"],
        programs={"make": 'stat -f -c %T "$CACHE" "$TARGET"'},
        prints=["btrfs tmpfs"],
    ),
    "linkmode run --fs btrfs,xfs --env CACHE=btrfs -- cargo test": Scene(
        needs=BOTH,
        programs={"cargo": 'stat -f -c %T "$LINKMODE_DIR_BTRFS" "$LINKMODE_DIR_XFS" "$CACHE"'},
        prints=["btrfs xfs btrfs"],
    ),
    "pytest --fixtures": Scene(prints=["linkmode_layout", "linkmode_tree"]),
    "pytest --markers": Scene(prints=["@pytest.mark.linkmode"]),
    "pytest --help": Scene(prints=["--linkmode-fs="]),
    "pytest --linkmode-fs=tmpfs": Scene(
        [example("docs/tutorial.md", 0)],
        status=1,
        needs=["tmpfs"],
        prints=["Invalid cross-device link", "1 passed"],
        narrowed=["--linkmode-layout=tmpfs,tmpfs:disk"],
    ),
    "pytest --linkmode-fs=btrfs,xfs": Scene(
        [example("README.md", 0), example("docs/tutorial.md", 1)],
        needs=BOTH,
        prints=["btrfs:tmpfs"],
        narrowed=FEW,
    ),
    "pytest --linkmode-require=hardlink,cross-device": Scene(
        [example("docs/tutorial.md", 1)],
        needs=["tmpfs"],
        prints=["passed"],
        narrowed=["--linkmode-layout=tmpfs,tmpfs:disk"],
    ),
    "pytest --linkmode-fs=btrfs,xfs --linkmode-require=reflink,cross-device "
    "--linkmode-report=linux.json": Scene(
        [suite_of_clones], needs=BOTH, leaves=["linux.json"], narrowed=FEW
    ),
    "pytest --linkmode-tmp=btrfs": Scene([small_test], needs=["btrfs"], prints=["1 passed"]),
    "pytest --linkmode-report=report.html": Scene(
        [small_test, suite_of_clones], leaves=["report.html"], narrowed=["--linkmode-layout=disk"]
    ),
    "pytest --linkmode-fs=zfs --linkmode-dir=zfs=/tank/scratch": Scene(
        [example("docs/how-to/own-filesystem.md", 0)],
        instead={"/tank/scratch": "."},
        prints=["zfs", "1 passed"],
    ),
    "pytest -n 4 --linkmode-fs=btrfs,xfs": Scene(
        [suite_of_clones], needs=BOTH, prints=["2 workers"], narrowed=["-n", "2", *FEW]
    ),
    "pytest --linkmode-provider=user-namespace --linkmode-fs=tmpfs,overlay": Scene(
        [suite_of_clones],
        needs=["user-namespace"],
        instead={"uid 1000": "root" if os.geteuid() == 0 else "uid 1000"},
        prints=["passed"],
    ),
    f"{CONFORMANCE} --linkmode-fs=btrfs --linkmode-linker='my-linker --mode {{mode}} "
    "{source} {target}'": Scene(
        needs=["btrfs"],
        programs={"my-linker": A_LINKER},
        narrowed=["--linkmode-layout=btrfs", "-k", "test_every_file_ends"],
        prints=["4 passed"],
    ),
    f"{CONFORMANCE} --linkmode-layout=tmpfs --linkmode-linker='copy=cp -a {{source}}/. "
    "{target}'": Scene(status=1, needs=["tmpfs"], narrowed=["-k", "test_a_name_that_is_taken"]),
    f"{CONFORMANCE} --linkmode-layout=tmpfs --linkmode-linker='copy=cp -a --remove-destination "
    "{source}/. {target}'": Scene(
        needs=["tmpfs"], narrowed=["-k", "test_a_name_that_is_taken"], prints=["passed"]
    ),
    "python -m scripts.changelog": Scene(),
}
"""Command -> in which circumstances it is typed."""

INSTALLS = "installs or downloads: needs a network"
CONTAINER = "needs a container engine and an image"
MINUTES = "minutes: the main job, a benchmark, or a page that is generated from a measurement"
OTHERS = "needs macOS or Windows; the same modules run on Linux by themselves"
SUITE = "is the suite of the project"
MACHINE = "mounts in the namespace of the machine, which no test does"
RELEASE = "writes the section of a release"
UNPACKED = "in a directory that was downloaded; a test of examples runs the recipes"

PARSED: Mapping[str, str] = {
    "pip install pytest-linkmode": INSTALLS,
    "pip install 'pytest-linkmode[xdist]'": INSTALLS,
    "pip download --no-deps --no-binary=:all: path==17.1.1": INSTALLS,
    "pip download --no-deps --no-binary=:all: installer==1.1.0": INSTALLS,
    "pip download --no-deps --no-binary=:all: wheel==0.48.0": INSTALLS,
    "pip install path==17.1.1 pytest appdirs more-itertools pytest-linkmode": INSTALLS,
    "pip install installer==1.1.0 pytest pytest-linkmode": INSTALLS,
    "pip install wheel==0.48.0 pytest setuptools pytest-linkmode": INSTALLS,
    "python -m scripts.downstream --write": INSTALLS,
    "tar -xf path-17.1.1.tar.gz": UNPACKED,
    "tar -xf installer-1.1.0.tar.gz": UNPACKED,
    "tar -xf wheel-0.48.0.tar.gz": UNPACKED,
    "cd path-17.1.1": UNPACKED,
    "cd installer-1.1.0": UNPACKED,
    "cd wheel-0.48.0": UNPACKED,
    "pytest --linkmode-tmp=btrfs tests": UNPACKED,
    "pytest --linkmode-tmp=xfs tests": UNPACKED,
    "docker run --tmpfs /scratch --volume cache:/cache IMAGE pytest --linkmode-fs=disk,shm,tmpfs "
    "--linkmode-dir=tmpfs=/scratch": CONTAINER,
    "docker run --volume /srv/btrfs/scratch:/scratch IMAGE pytest --linkmode-dir=btrfs=/scratch "
    "--linkmode-fs=btrfs": CONTAINER,
    "docker run --cap-add SYS_ADMIN --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --device /dev/loop-control "
    "--device-cgroup-rule 'b 7:* rmw' IMAGE pytest --linkmode-fs=btrfs,xfs": CONTAINER,
    f"{CONFORMANCE} --linkmode-linker='mine --mode {{mode}} {{source}} {{target}}'": MINUTES,
    "./scripts/run-matrix": MINUTES,
    "./scripts/run-matrix --help": MINUTES,
    "./scripts/run-matrix --layout btrfs,btrfs+subvolume,btrfs:tmpfs,xfs,xfs+bind,ext4,tmpfs": (
        MINUTES
    ),
    "./scripts/run-matrix --installers --markdown docs/installers.md "
    "--cells docs/installers.json": MINUTES,
    "python -m benchmarks.linker": MINUTES,
    "python -m benchmarks.faults": MINUTES,
    "python -m benchmarks.fresh": MINUTES,
    "python -m benchmarks.interleave": MINUTES,
    "python -m scripts.layout_docs": MINUTES,
    "python -m scripts.uv_races": MINUTES,
    "pytest tests/pytest_linkmode/interleave --linkmode-budget=20000": MINUTES,
    "./scripts/run-tests": SUITE,
    "tox run -e py313": SUITE,
    "python -m pytest tests/pytest_linkmode/models/test_clonefile_contract.py": OTHERS,
    "python -m pytest tests/pytest_linkmode/models/test_log2phys_contract.py": OTHERS,
    "CLONEFILE_SECOND_VOLUME=/Volumes/hfs python -m pytest "
    "tests/pytest_linkmode/models/test_clonefile_contract.py": OTHERS,
    "python -m pytest tests/windows": OTHERS,
    "set LINKMODE_DIR_REFS=R:\\& python -m pytest tests/windows/test_block_clones.py "
    "tests/windows/test_pointers.py": OTHERS,
    "linkmode mount btrfs DIR": MACHINE,
    "towncrier build --draft": RELEASE,
    "towncrier build --yes": RELEASE,
}
"""Command -> why no test types it; its options are looked up all the same."""
