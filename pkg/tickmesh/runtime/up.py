"""``tickmesh up``: the whole system on one machine, each service a process of its own under this supervisor.

Start: servers, venue, services in the order of ``runtime.table``. Stop (Ctrl-C, --for, the end of a replay):
rank by rank, strategy first, so that orders are cancelled and queues drained before what carries them goes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tickmesh.domain.errors import ConfigError, DependencyError
from tickmesh.observe import logs
from tickmesh.runtime import servers, waiting
from tickmesh.runtime.child import Child
from tickmesh.runtime.closing import closing
from tickmesh.runtime.line import StatusLine, halt_news, next_beat
from tickmesh.runtime.poll import StatsPoller
from tickmesh.runtime.report import collect_summary
from tickmesh.runtime.room import Room, demand_room
from tickmesh.runtime.table import FUSED, SERVICES, ServiceRow, hot_services, rows
from tickmesh.settings import Settings, load
from tickmesh.settings.load import variable

_SERVER_READY_S = 60.0
_SERVICE_READY_S = 120.0  # on a machine that is busy with something else; a mistake in the configuration ends at once
_REPLAY_SETTLE_S = 2.0
_LEAST_STOP_S = 3.0


def up(arguments: argparse.Namespace) -> int:
    """Run everything until told to stop; 0 is well, 1 a service that could not start or an order amiss."""
    waiting.mend()
    settings, overrides = _configure(arguments)
    logs.set_up("up", settings.observe.log_level, settings.observe.log_format)
    data_dir = Path(settings.local.data_dir).resolve()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a+")
    except OSError as error:
        raise ConfigError(
            f"cannot use {data_dir} for state ({error.strerror}); choose another with --data-dir"
        ) from None
    with lock:
        _take(lock, data_dir)
        demand_room(data_dir)
        supervisor = Supervisor(settings, overrides, data_dir)
        return asyncio.run(supervisor.run(for_s=arguments.for_s, as_json=arguments.json))


def _take(lock: TextIO, data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(
            f"another tickmesh already runs on {data_dir}; stop it or choose another directory with --data-dir"
        ) from None


def _configure(arguments: argparse.Namespace) -> tuple[Settings, dict[str, str]]:
    """Settings with the command line over the environment, and the same as variables for the children."""
    overrides: dict[str, str] = {}
    if arguments.replay:
        capture = Path(arguments.replay)
        if not capture.is_file():
            raise ConfigError(f"there is no capture {arguments.replay}; --replay takes a market data file")
        overrides |= _replay_overrides(capture)
    if arguments.replay_speed is not None:
        if not arguments.replay:
            raise ConfigError("--replay-speed needs --replay FILE")
        if arguments.replay_speed < 0:
            raise ConfigError("--replay-speed must be 0 (flat out) or more")
        overrides["simvenue.replay_speed"] = str(arguments.replay_speed)
    if arguments.strategy:
        if not Path(arguments.strategy).exists():
            raise ConfigError(f"there is no strategy file or directory {arguments.strategy}")
        overrides["strategy.resources"] = str(Path(arguments.strategy).resolve())
    if arguments.transport:
        overrides["local.transport"] = arguments.transport
    if arguments.fused:
        overrides["local.fused"] = "true"
    if arguments.data_dir:
        overrides["local.data_dir"] = str(Path(arguments.data_dir).resolve())
    if arguments.free_ports:
        overrides |= _free_ports()
    environ = {**os.environ, **{variable(path): value for path, value in overrides.items()}}
    settings = load(environ)
    overrides["local.data_dir"] = str(Path(settings.local.data_dir).resolve())
    return settings, overrides


def _replay_overrides(capture: Path) -> dict[str, str]:
    """Follow what the capture holds: its symbols, and its kind of trade stream."""
    from tickmesh.venues.capture import Contents

    found = Contents.of(capture)
    followed = found.replayable()
    if not followed:
        raise ConfigError(
            f"{capture} cannot be replayed: it needs depth updates and a depth snapshot of Binance USD-M futures, "
            f"it has {found}; give another file"
        )
    overrides = {
        "simvenue.replay": str(capture.resolve()),
        "simvenue.replay_hold_s": str(_SERVICE_READY_S * 2),
        "venue.symbols": ",".join(followed),
    }
    return overrides | ({"feed.trade_stream": "aggTrade"} if found.only_aggregated_trades else {})


def _free_ports() -> dict[str, str]:
    names = [f"{row.name}.admin_port" for row in SERVICES] + ["gateway.port", "simvenue.port"]
    ports = servers.free_ports(len(names) + 3)
    chosen = {name: str(port) for name, port in zip(names, ports, strict=False)}
    nats, postgres, valkey = ports[len(names) :]
    return chosen | {
        "venue.rest_url": f"http://127.0.0.1:{chosen['simvenue.port']}",
        "venue.stream_url": f"ws://127.0.0.1:{chosen['simvenue.port']}",
        "nats.url": f"nats://127.0.0.1:{nats}",
        "postgres.dsn": f"postgresql://tickmesh@127.0.0.1:{postgres}/tickmesh",
        "redis.url": f"redis://127.0.0.1:{valkey}/0",
    }


@dataclass(slots=True)
class Watched:
    """The time between ready and the order to stop, and the market events in it; start and drain are not trading."""

    seconds: float = 0.0
    events: int = 0


class Supervisor:
    """Owns the child processes of one run."""

    def __init__(self, settings: Settings, overrides: dict[str, str], data_dir: Path) -> None:
        self.settings = settings
        self.data_dir = data_dir
        self.children: dict[str, Child] = {}
        self.started_ns = time.time_ns()
        self.watched = Watched()
        host = settings.observe.host
        urls = {row.name: f"http://{host}:{getattr(settings, row.name).admin_port}" for row in SERVICES}
        self.poller = StatsPoller(urls)
        self.gateway_url = f"http://{host}:{settings.gateway.port}"
        self._overrides = overrides
        self._rows = rows(fused=settings.local.fused)
        self._stop = asyncio.Event()
        self._signals = 0

    async def run(self, *, for_s: float | None, as_json: bool) -> int:
        """Start, watch, drain, report."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        await self.poller.open()
        summary: dict[str, Any] = {}
        failure, code = "", 0
        try:
            await self._start_servers()
            await self._start_services()
            await self._watch(for_s)
        except (ConfigError, DependencyError) as error:
            failure, code = str(error), 2 if isinstance(error, ConfigError) else 1
        finally:
            summary = await self._drain(failure)
            await self.poller.close()
        if failure:
            with contextlib.suppress(OSError):
                print(f"tickmesh: {failure}", file=sys.stderr)
        else:
            for sentence in closing(summary):
                self._say(sentence)
        if as_json:
            self._say(json.dumps(summary))
        amiss = "error" in summary or summary.get("lost") or summary.get("duplicated")
        return code or 1 if amiss else 0

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals == 1:
            self._say("stopping: cancelling open orders and draining (up to 30 s) ...")

    async def _start_servers(self) -> None:
        local = self.settings.local
        specs = servers.local_servers(self.settings, self.data_dir)
        for spec in specs:
            self._overrides |= spec.overrides
        (self.data_dir / "logs").mkdir(exist_ok=True)
        for spec in specs:
            self.children[spec.name] = Child(
                spec.name,
                spec.argv,
                env=spec.env,
                log_dir=self.data_dir / "logs",
                prepare=spec.prepare,
                ready=spec.ready,
                cwd=spec.cwd,
                user=spec.user,
                group=spec.group,
                stop_signal=spec.stop_signal,
                stop_timeout_s=spec.stop_timeout_s,
                nice=0 if spec.name == "nats" else local.background_nice,
                slice_us=local.hot_slice_us if spec.name == "nats" and not local.fused else 0,
            )
        self._say("starting " + ", ".join(spec.name for spec in specs) + " ...")
        await asyncio.gather(*(self._bring_up(spec.name, _SERVER_READY_S) for spec in specs))

    async def _start_services(self) -> None:
        env = {**os.environ, **{variable(path): value for path, value in self._overrides.items()}}
        env["PYTHONUNBUFFERED"] = "1"
        waiting: dict[str, asyncio.Task[None]] = {}
        local = self.settings.local
        for row in self._rows:
            self.children[row.name] = Child(
                row.name,
                [sys.executable, "-m", "tickmesh.runtime.cli", "run", row.name],
                env=env,
                log_dir=self.data_dir / "logs",
                ready=lambda name=row.name: self._ready(name),  # type: ignore[misc]
                stop_timeout_s=self.settings.local.drain_timeout_s,
                nice=0 if row.hot else local.background_nice,
                slice_us=local.hot_slice_us if row.hot else 0,
            )
            waiting[row.name] = asyncio.create_task(self._after(row, waiting))
        self._say("starting " + ", ".join(waiting) + " ...")
        try:
            await asyncio.gather(*waiting.values())
        except BaseException:
            for task in waiting.values():
                task.cancel()
            await asyncio.gather(*waiting.values(), return_exceptions=True)
            raise
        self._say(f"dashboard: {self.gateway_url}   logs: {self.data_dir / 'logs'}   stop: Ctrl-C")

    def _services_of(self, name: str) -> tuple[str, ...]:
        """The services that the process ``name`` holds."""
        return hot_services() if name == FUSED else (name,)

    async def _ready(self, name: str) -> bool:
        return all([await self.poller.ready(service) for service in self._services_of(name)])

    async def _after(self, row: ServiceRow, waiting: dict[str, asyncio.Task[None]]) -> None:
        await asyncio.sleep(0)
        for name in row.after:
            if name in waiting:
                await asyncio.shield(waiting[name])
        await self._bring_up(row.name, _SERVICE_READY_S)

    async def _bring_up(self, name: str, timeout_s: float) -> None:
        child = self.children[name]
        await child.start()
        ready = asyncio.create_task(child.wait_ready(timeout_s))
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({ready, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not ready.done():
            ready.cancel()
            raise DependencyError(name, "stopped while starting")
        if child.broken:
            raise ConfigError(f"{name}: {child.broken}")
        if not ready.result():
            raise DependencyError(
                name,
                f"{name}: not ready within {timeout_s:g} s; the end of {child.log_path}:\n{child.last_lines()}",
            )

    async def _watch(self, for_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        began_s, events_before = loop.time(), await self._events()
        try:
            await self._watch_until_the_end(for_s)
        finally:
            self.watched = Watched(loop.time() - began_s, await self._events() - events_before)

    async def _events(self) -> int:
        await self.poller.poll("feed")
        return self.poller.counter("feed", "events_total")

    async def _watch_until_the_end(self, for_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + for_s if for_s is not None else None
        finished_at: float | None = None
        line = StatusLine(self.poller)
        room, told = Room(self.data_dir, self.children["nats"].log_path), set[tuple[str, str]]()
        tick = loop.time()
        while not self._stop.is_set():
            tick = next_beat(tick, loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.05, min(tick, end or tick) - loop.time())):
                    await self._stop.wait()
            if self._stop.is_set() or (end is not None and loop.time() >= end):
                return
            for child in self.children.values():
                child.sample()
                if child.broken:
                    raise ConfigError(f"{child.name}: {child.broken}")
            if self._gauge("replay_held"):
                await self.poller.post(self.poller.url("simvenue") + "/replay/go")
            _, live = await asyncio.gather(self.poller.poll(), self.poller.get(self.gateway_url + "/api/v1/live"))
            disk = room.look()
            for sentence in [disk.sentence] * bool(disk.sentence) + halt_news((live or {}).get("halts", []), told):
                self._say(sentence)
            if disk.restart_nats:
                self.children["nats"].restart()
            down = [c.name for c in self.children.values() if c.pid is None]
            self._say(line.text(live, down, disk.trouble))
            if self.settings.simvenue.replay and self._gauge("replay_finished"):
                finished_at = finished_at or loop.time()
                if loop.time() - finished_at >= _REPLAY_SETTLE_S:
                    self._say("the replay is through")
                    return

    def _gauge(self, name: str) -> float:
        return float(self.poller.latest.get("simvenue", {}).get("gauges", {}).get(name) or 0)

    async def _keep_books(self) -> None:
        """Write the feed's whole final books beside the logs, for whoever wants to compare them."""
        folder = self.data_dir / "books"
        folder.mkdir(exist_ok=True)
        for symbol in self.settings.venue.symbols:
            book = await self.poller.get(f"{self.poller.url('feed')}/book/{symbol}?depth=0")
            if book is not None:
                (folder / f"{symbol}.json").write_text(json.dumps(book), encoding="utf-8")

    async def _drain(self, failure: str) -> dict[str, Any]:
        summary: dict[str, Any] = {"error": failure} if failure else {}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.local.drain_timeout_s

        def left_s() -> float:
            """Of the time for all; whoever comes last still gets a moment."""
            return max(_LEAST_STOP_S, deadline - loop.time())

        for rank in range(5):
            names = [row.name for row in self._rows if row.drain_rank == rank and row.name in self.children]
            hosted = [each for name in names for each in self._services_of(name)]
            if rank == 3 and not failure:
                # Trading is over and everything that reads the journal is still up.
                try:
                    summary = await collect_summary(self)
                except (DependencyError, OSError, TimeoutError) as error:
                    summary = {"error": f"no summary: {error}"}
            await self.poller.poll(*hosted)
            if "feed" in hosted and not failure:
                await self._keep_books()
            await asyncio.gather(*(self.children[name].stop(left_s()) for name in names))
        await asyncio.gather(*(c.stop() for n, c in self.children.items() if n in ("nats", "postgres", "valkey")))
        summary["cpu_s"] = {name: round(child.cpu_s, 2) for name, child in self.children.items()}
        summary["rss_mb"] = {name: round(child.rss_mb, 1) for name, child in self.children.items()}
        summary["restarts"] = {name: child.restarts for name, child in self.children.items() if child.restarts}
        if not failure:
            self._say(f"drained; state is kept in {self.data_dir}")
        return summary

    def _say(self, text: str) -> None:
        """Print a line; when nobody reads any more (closed terminal, ended pipe), stop, and drain all the same."""
        try:
            print(text, flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._stop.set()
