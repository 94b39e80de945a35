"""What uv does when the clone of one file fails: first, in the middle, last; as a table.

This is how a real program is examined with faults: learn its calls, name one file, let it fail.
What uv does is an observation, with its version, and no business of this suite: where it does
something else than was last observed the test is an expected failure that says what.
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
    **{f"first {error}": "installs: 7 hardlink" for error in ERRORS},
    **{f"middle {error}": "ends with 2: 3 clone, 4 missing, no RECORD" for error in ERRORS},
    **{f"last {error}": "ends with 2: 7 clone, no RECORD" for error in ERRORS},
}
"""The file that fails -> what uv did, and what of the seven files it left.

The first failure moves the whole wheel on to hard links, whatever the error; later ones, also those
that only mean "not now" (EAGAIN, as ZFS says it), end the installation with a half-made tree.
"""


class Uv:
    """uv with a cache, a wheel in it, and one thread: it makes the same calls every time."""

    def __init__(self, place: pathlib.Path) -> None:
        self._place = place
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
                *(uv.find_uv_bin(), "pip", "install", "--offline", "--no-config", "--no-index"),
                *("--link-mode", "clone", "--python", sys.executable, "--target", target),
                self._wheel,
            ],
            env={**kept, **dict.fromkeys(threads, "1"), "UV_CACHE_DIR": str(self._place / "cache")},
            faults=faults,
            log=("clone", "hardlink", "copy"),
        )
        return run, target

    def cached(self, name: str) -> str:
        """Return where the cache has a file."""
        (found,) = (self._place / "cache" / "archive-v0").glob(f"*/{name}")
        return str(found)


def told(uv_: Uv, run: Run, target: pathlib.Path) -> str:
    """Return in a few words what uv did and what it left."""
    modes: dict[str, int] = {}
    for name in FILES:
        if (target / name).exists():
            mode = evidence(uv_.cached(name), target / name).mode
            word = str(mode) if mode else "independent"
            modes[word] = modes.get(word, 0) + 1
    left = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items())) or "nothing"
    recorded = (target / "seven-1.0.dist-info" / "RECORD").exists()
    end = "installs" if run.returncode == 0 else f"ends with {run.returncode}"
    missing = len(FILES) - sum(modes.values())
    if missing:
        left += f", {missing} missing"
    return f"{end}: {left}" + ("" if recorded else ", no RECORD")


@pytest.mark.linkmode(fs=["btrfs"], needs={"reflink"})
def test_the_table(linkmode_fs: Any, faultable: None, record_property: Any) -> None:
    program = Uv(linkmode_fs.path)
    version = program.runner.run([uv.find_uv_bin(), "--version"]).stdout
    program.install()  # fills the cache
    plain, target = program.install()
    assert told(program, plain, target) == "installs: 7 clone"
    order = [os.path.relpath(call.path, target) for call in plain.of("clone")]
    ours = [name for name in order if name in FILES]
    assert sorted(ours) == FILES

    found: dict[str, str] = {}
    for place, index in PLACES.items():
        for error in ERRORS:
            fault = Fault("clone", error, path=f"*/{order[index]}")
            run, target = program.install(fault)
            assert run.fired[fault] >= 1
            assert run.escapes == ()
            hit = [call for call in run.calls if call.fault]
            assert {os.path.basename(call.path) for call in hit} == {os.path.basename(order[index])}
            found[f"{place} {error}"] = told(program, run, target)

    table = "\n".join(f"{which:20} {what}" for which, what in found.items())
    record_property("linkmode_uv", f"{version.strip()}\n{table}")
    if found != OBSERVED:
        changed = [f"{which}: {what}" for which, what in found.items() if OBSERVED[which] != what]
        pytest.xfail(f"{version.strip()} is not what {VERSION} was: " + "; ".join(changed))
