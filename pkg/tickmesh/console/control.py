"""``tickmesh halt``, ``reduce`` and ``resume``: a person's commands. One action stops, two resume."""

from __future__ import annotations

import argparse
import getpass
import shlex
import socket
import sys
from typing import Any

from tickmesh.console.client import GatewayClient
from tickmesh.domain.errors import DependencyError
from tickmesh.settings import load

NEEDS_CONFIRMATION = 3
_DONE = {
    "halt": "{scope} is halted: nothing more is sent and open orders are cancelled; `tickmesh resume` lifts it",
    "flatten": "{scope} is halted: open orders are cancelled, then positions closed at the market; `tickmesh resume` "
    "ends that and lifts the halt",
    "reduce": "{scope} may only reduce positions; `tickmesh resume` lifts it",
    "resume": "{scope} may trade again",
}


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out; 0 done, 3 a resume that waits for its second step."""
    client = GatewayClient(load(), arguments.url)
    body: dict[str, Any] = {
        "scope": arguments.scope,
        "actor": arguments.actor or me(),
        "reason": arguments.reason or "",
    }
    flatten = arguments.command == "halt" and arguments.flatten
    if flatten:
        body["flatten"] = True
    if arguments.command == "resume":
        return _resume(client, body, arguments)
    try:
        client.post(f"/api/v1/control/{arguments.command}", body)
    except DependencyError as error:
        if arguments.command != "halt":
            raise
        return _halt_directly(client, body["reason"], str(error), flatten=flatten)
    _say("flatten" if flatten else arguments.command, arguments.scope)
    return 0


def me() -> str:
    """Who gives the command, for the audit."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return f"somebody@{socket.gethostname()}"


def _halt_directly(client: GatewayClient, reason: str, why: str, *, flatten: bool) -> int:
    """Stopping must work when the gateway does not: the execution service latches by itself, without NATS."""
    try:
        account = client.halt_without_gateway(reason, flatten=flatten)
    except DependencyError:
        raise DependencyError(
            "gateway", f"{why}; the execution service does not answer either, so there is nothing to halt here"
        ) from None
    closed = " and its positions closed" if flatten else ""
    print(
        f"tickmesh: the gateway does not answer, so the execution service was told directly: account {account} is "
        f"halted{closed} whatever the scope; `tickmesh resume` lifts it once the gateway is back",
        file=sys.stderr,
    )
    return 0


def _resume(client: GatewayClient, body: dict[str, Any], arguments: argparse.Namespace) -> int:
    confirm = arguments.confirm
    if confirm is None:
        _, needed = client.post("/api/v1/control/resume", body)
        word = str(needed["confirm"])
        if not sys.stdin.isatty():
            again = ["tickmesh", "resume", "--scope", body["scope"], "--actor", body["actor"], "--confirm", word]
            if body["reason"]:
                again += ["--reason", body["reason"]]
            if arguments.url:
                again += ["--url", arguments.url]
            print(f"not resumed yet; to confirm within {needed['within_s']:g} s run:\n  {shlex.join(again)}")
            return NEEDS_CONFIRMATION
        confirm = input(f"{_name(body['scope'])} will trade again. Type {word} to confirm: ").strip()
        if confirm != word:
            print("tickmesh: that is not the word; nothing was resumed", file=sys.stderr)
            return NEEDS_CONFIRMATION
    client.post("/api/v1/control/resume", {**body, "confirm": confirm})
    _say("resume", body["scope"])
    return 0


def _say(verb: str, scope: str) -> None:
    print(_DONE[verb].format(scope=_name(scope)))


def _name(scope: str) -> str:
    return "everything" if scope == "all" else scope.replace(".", " ", 1)
