"""`linkmode explain`: a policy's graph, or what its system would do in a layout, under a fault.

The graph is shown as it is. With ``--layout`` the reference linker links the sample tree there by
that policy, on real filesystems and with the faults asked for in its own calls; what became of the
files is read back from disk, and every edge that was taken is told.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from linker.cli import Status, tell, tell_json
from linker.failures import printable
from linker.modes import LinkMode
from pytest_linkmode.commands.words import Paint, aligned, policy_name
from pytest_linkmode.errors import UsageError

if TYPE_CHECKING:
    from linker.policy import Policy
    from linker.report import Transition
    from pytest_linkmode.happening import Happening

SHOWN = 12
"""How many edges and names are shown to people; JSON has them all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Say what `linkmode explain` takes."""
    from linker.policies import ALIASES, ALL

    names = [*ALL, *ALIASES]
    parser.add_argument("policy", metavar="POLICY", type=policy_name, help=", ".join(names))
    parser.add_argument("--platform", metavar="NAME", help="default: the one this runs on")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--dot", action="store_true", help="the graph for Graphviz")
    form.add_argument("--mermaid", action="store_true", help="the graph for Markdown")
    form.add_argument("--json", action="store_true", help="the graph, or what happened, as data")
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help="link the sample tree there by the policy, and say what happens, as in btrfs:ext4",
    )
    parser.add_argument(
        "--mode", metavar="MODE", help="in this mode; default: the one that the system prefers"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="SPEC",
        help="with this fault, as in clone:EAGAIN:nth=3; may be repeated",
    )
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> Status:
    from linker.policies import ALL

    policy = ALL[arguments.policy]
    if arguments.layout is None:
        if arguments.mode or arguments.fault:
            raise UsageError(
                "--mode and --fault say what is done in a layout",
                hint="name one, as in --layout btrfs:ext4",
            )
        return _show_graph(policy, arguments)
    if arguments.platform:
        raise UsageError(
            "--platform says whose graph is shown, and --layout what happens on this machine",
            hint="leave one of them away",
        )
    if arguments.dot or arguments.mermaid:
        raise UsageError(
            "--layout shows what happens, not a graph", hint="leave --dot and --mermaid away"
        )
    return _show_happening(policy, arguments)


# --- the graph ----------------------------------------------------------------------------------


def _show_graph(policy: Policy, arguments: argparse.Namespace) -> Status:
    from pytest_linkmode import graphs
    from pytest_linkmode.capabilities import PLATFORMS
    from pytest_linkmode.config import suggestion

    known = policy.platforms()
    platform = arguments.platform or PLATFORMS.get(sys.platform, "")
    if platform not in known and arguments.platform:
        raise UsageError(
            f"{policy.name} says nothing of the platform {platform!r}",
            hint=suggestion(platform, known),
        )
    platform = platform if platform in known else known[0]
    if arguments.json:
        tell_json(graphs.plain(policy, platform))
    elif arguments.dot:
        tell(graphs.dot(policy, platform))
    elif arguments.mermaid:
        tell(graphs.mermaid(policy, platform))
    else:
        paint = Paint.of_stdout()
        tell(paint.bold(f"{policy.name} on {platform}"))
        tell("\n".join(f"- {fact}" for fact in graphs.facts(policy, platform)) + "\n")
        tell("\n".join(aligned(graphs.table(policy, platform), paint)))
    return Status.DONE


# --- what happens -------------------------------------------------------------------------------


def _show_happening(policy: Policy, arguments: argparse.Namespace) -> Status:
    from pytest_linkmode import config, layouts, namespaces
    from pytest_linkmode.faults.spec import parse_all
    from pytest_linkmode.happening import happening
    from pytest_linkmode.samples import sample_tree

    try:
        mode = LinkMode.parse(arguments.mode) if arguments.mode else policy.default_on("linux")
    except ValueError as error:
        raise UsageError(str(error)) from None
    faults = parse_all(arguments.fault)
    spec = layouts.parse(arguments.layout)
    place = namespaces.find_place()
    with closing(layouts.Workshop(place, config.from_environment())) as workshop:
        layout = workshop.layout(spec)
        sample_tree(layout.source)
        seen = happening(policy, layout, mode, faults)
        layout.close()
    if arguments.json:
        tell_json(seen.plain())
    else:
        tell("\n".join(_lines(seen)))
    return Status.DONE


def _lines(seen: Happening) -> list[str]:
    """Return a happening as people read it."""
    paint = Paint.of_stdout()
    with_faults = f", with {', '.join(seen.faults)}" if seen.faults else ""
    files = ", ".join(f"{count} {what}" for what, count in seen.found.items()) or "none"
    if seen.missing:
        files += f"; {seen.missing} missing"
    head = f"{seen.policy} on {seen.layout}, asked for {seen.requested}{with_faults}"
    rows: list[tuple[str, str]] = [("files", files)]
    if seen.faults:
        rows.append(("faults", f"{seen.fired or 'no'} call{'' if seen.fired == 1 else 's'} hit"))
    edges = seen.transitions
    rows += [
        ("edges taken" if number == 0 else "", _edge(each))
        for number, each in enumerate(edges[:SHOWN])
    ]
    if not edges:
        rows.append(("edges taken", "none"))
    elif len(edges) > SHOWN:
        rows.append(("", f"... and {len(edges) - SHOWN} more"))
    for number, line in enumerate((seen.error or seen.ended).splitlines()):
        rows.append(("ended" if number == 0 else "", line))
    rows.append(("left", ", ".join(map(printable, seen.left[:SHOWN])) or "nothing of its own"))
    table = aligned([("", ""), *rows], paint)[1:]
    return [paint.bold(head), "", *table]


def _edge(transition: Transition) -> str:
    because = f", {transition.error.strerror}" if transition.error else ""
    return f"{transition.edge} ({printable(transition.path)}{because}; {transition.scope})"
