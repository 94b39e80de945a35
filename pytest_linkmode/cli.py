"""The `linkmode` command: what the plugin and the reference linker know, for shells.

Each subcommand asks one room of the house and prints the answer, as words for people or, with
``--json``, as data for scripts. Exit statuses answer for both: 0 is yes or done, 1 is no or failed.
"""

from __future__ import annotations

import argparse
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linker import cli as linker_cli
from linker.cli import Status, tell, tell_json
from linker.failures import printable
from linker.inputs import check_paths
from linker.modes import LinkMode
from pytest_linkmode.commands import doctor as commands_doctor
from pytest_linkmode.commands import explain as commands_explain
from pytest_linkmode.commands import matrix as commands_matrix
from pytest_linkmode.commands import merge as commands_merge
from pytest_linkmode.commands import mount as commands_mount
from pytest_linkmode.commands import run as commands_run
from pytest_linkmode.commands.words import Paint, add_json, aligned, policy_name
from pytest_linkmode.errors import LinkmodeError, Unavailable, UsageError

if TYPE_CHECKING:
    from linker.policy import Policy
    from pytest_linkmode.capabilities import Capabilities
    from pytest_linkmode.evidence import Evidence

PROBED = ("reference", "uv", "pnpm", "bun")
"""The policies whose outcomes `probe` shows where nobody asks for others."""

STATUSES = {
    Status.USAGE: "wrong usage: nothing was done",
    Status.UNTOLD: "done, but what is to be told could not be written",
    Status.INTERRUPTED: "interrupted",
}
"""What these exit statuses mean, whatever the command."""


def statuses(done: str, failed: str) -> str:
    """Return how a command ends, as the last lines of its help."""
    said = {Status.DONE: done, Status.FAILED: failed, **STATUSES}
    return "exit status:\n" + "".join(f"  {each:<3}  {words}\n" for each, words in said.items())


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that breaks no name of a policy in two."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


@dataclass(frozen=True)
class Command:
    """One subcommand: a row of the table at the end. `ends` is the end of its help."""

    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    ends: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run `linkmode` with these arguments; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="linkmode",
        description="Test every link mode on every filesystem, and prove what really happened.",
        epilog=statuses("done; yes", "failed; no") + "\nlinkmode COMMAND --help says more of each.",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        below = subparsers.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=command.ends,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        command.configure(below)
    arguments = parser.parse_args(argv)
    try:
        return linker_cli.run(arguments)
    except LinkmodeError as error:
        linker_cli.tell_error(
            arguments, _plain_error(error), map(printable, str(error).splitlines())
        )
        return Status.USAGE if isinstance(error, UsageError) else Status.FAILED


def _plain_error(error: LinkmodeError) -> dict[str, Any]:
    plain: dict[str, Any] = {"what": error.what, "why": error.why, "hint": error.hint}
    if isinstance(error, Unavailable):
        plain |= {"checked": list(error.checked), "mends": list(error.mends)}
    return plain


# --- verify -------------------------------------------------------------------------------------


def _configure_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mode", metavar="MODE", help="clone (or reflink), hardlink, symlink, copy")
    parser.add_argument("source", metavar="SOURCE", help="a file or a directory")
    parser.add_argument("target", metavar="TARGET", help="what became of it")
    parser.add_argument(
        "--mutable",
        action="append",
        default=[],
        metavar="GLOB",
        help="files that must be copies whatever the mode; may be repeated",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="GLOB",
        help="names that are not looked at on either side; may be repeated",
    )
    add_json(parser)
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> Status:
    from pytest_linkmode.assertions import LinkAssertionError, assert_linked

    try:
        proven = assert_linked(
            arguments.source,
            arguments.target,
            arguments.mode,
            mutable=arguments.mutable,
            ignore=arguments.ignore,
        )
    except LinkAssertionError as wrong:
        if arguments.json:
            tell_json(
                {
                    "format": "linkmode-verify",
                    "version": 1,
                    "linked": False,
                    "wrong": [
                        {
                            "path": row.path,
                            "expected": row.expected,
                            "found": row.found,
                            "proof": row.proof,
                            "why": row.why,
                        }
                        for row in wrong.rows
                    ],
                }
            )
        else:
            tell(str(wrong))
        return Status.FAILED
    if not (proven.files or proven.symlinks):
        raise UsageError(
            f"nothing was verified: {printable(arguments.target)} has no file and no symlink",
            why="directories alone do not show how they were linked",
            hint="link something into them",
        )
    if arguments.json:
        tell_json(
            {
                "format": "linkmode-verify",
                "version": 1,
                "linked": True,
                "mode": proven.mode.value,
                "files": proven.files,
                "directories": proven.directories,
                "symlinks": proven.symlinks,
                "modes": dict(proven.modes),
                "proofs": dict(proven.proofs),
            }
        )
        return Status.DONE
    modes = ", ".join(f"{number} {mode}" for mode, number in proven.modes.items())
    proofs = ", ".join(f"{number} by {proof}" for proof, number in proven.proofs.items())
    tell(f"{proven.mode}: {proven.files} files" + (f" ({modes}), proven {proofs}" if modes else ""))
    return Status.DONE


