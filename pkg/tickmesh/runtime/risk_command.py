"""``tickmesh limits`` and ``tickmesh breaker``: what holds now, and a person's changes to it, through the buckets.

A change is checked by the code that will use it before it is written, written only on top of what was read, and
put into the audit. Services take it over within milliseconds; nothing is restarted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import msgspec

from tickmesh.bus.nats import NatsBus
from tickmesh.console.control import me
from tickmesh.domain import subjects
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.domain.messages import Audit, encode
from tickmesh.kube.breaker import ForceRecord
from tickmesh.ports import KeyValue, KvEntry
from tickmesh.risk.limits import Limits, LimitsError
from tickmesh.services.breaker_records import TARGETS, BreakerRecord, is_target
from tickmesh.services.breakers import BUCKET as BREAKERS
from tickmesh.services.limits import BUCKET as LIMITS
from tickmesh.services.limits import DEFAULT_KEY, LimitsBook
from tickmesh.settings import load

_CONNECT_S = 3.0


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out.

    Raises:
        ConfigError: a name or value that cannot be used; nothing was written.
        DependencyError: NATS does not answer, or somebody else wrote at the same moment.
    """
    return asyncio.run(_limits(arguments) if arguments.command == "limits" else _breakers(arguments))


async def _connect() -> NatsBus:
    settings = load()
    return await NatsBus.connect(
        settings.nats.url, name="tickmesh-cli", connect_timeout_s=_CONNECT_S, apply_layout=False,
        user_credentials=settings.nats.credentials_file or None, token=settings.nats.token.get_secret_value() or None,
    )  # fmt: skip


async def _limits(arguments: argparse.Namespace) -> int:
    account = arguments.account or load().venue.account
    bus = await _connect()
    try:
        bucket = await bus.kv(LIMITS)
        book, documents = LimitsBook(), {}
        for key in sorted(await bucket.keys(), key=lambda key: key != DEFAULT_KEY):
            entry = await bucket.get(key)
            if entry is not None and entry.value:
                documents[key] = entry
                try:
                    book.on_entry(entry)
                except LimitsError as error:
                    print(f"tickmesh: limits/{key} is not in force: {error}", file=sys.stderr)
        if arguments.set or arguments.unset:
            await _change_limits(bus, book, documents, account, arguments)
            return 0
    finally:
        await bus.close()
    _print_limits(book.of(account), documents, account, as_json=arguments.json)
    return 0


async def _change_limits(
    bus: NatsBus, book: LimitsBook, documents: dict[str, KvEntry], account: str, arguments: argparse.Namespace
) -> None:
    key, entry = subjects.token(account), documents.get(subjects.token(account))
    document: dict[str, Any] = json.loads(entry.value or b"{}") if entry is not None else {}
    for text in arguments.set:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes NAME=VALUE, found {text!r}; `tickmesh limits` lists the names")
        _put(document, name.strip().split("."), value.strip())
    for name in arguments.unset:
        _drop(document, name.split("."))
    value_bytes = json.dumps(document, sort_keys=True).encode()
    try:
        book.on_entry(KvEntry(LIMITS, key, value_bytes, 0))
    except LimitsError as error:
        raise ConfigError(f"{error}; nothing was changed") from None
    bucket = await bus.kv(LIMITS)
    written = await (
        bucket.update(key, value_bytes, entry.revision) if entry is not None else bucket.create(key, value_bytes)
    )
    if written is None:
        raise DependencyError("limits", f"somebody changed limits/{key} at the same moment; look at it and try again")
    await _audit(bus, arguments, "limits", {"key": key, "document": value_bytes.decode()})
    print(f"limits/{key} is at revision {written}; it holds from now on")


def _put(document: dict[str, Any], path: list[str], text: str) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
        if not isinstance(document, dict):
            raise ConfigError(f"{'.'.join(path)} is no limit; `tickmesh limits` lists the names")
    is_whole = text.lstrip("-").isdigit()
    document[path[-1]] = int(text) if is_whole else {"true": True, "false": False}.get(text, text)


def _drop(document: dict[str, Any], path: list[str]) -> None:
    for part in path[:-1]:
        document = document.get(part) or {}
    document.pop(path[-1], None)


def _print_limits(limits: Limits, documents: dict[str, KvEntry], account: str, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"account": account, "limits": limits}).decode())
        return
    sources = {key: json.loads(entry.value or b"{}") for key, entry in documents.items()}
    for name in Limits.__struct_fields__:
        value = getattr(limits, name)
        key = subjects.token(account)
        source = key if name in sources.get(key, {}) else DEFAULT_KEY if name in sources.get(DEFAULT_KEY, {}) else ""
        shown = msgspec.json.encode(value).decode().strip('"')
        print(f"{name:24} {shown:>14}  {'limits/' + source if source else 'built in'}")


async def _breakers(arguments: argparse.Namespace) -> int:
    if arguments.action != "list" and not is_target(arguments.target):
        raise ConfigError(
            f"{arguments.target!r} is no target of a breaker; there are {', '.join(TARGETS)}, account.NAME and "
            "strategy.NAME"
        )
    bus = await _connect()
    try:
        bucket = await bus.kv(BREAKERS)
        if arguments.action != "list":
            await _change_breaker(bus, bucket, arguments)
            return 0
        entries = {key: entry.value for key in await bucket.keys() if (entry := await bucket.get(key)) is not None}
    finally:
        await bus.close()
    records = [
        msgspec.json.decode(v, type=BreakerRecord) for k, v in sorted(entries.items()) if v and k[:6] == "state."
    ]
    forces = {k[6:]: msgspec.json.decode(v, type=ForceRecord) for k, v in entries.items() if v and k[:6] == "force."}
    if arguments.json:
        print(msgspec.json.encode({"breakers": records, "forces": forces}).decode())
        return 0
    width = max((len(record.name) for record in records), default=0)
    for record in records:
        held = " (held)" if record.forced else ""
        stops = f"stops {record.stops or 'nothing'}"
        print(f"{record.name:{width}} {record.target:18} {record.state + held:16} {stops:22} {record.reason}")
    for target, force in sorted(forces.items()):
        why = f": {force.reason}" if force.reason else ""
        print(f"{target} is held {force.state} by {force.actor or 'somebody'}{why}")
    return 0


async def _change_breaker(bus: NatsBus, bucket: KeyValue, arguments: argparse.Namespace) -> None:
    target, actor, now_ns = arguments.target, arguments.actor or me(), time.time_ns()
    if arguments.action == "trip":
        state = "Closed" if arguments.closed else "Open"
        force = ForceRecord(state=state, actor=actor, reason=arguments.reason, at_ns=now_ns)
        await bucket.put(f"force.{target}", msgspec.json.encode(force))
        said = f"every breaker of {target} is held {state} until it is released"
    elif arguments.action == "release":
        await bucket.delete(f"force.{target}")
        said = f"every breaker of {target} judges by itself again"
    else:
        await bucket.put(f"reset.{target}", msgspec.json.encode({"at": str(now_ns), "actor": actor}))
        said = f"every breaker of {target} that nobody holds starts anew, closed"
    await _audit(bus, arguments, "breaker", {"action": arguments.action, "target": target, "reason": arguments.reason})
    print(said)


async def _audit(bus: NatsBus, arguments: argparse.Namespace, event: str, detail: dict[str, str]) -> None:
    now_ns = time.time_ns()
    actor = arguments.actor or me()
    audit = Audit(publish_ns=now_ns, source="cli", event=event, actor=actor, detail=detail)
    await bus.publish_durable(subjects.audit("cli"), encode(audit), message_id=f"cli-{event}-{now_ns}")
