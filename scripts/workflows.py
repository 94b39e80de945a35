"""Checks the workflows and the action: against their published schemas, and by a security linter.

Both tools come from the dependency group `lint` and need no network: the schemas are those that
check-jsonschema carries, and zizmor runs offline.
"""

from __future__ import annotations

import glob
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

SCHEMAS = {
    "vendor.github-workflows": ".github/workflows/*.yml",
    "vendor.github-actions": "action.yml",
    "vendor.dependabot": ".github/dependabot.yml",
}
"""Schema -> the files that must keep to it."""


def main() -> int:
    """Run every check, also after one has failed; return 1 if one has."""
    programs = os.path.dirname(sys.executable)
    commands = [
        [
            *(os.path.join(programs, "check-jsonschema"), "--quiet", "--builtin-schema", schema),
            *sorted(glob.glob(pattern, root_dir=ROOT)),
        ]
        for schema, pattern in SCHEMAS.items()
    ]
    zizmor = os.path.join(programs, "zizmor")
    commands.append([zizmor, "--offline", "--quiet", "--persona=auditor", "."])
    ended = [subprocess.run(command, cwd=ROOT, check=False).returncode for command in commands]
    return int(any(ended))


if __name__ == "__main__":
    sys.exit(main())
