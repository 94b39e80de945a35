# shellcheck shell=bash
# Sourced by the entry points: finds a Python, makes the environment, names its interpreter.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# shellcheck disable=SC2034  # used by those who source this
environment_python="$root/.linkmode/venv/bin/python"
# Hundreds of tests start a Python of their own: compiled modules are kept, whatever the machine says.
unset PYTHONDONTWRITEBYTECODE

# Print the first Python from 3.11 on, LINKMODE_PYTHON before all others.
find_python() {
    local candidate
    for candidate in ${LINKMODE_PYTHON:+"$LINKMODE_PYTHON"} \
        python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    cat >&2 <<'TEXT'
error: no Python from 3.11 on was found.
Checked: LINKMODE_PYTHON, python3, python3.14 to python3.11.
To fix this, install one (Debian and Ubuntu: apt-get install python3; Fedora: dnf install python3;
Arch: pacman -S python; Alpine: apk add python3), or name one in LINKMODE_PYTHON.
TEXT
    return 1
}

# Prepare the machine and the environment for a purpose: matrix, tests.
bootstrap() {
    local python
    python="$(find_python)"
    "$python" "$root/scripts/bootstrap.py" "$@"
}
