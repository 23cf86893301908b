"""``tickmesh replay JOURNAL``: rebuild the order core's state from its journal, and step through an incident.

JOURNAL is a NATS URL, a data directory (its JetStream store is copied and read, never written), or a file that
``--save`` wrote. Out: the state's hash, the same as ``GET /state`` of the execution service shows for the same lines.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import msgspec

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.engine.replay import Change, Replay
from tickmesh.runtime.servers import free_ports, program
from tickmesh.settings import load

_STREAMS = ("CTL", "ORDERS")
_START_S = 20.0


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out.

    Raises:
        ConfigError: the journal cannot be found or is no journal.
        DependencyError: NATS does not answer.
    """
    if not arguments.save:
        return asyncio.run(_replay(arguments, None))
    try:
        with Path(arguments.save).open("w", encoding="utf-8") as saved:
            return asyncio.run(_replay(arguments, saved))
    except OSError as error:
        raise ConfigError(f"{arguments.save} cannot be written ({error.strerror})") from None


async def _replay(arguments: argparse.Namespace, saved: TextIO | None) -> int:
    replay = Replay(arguments.account or load().venue.account)
    damaged = 0
    async with contextlib.aclosing(_lines(arguments.journal, arguments.from_seq)) as lines:
        async for stream, subject, payload, seq in lines:
            if stream == "ORDERS" and arguments.until_seq and seq > arguments.until_seq:
                break
            if saved is not None:
                text = base64.b64encode(payload).decode()
                saved.write(json.dumps({"stream": stream, "seq": seq, "subject": subject, "data": text}) + "\n")
            try:
                change = replay.on_control(payload, seq) if stream == "CTL" else replay.apply(subject, payload, seq)
            except msgspec.DecodeError as error:
                damaged += 1
                print(f"{stream} line {seq} is damaged and left out: {error}", file=sys.stderr)
                continue
            if change is not None and not _show(arguments, replay, change):
                break
    _end(arguments, replay, damaged)
    return 1 if damaged else 0


def _show(arguments: argparse.Namespace, replay: Replay, change: Change) -> bool:
    """Print a change where one is wanted; False when the person has seen enough."""
    if arguments.order and change.name != arguments.order:
        return True
    if not (arguments.show or arguments.step or arguments.order):
        return True
    when = datetime.fromtimestamp(change.time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    print(f"{change.seq:>8}  {when}  {change.kind:7} {change.name}  {change.text}")
    if not arguments.step:
        return True
    picture = replay.picture()
    held = ", ".join(f"{name} {lots}" for name, lots in picture.positions.items()) or "flat"
    print(f"          {len(picture.orders)} orders, {picture.open} open, {held}; state {picture.hash}")
    try:
        return not input().strip().lower().startswith("q")
    except EOFError:
        return True


def _end(arguments: argparse.Namespace, replay: Replay, damaged: int) -> None:
    picture = replay.picture()
    halted = {scope: latched.state.value for scope, latched in replay.latch.state.scopes.items()}
    body = {
        "account": replay.account, "from_seq": arguments.from_seq, "last_seq": replay.last_seq, "lines": replay.lines,
        "damaged": damaged, "anomalies": replay.anomalies, "orders": len(picture.orders), "open": picture.open,
        "positions": picture.positions, "halted": halted, "hash": picture.hash,
    }  # fmt: skip
    if arguments.json:
        body["picture"] = msgspec.to_builtins(picture.orders)
        print(json.dumps(body))
        return
    print(
        f"{replay.lines} lines of {replay.account} up to {replay.last_seq}: {len(picture.orders)} orders, "
        f"{picture.open} open, {replay.anomalies} anomalies"
    )
    for name, lots in picture.positions.items():
        print(f"  {name}: {lots:+} lots")
    for scope, state in halted.items():
        print(f"  {scope} is {state}")
    print(f"state {picture.hash}")


async def _lines(journal: str, from_seq: int) -> AsyncGenerator[tuple[str, str, bytes, int], None]:
    """Lines of CTL, then of ORDERS, as (stream, subject, payload, sequence).

    Who closes it closes what is inside, in order: the connection before its server, both before the loop ends.
    """
    path = Path(journal)
    if journal.startswith(("nats://", "tls://")):
        async with contextlib.aclosing(_of_server(journal, from_seq)) as found:
            async for line in found:
                yield line
    elif path.is_dir():
        async with _server_on_copy(path) as url, contextlib.aclosing(_of_server(url, from_seq)) as found:
            async for line in found:
                yield line
    elif path.is_file():
        for line in _of_file(path, from_seq):
            yield line
    else:
        raise ConfigError(
            f"{journal} is neither a NATS URL nor a data directory nor a file; see tickmesh replay --help"
        )


def _of_file(path: Path, from_seq: int) -> list[tuple[str, str, bytes, int]]:
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            entry = (str(line["stream"]), str(line["subject"]), base64.b64decode(line["data"]), int(line["seq"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no saved journal: line {number} cannot be read ({error})") from None
        if entry[0] != "ORDERS" or entry[3] >= from_seq:
            found.append(entry)
    return found


async def _of_server(url: str, from_seq: int) -> AsyncGenerator[tuple[str, str, bytes, int], None]:
    bus = await NatsBus.connect(url, name="tickmesh-replay", connect_timeout_s=_START_S, apply_layout=False)
    try:
        for stream in _STREAMS:
            first = from_seq if stream == "ORDERS" else 1
            async with contextlib.aclosing(bus.replay(stream, start_seq=first)) as found:
                async for subject, payload, seq in found:
                    yield stream, subject, payload, seq
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def _server_on_copy(data_dir: Path) -> AsyncIterator[str]:
    """A server of our own on a copy of a JetStream store: the original may be in use and is evidence."""
    stores = [
        p for p in (data_dir / "nats" / "jetstream", data_dir / "jetstream", data_dir) if (p / "jetstream").is_dir()
    ]
    if not stores:
        raise ConfigError(
            f"{data_dir} holds no JetStream store; give the directory that tickmesh up keeps its state in"
        )
    home = Path(tempfile.mkdtemp(prefix="tickmesh-replay-"))
    try:
        shutil.copytree(stores[0] / "jetstream", home / "jetstream")
        (port,) = free_ports(1)
        server = await asyncio.create_subprocess_exec(
            program("nats-server"), "-js", "-sd", str(home), "-a", "127.0.0.1", "-p", str(port),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await asyncio.sleep(0.2)
            if server.returncode is not None:
                raise DependencyError("nats", f"nats-server does not start on a copy of {stores[0]}")
            yield f"nats://127.0.0.1:{port}"
        finally:
            if server.returncode is None:
                server.terminate()
            await server.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)
