"""What uv does when the clone of one file fails: first, in the middle, last; as a table.

This is how a real program is examined with faults: learn its calls, name one file, let it fail.
What uv does is an observation, with its version, and no business of this suite: where it does
something else than was last observed, in whatever way, the test is an expected failure that says
what.
"""

from __future__ import annotations

import os
import pathlib
import sys
import zipfile
from typing import Any

import pytest
import uv

from pytest_linkmode.evidence import evidence
from pytest_linkmode.faults import Fault, FaultRunner, Run

VERSION = "uv 0.13.8"
FILES = [f"seven/m{number}.py" for number in range(7)]
PLACES = {"first": 0, "middle": 3, "last": -1}
ERRORS = ("EOPNOTSUPP", "EAGAIN", "EXDEV")

OBSERVED = {
    "no fault": "installs: 7 clone",
    "clones": ", ".join(FILES),
    **{f"first {error}": "installs: 7 hardlink" for error in ERRORS},
    **{f"middle {error}": "ends with 2: 3 clone, 4 missing, no RECORD" for error in ERRORS},
    **{f"last {error}": "ends with 2: 7 clone, no RECORD" for error in ERRORS},
}
"""The file that fails -> what uv did, and what of the seven files it left; before that, what it
does undisturbed, and the files that it clones.

The first failure moves the whole wheel on to hard links, whatever the error; later ones, also those
that only mean "not now" (EAGAIN, as ZFS says it), end the installation with a half-made tree.
"""


class Uv:
    """uv with a cache, a wheel in it, and one thread: it makes the same calls every time."""

    def __init__(self, place: pathlib.Path, binary: str) -> None:
        self._place = place
        self.binary = binary
        self._wheel = str(place / "seven-1.0-py3-none-any.whl")
        with zipfile.ZipFile(self._wheel, "w") as wheel:
            for number, name in enumerate(FILES):
                wheel.writestr(name, f"number = {number}\n" * 2000)
            about = "seven-1.0.dist-info"
            wheel.writestr(
                f"{about}/METADATA", "Metadata-Version: 2.1\nName: seven\nVersion: 1.0\n"
            )
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in FILES))
        self.runner = FaultRunner()
        self._installs = 0

    def install(self, *faults: Fault) -> tuple[Run, pathlib.Path]:
        """Install into a new environment."""
        self._installs += 1
        target = self._place / f"target-{self._installs}"
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        threads = ("UV_CONCURRENT_INSTALLS", "RAYON_NUM_THREADS", "TOKIO_WORKER_THREADS")
        run = self.runner.run(
            [
                *(self.binary, "pip", "install", "--offline", "--no-config", "--no-index"),
                *("--link-mode", "clone", "--python", sys.executable, "--target", target),
                self._wheel,
            ],
            env={**kept, **dict.fromkeys(threads, "1"), "UV_CACHE_DIR": str(self._place / "cache")},
            faults=faults,
            log=("clone", "hardlink", "copy"),
        )
        return run, target

    def cached(self, name: str) -> str | None:
        """Return where the cache has a file, or None if it is not where it was."""
        found = [*(self._place / "cache" / "archive-v0").glob(f"*/{name}")]
        return str(found[0]) if len(found) == 1 else None


def told(uv_: Uv, run: Run, target: pathlib.Path) -> str:
    """Return in a few words what uv did and what it left."""
    modes: dict[str, int] = {}
    for name in FILES:
        if (target / name).exists():
            cached = uv_.cached(name)
            mode = evidence(cached, target / name).mode if cached else None
            word = str(mode) if mode else "independent" if cached else "not cached"
            modes[word] = modes.get(word, 0) + 1
    left = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items())) or "nothing"
    recorded = (target / "seven-1.0.dist-info" / "RECORD").exists()
    end = "installs" if run.returncode == 0 else f"ends with {run.returncode}"
    missing = len(FILES) - sum(modes.values())
    if missing:
        left += f", {missing} missing"
    escaped = f", escapes: {'; '.join(run.escapes)}" if run.escapes else ""
    return f"{end}: {left}" + ("" if recorded else ", no RECORD") + escaped


def table(program: Uv) -> dict[str, str]:
    """Return what the program does, in the rows of `OBSERVED`."""
    program.install()  # fills the cache
    plain, target = program.install()
    order = [os.path.relpath(call.path, target) for call in plain.of("clone")]
    found = {
        "no fault": told(program, plain, target),
        "clones": ", ".join(sorted(name for name in order if name in FILES)) or "none",
    }
    for place, index in PLACES.items():
        for error in ERRORS:
            which = f"{place} {error}"
            if len(order) < len(FILES):
                found[which] = f"makes {len(order)} clones"
                continue
            fault = Fault("clone", error, path=f"*/{order[index]}")
            run, target = program.install(fault)
            hit = [call for call in run.calls if call.fault]
            assert len(hit) == run.fired.get(fault, 0)
            assert all(fault.matches(call.paths, 1) for call in hit)
            found[which] = told(program, run, target) if hit else "does not clone it again"
    return found


def changed(found: dict[str, str]) -> list[str]:
    """Return the rows that are not as they were observed."""
    return [f"{which}: {what}" for which, what in found.items() if OBSERVED[which] != what]


@pytest.mark.linkmode(fs=["btrfs"], needs={"reflink"})
def test_the_table(linkmode_fs: Any, faultable: None, record_property: Any) -> None:
    program = Uv(linkmode_fs.path, uv.find_uv_bin())
    version = program.runner.run([program.binary, "--version"]).stdout.strip()
    found = table(program)
    assert found.keys() == OBSERVED.keys()
    rows = "\n".join(f"{which:20} {what}" for which, what in found.items())
    record_property("linkmode_uv", f"{version}\n{rows}")
    if changed(found):
        pytest.xfail(f"{version} is not what {VERSION} was: " + "; ".join(changed(found)))


CHANGED = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/seven" && echo x > "$2/seven/m0.py"
exit 5
"""
"""Something that takes the same options, and does nothing of what uv does."""


def test_a_program_that_does_everything_differently_is_a_changed_table(
    tmp_path: pathlib.Path, faultable: None
) -> None:
    binary = tmp_path / "changed"
    binary.write_text(CHANGED)
    binary.chmod(0o755)
    found = table(Uv(tmp_path, str(binary)))
    assert found.keys() == OBSERVED.keys()
    assert found["no fault"] == "ends with 5: 1 not cached, 6 missing, no RECORD"
    assert len(changed(found)) == len(OBSERVED)
    assert found["clones"] == "none"
    assert found["first EXDEV"] == "makes 0 clones"
