"""The ``tickmesh`` command and its subcommands. Heavy imports happen inside the subcommand."""

from __future__ import annotations

import argparse
import os
import re
import sys

from tickmesh import __version__
from tickmesh.domain.errors import ConfigError, TickmeshError


def seconds(text: str) -> float:
    """Parse ``30``, ``30s``, ``5m`` or ``1h``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 30s, 5m or 1h")
    return float(match[1]) * {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[match[2]]


EPILOG = """\
exit codes:
  0  done
  1  the system is not running, or it refused
  2  a wrong argument or configuration key; the sentence names it
  3  a resume that waits for its second step
  130  interrupted

Every configuration key is an environment variable: `tickmesh config` lists them all.
"""


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options; the pages that name one are held to it."""
    parser = argparse.ArgumentParser(
        prog="tickmesh",
        description="High-frequency trading for crypto futures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    up = commands.add_parser("up", help="start every service on this machine")
    up.add_argument("--for", dest="for_s", type=seconds, metavar="30s", help="stop after this long")
    up.add_argument("--replay", metavar="FILE", help="replay a market data capture instead of the synthetic market")
    up.add_argument("--replay-speed", type=float, metavar="X", help="1 is the capture's own pace, 0 flat out")
    up.add_argument("--strategy", metavar="FILE", help="Strategy resources: a YAML file or a directory")
    up.add_argument("--transport", choices=("nats", "shm"), help="what carries ticks to strategies")
    up.add_argument("--fused", action="store_true", help="feed, strategy and execution in one process")
    up.add_argument("--data-dir", metavar="DIR", help="where state is kept between runs (default .data)")
    up.add_argument("--json", action="store_true", help="the last line printed is a summary as JSON")
    up.add_argument("--free-ports", action="store_true", help="choose free ports instead of the fixed ones")
    run = commands.add_parser("run", help="run one service in this process")
    run.add_argument("service")
    status = commands.add_parser("status", help="what the running system is doing")
    status.add_argument("--json", action="store_true", help="print the whole picture as JSON")
    status.add_argument("--watch", action="store_true", help="again every second")
    status.add_argument("--url", help="gateway to ask (default: the configured one)")
    _add_commands(commands)
    _add_risk_commands(commands)
    config = commands.add_parser("config", help="every configuration key, its unit, range, default, reason and value")
    config.add_argument("only", nargs="?", default="", metavar="WORD", help="only keys whose name contains this")
    config.add_argument("--yaml", action="store_true", help="print a configuration file")
    layout = commands.add_parser("layout", help="compare what JetStream holds with what is declared; --apply corrects")
    layout.add_argument("--apply", action="store_true", help="make what is missing, correct what drifted; safe again")
    layout.add_argument("--json", action="store_true", help="print as JSON")
    bench = commands.add_parser("bench", help="measure this machine, ours and others' code on the same real data")
    bench.add_argument("--json", action="store_true", help="the last line printed is the results as JSON")
    bench.add_argument("--only", metavar="NAME,...", help="only these benchmarks")
    bench.add_argument("--write", metavar="FILE", help="also bring the tables of this document up to date")
    bench.add_argument("--data", metavar="FILE", help="a market data capture (default: the one in ../shared/data)")
    _add_proofs(commands)
    commands.add_parser("version", help="print the version and which half of the hot path is in use")
    return parser


def _add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, what in (
        ("halt", "stop trading now and cancel open orders"),
        ("reduce", "only let positions shrink"),
        ("resume", "trade again after halt or reduce; takes two steps"),
    ):
        command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        command.add_argument(
            "--scope", default="all", metavar="SCOPE",
            help="all (default), account.NAME, strategy.NAME or symbol.NAME",
        )  # fmt: skip
        command.add_argument("--reason", required=name != "resume", help="why; kept in the audit")
        command.add_argument("--actor", help="who you are (default: user@machine)")
        command.add_argument("--url", help="gateway to ask (default: the configured one)")
        if name == "halt":
            command.add_argument(
                "--flatten", action="store_true", help="also close positions with market orders that only reduce"
            )
        if name == "resume":
            command.add_argument("--confirm", metavar="WORD", help="second step: the word that the first step printed")


def _add_proofs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("replay", help="rebuild the order state from its journal; step through an incident")
    command.add_argument("journal", metavar="JOURNAL", help="nats://HOST:PORT, a data directory, or a saved file")
    command.add_argument("--account", default="", help="whose (default: the configured one)")
    command.add_argument("--from-seq", type=int, default=1, metavar="N", help="first line of ORDERS")
    command.add_argument("--until-seq", type=int, default=0, metavar="N", help="last line of ORDERS (default: all)")
    command.add_argument("--order", default="", metavar="ID", help="show only what concerns this client order id")
    command.add_argument("--step", action="store_true", help="one line at a time; Enter goes on, q ends")
    command.add_argument("--show", action="store_true", help="print what every line changed")
    command.add_argument("--save", metavar="FILE", help="also write the lines to a file that can be replayed")
    command.add_argument("--json", action="store_true", help="the last line printed is the whole state as JSON")
    command = commands.add_parser("simulate", help="play seeds of failure against the real order path")
    command.add_argument("--seeds", type=int, default=100, metavar="N", help="how many (default 100)")
    command.add_argument("--first-seed", type=int, default=0, metavar="N", help="the first of them (default 0)")
    command.add_argument("--seed", type=int, metavar="N", help="only this one, with its trace")
    command.add_argument("--steps", type=int, default=0, metavar="M", help="with --seed: stop after so many steps")
    command.add_argument("--only", default="", metavar="3,7", help="with --seed: only these faults of its plan")
    command.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one a processor)")
    command.add_argument("--json", action="store_true", help="the last line printed is the result as JSON")


