"""What is installed: one package with nothing in it that a disk could not prove anything by.

Every file has bytes of its own, so that it is known again wherever a cache keeps it, and is larger
than what filesystems keep among their metadata. The same files make a wheel, an npm package, and a
plain tree.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Mapping

NAME, VERSION = "linkmode-sample", "1.0.0"
PACKAGE = "linkmode_sample"
INFO = f"{PACKAGE}-{VERSION}.dist-info"
WHEEL = f"{PACKAGE}-{VERSION}-py3-none-any.whl"
TARBALL = f"{NAME}-{VERSION}.tgz"
EXECUTABLE = "tool.js"
TIME = (2024, 2, 29, 12, 30, 58)
SECONDS = 1_709_209_858
LARGE = 20_000

Files = Mapping[str, tuple[bytes, int]]
"""Relative path -> bytes and permission bits."""


def _noise(name: str, size: int = LARGE) -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


def _parts() -> dict[str, tuple[bytes, int]]:
    parts = {f"part-{number}.js": (_noise(str(number)), 0o644) for number in range(6)}
    tool = b"#!/bin/sh\n#" + _noise("tool").hex().encode() + b"\n"
    return {**parts, EXECUTABLE: (tool, 0o755)}


def wheel_files() -> Files:
    """Return the files that a wheel's installer links, as paths below site-packages."""
    metadata = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n\n".encode()
    wheel = b"Wheel-Version: 1.0\nGenerator: linkmode\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    padding = b"X-Padding: " + _noise("wheel", LARGE // 2).hex().encode() + b"\n"
    return {
        **{f"{PACKAGE}/{name}": entry for name, entry in _parts().items()},
        f"{INFO}/METADATA": (metadata + _noise("metadata", LARGE // 2).hex().encode(), 0o644),
        f"{INFO}/WHEEL": (wheel + padding, 0o644),
    }


def package_files() -> Files:
    """Return the files of the npm package, as paths below its own directory."""
    described = {"name": NAME, "version": VERSION, "description": _noise("json", 5000).hex()}
    return {"package.json": (json.dumps(described).encode(), 0o644), **_parts()}


def write_wheel(directory: str) -> str:
    """Write the wheel; return its path."""
    path = os.path.join(directory, WHEEL)
    lines = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, (content, bits) in wheel_files().items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = (stat.S_IFREG | bits) << 16
            archive.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            lines.append(f"{name},sha256={digest.rstrip('=')},{len(content)}\n")
        lines.append(f"{INFO}/RECORD,,\n")
        archive.writestr(zipfile.ZipInfo(f"{INFO}/RECORD", TIME), "".join(lines))
    return path


def write_tarball(directory: str) -> str:
    """Write the npm package; return its path."""
    path = os.path.join(directory, TARBALL)
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, (content, bits) in package_files().items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size, entry.mode, entry.mtime = len(content), bits, SECONDS
            archive.addfile(entry, io.BytesIO(content))
    with open(path, "wb") as file:
        file.write(gzip.compress(plain.getvalue(), mtime=SECONDS))
    return path


def write_tree(directory: str, files: Files) -> None:
    """Write the files as they are, with their permission bits and a time in the past."""
    for name, (content, bits) in files.items():
        path = os.path.join(directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, bits)
        os.utime(path, (SECONDS, SECONDS))


def digest(path: str) -> str:
    """Return what a file is known by."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(files: Files) -> Mapping[str, str]:
    """Return digest -> relative path of the files."""
    return {hashlib.sha256(content).hexdigest(): name for name, (content, _) in files.items()}