# --- probe --------------------------------------------------------------------------------------


def _configure_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a directory")
    parser.add_argument("target", metavar="TARGET", help="a directory that can be written to")
    parser.add_argument(
        "--policy",
        action="append",
        metavar="POLICY",
        type=lambda text: text if text == "all" else policy_name(text),
        default=[],
        help="whose fallbacks to follow: a name that `linkmode explain --help` lists, or 'all'; "
        "may be repeated; default: " + ", ".join(PROBED),
    )
    add_json(parser)
    parser.set_defaults(run=_probe)


def _probe(arguments: argparse.Namespace) -> Status:
    from linker.policies import ALL
    from pytest_linkmode.capabilities import probe

    check_paths(source=arguments.source, target=arguments.target)
    source, target = os.path.abspath(arguments.source), os.path.abspath(arguments.target)
    for what, path in (("source", source), ("target", target)):
        if not os.path.isdir(path):
            raise UsageError(
                f"the {what} {path!r} is no directory", hint="name one that is there already"
            )
    names = ALL if "all" in arguments.policy else arguments.policy or PROBED
    policies = [ALL[name] for name in names]
    try:
        with ExitStack() as stack:
            sample = _sample(stack, source)
            can = probe(source, target, sample=sample)
            proofs = {mode: _prove(stack, mode, sample, target) for mode in LinkMode}
    except OSError as error:
        raise LinkmodeError(
            "cannot probe", why=str(error), hint="both directories must be readable and writable"
        ) from error
    if arguments.json:
        tell_json(_plain_probe(source, target, can, proofs, policies))
        return Status.DONE
    lines: list[tuple[str, ...]] = [
        ("mode", "what happens", "proof", *(f"by {policy.name}" for policy in policies))
    ]
    for mode in LinkMode:
        found = proofs[mode]
        proof = "" if found is None else f"{found.found}: {found.proof}"
        ends = (can.outcome(mode, policy).mode for policy in policies)
        lines.append((str(mode), _fate(can, mode), proof, *(str(end or "error") for end in ends)))
    paint = Paint.of_stdout()
    tell("\n".join(aligned(lines, paint, {"works": paint.green})))
    tell(f"\ncapabilities: {can}")
    return Status.DONE


def _sample(stack: ExitStack, directory: str) -> str:
    """Return a file of the source to try everything with: a new one, else one that is there.

    Raises OSError if neither can be had.
    """
    import secrets

    from pytest_linkmode.capabilities import SAMPLE_SIZE

    path = os.path.join(directory, f"linkmode-probe-{secrets.token_hex(6)}")
    try:
        with open(path, "xb") as file:
            stack.callback(os.unlink, path)
            file.write(secrets.token_bytes(SAMPLE_SIZE))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        for parent, _, names in os.walk(directory):
            for name in names:
                there = os.path.join(parent, name)
                if os.path.isfile(there) and os.stat(there).st_size >= SAMPLE_SIZE:
                    return there
        raise
    return path


def _prove(stack: ExitStack, mode: LinkMode, sample: str, target: str) -> Evidence | None:
    """Link the sample in a mode, and return what the disk says of that; None where it fails."""
    import secrets

    from linker import LinkError, link_file
    from pytest_linkmode.evidence import evidence

    made = os.path.join(target, f"linkmode-probe-{secrets.token_hex(6)}")
    try:
        link_file(sample, made, mode=mode, strict=True)
    except LinkError:
        return None
    stack.callback(os.unlink, made)
    return evidence(sample, made)


def _fate(can: Capabilities, mode: LinkMode) -> str:
    from linker.policy import PRIMITIVES

    condition = can.results[PRIMITIVES[mode]]
    return "works" if condition is None else str(condition)