def _add_risk_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    limits = commands.add_parser("limits", help="risk limits that hold now; --set changes one without a restart")
    limits.add_argument("--account", default="", help="account, or default for all (default: the configured one)")
    limits.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="also symbols.BTCUSDT.max_order_qty=1"
    )
    limits.add_argument("--unset", action="append", default=[], metavar="NAME", help="back to what is below it")
    breakers = commands.add_parser(
        "breaker", aliases=["breakers"], help="circuit breakers: list, trip, release or reset one by its target"
    )
    breakers.add_argument("action", nargs="?", default="list", choices=("list", "trip", "release", "reset"))
    breakers.add_argument(
        "target", nargs="?", default="", metavar="TARGET",
        help="venue-rest, venue-websocket, database, cache, bus, downstream, account.NAME, strategy.NAME or everything",
    )  # fmt: skip
    breakers.add_argument("--closed", action="store_true", help="with trip: hold it closed instead of open")
    breakers.add_argument("--reason", default="", help="why; kept in the audit")
    for command in (limits, breakers):
        command.add_argument("--json", action="store_true", help="print as JSON")
        command.add_argument("--actor", help="who you are (default: user@machine)")


def main(argv: list[str] | None = None) -> int:
    """Entry point. Errors of ours end as one sentence on stderr and exit code 2 (configuration) or 1."""
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        code = _dispatch(parser, arguments)
        sys.stdout.flush()  # a pipe that nobody reads shall break here, not while Python ends
        return code
    except TickmeshError as error:
        print(f"tickmesh: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Who read our output has enough; say nothing more, also not when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.command == "up":
        from tickmesh.runtime.up import up

        return up(arguments)
    if arguments.command == "run":
        from tickmesh.runtime.host import main as host
        from tickmesh.runtime.table import FUSED, SERVICE_NAMES

        if arguments.service == FUSED:
            from tickmesh.runtime.fused import main as fused

            return fused()
        if arguments.service not in SERVICE_NAMES:
            parser.error(f"there is no service {arguments.service!r}; there are {', '.join(SERVICE_NAMES)}")
        return host(arguments.service)
    if arguments.command == "config":
        from tickmesh.runtime.config_text import print_config

        print_config(as_yaml=arguments.yaml, only=arguments.only)
        return 0
    if arguments.command == "status":
        from tickmesh.console.status import run as status

        return status(arguments)
    if arguments.command in ("halt", "reduce", "resume"):
        from tickmesh.console.control import run as control

        return control(arguments)
    if arguments.command in ("limits", "breaker", "breakers"):
        from tickmesh.runtime.risk_command import run as risk

        return risk(arguments)
    if arguments.command == "layout":
        from tickmesh.runtime.layout_command import run as layout

        return layout(arguments)
    if arguments.command == "bench":
        from tickmesh.runtime.bench.suite import main as bench

        return bench(arguments)
    if arguments.command == "replay":
        from tickmesh.runtime.replay_command import run as replay

        return replay(arguments)
    if arguments.command == "simulate":
        from tickmesh.runtime.simulation.command import main as simulate

        return simulate(arguments)
    if arguments.command == "version":
        from tickmesh import hotpath

        why = f": {hotpath.WHY_PURE}" if hotpath.WHY_PURE else ""
        print(f"tickmesh {__version__} (hot path: {hotpath.HALF}{why})")
        return 0
    parser.print_help()
    return 2


if __name__ == "__main__":
    sys.exit(main())
