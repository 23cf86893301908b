"""Arguments of ``tickmesh simulate``; apart, so that the command line loads nothing heavy."""

from __future__ import annotations

import argparse


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seeds", type=int, default=100, metavar="N", help="how many (default 100)")
    command.add_argument("--first-seed", type=int, default=0, metavar="N", help="the first of them (default 0)")
    command.add_argument("--seed", type=int, metavar="N", help="only this one, with its trace")
    command.add_argument("--steps", type=int, default=0, metavar="M", help="with --seed: stop after so many steps")
    command.add_argument("--only", default="", metavar="3,7", help="with --seed: only these faults of its plan")
    command.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one a processor)")
    command.add_argument("--json", action="store_true", help="the last line printed is the result as JSON")