def _plain_probe(
    source: str,
    target: str,
    can: Capabilities,
    proofs: Mapping[LinkMode, Evidence | None],
    policies: Sequence[Policy],
) -> dict[str, Any]:
    def plain_mode(mode: LinkMode) -> dict[str, Any]:
        found = proofs[mode]
        outcomes = {policy.name: can.outcome(mode, policy) for policy in policies}
        return {
            "happens": _fate(can, mode),
            "found": found.found if found else None,
            "proof": found.proof.value if found else None,
            "why": found.why if found else None,
            "policies": {
                name: {
                    "mode": outcome.mode.value if outcome.mode else None,
                    "edges": [edge.id for edge in outcome.edges],
                }
                for name, outcome in outcomes.items()
            },
        }

    return {
        "format": "linkmode-probe",
        "version": 1,
        "source": source,
        "target": target,
        "platform": can.platform,
        "capabilities": {name: {"held": name in can, "why": why} for name, why in can.why.items()},
        "modes": {mode.value: plain_mode(mode) for mode in LinkMode},
    }


# --- clean --------------------------------------------------------------------------------------


def _configure_clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed")
    add_json(parser)
    parser.set_defaults(run=_clean)


def _clean(arguments: argparse.Namespace) -> Status:
    from pytest_linkmode.filesystems import registry

    findings = registry.clean(dry_run=arguments.dry_run)
    kept = any(finding.action == registry.KEPT for finding in findings)
    if arguments.json:
        tell_json(
            {
                "format": "linkmode-clean",
                "version": 1,
                "dry_run": arguments.dry_run,
                "findings": [
                    {
                        "step": finding.step,
                        "path": finding.path,
                        "pid": finding.pid,
                        "action": finding.action,
                        "why": finding.why,
                    }
                    for finding in findings
                ],
            }
        )
        return Status.FAILED if kept else Status.DONE
    lines: list[tuple[str, ...]] = [("what", "of process", "path", "")]
    for finding in findings:
        action = "would be undone" if finding.action == registry.FOUND else finding.action
        why = f"{action}: {finding.why}" if finding.why else action
        lines.append((finding.step, str(finding.pid), printable(finding.path), printable(why)))
    if findings:
        tell("\n".join(aligned(lines, Paint.of_stdout())))
    else:
        tell("nothing was left behind")
    return Status.FAILED if kept else Status.DONE


COMMANDS = (
    Command(
        "doctor",
        "what this machine can make, and what would add more",
        commands_doctor.configure,
        statuses("all that was named can be had", "something that was named cannot be had"),
    ),
    Command(
        "probe",
        "what can be done between two directories",
        _configure_probe,
        statuses("found out", "nothing can be found out there"),
    ),
    Command(
        "verify",
        "whether a target is linked in a mode, proven from disk",
        _configure_verify,
        statuses("proven: it is", "it is not, or that cannot be proven"),
    ),
    Command(
        "explain",
        "the fallback graph of a policy, or what it leads to in a layout",
        commands_explain.configure,
        statuses("shown, whatever happened in the layout", "the layout cannot be had here"),
    ),
    Command(
        "link",
        "link a tree with the reference linker",
        linker_cli.configure_link,
        linker_cli.STATUSES,
    ),
    Command(
        "add",
        "put the files of a directory into a store",
        linker_cli.configure_add,
        linker_cli.STATUSES_OF_ADDING,
    ),
    Command(
        "run",
        "run a command with filesystems of its own",
        commands_run.configure,
        commands_run.EPILOG,
    ),
    Command(
        "mount",
        "mount a filesystem on a directory",
        commands_mount.configure,
        statuses("mounted", "it cannot be had, or not there"),
    ),
    Command(
        "merge",
        "the reports of many runs as one, held against a list",
        commands_merge.configure,
        statuses(
            "every run was green, and all that was asked for is verified",
            "not so; everything was written all the same",
        ),
    ),
    Command(
        "matrix",
        "what real installers do, against their policies",
        commands_matrix.configure,
        statuses("every outcome is as expected", "one is not"),
    ),
    Command(
        "clean",
        "undo what a killed run left on this machine",
        _configure_clean,
        statuses(
            "nothing is left; with --dry-run: all that is can be undone",
            "something could not be undone",
        ),
    ),
)
"""Every subcommand, in the order in which they are shown."""
