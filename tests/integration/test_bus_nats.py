"""NatsBus against a real nats-server that is killed, stopped, filled and emptied."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import DependencyError
from tickmesh.runtime.child import Child
from tickmesh.runtime.servers import free_ports, local_servers
from tickmesh.settings import load

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """One nats-server at one address, whose process may come and go."""

    def __init__(self, tmp_path: Path) -> None:
        self.port = free_ports(1)[0]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.home = tmp_path
        others = free_ports(2)
        env = {
            "TICKMESH_NATS__URL": self.url,
            "TICKMESH_POSTGRES__DSN": f"postgresql://a@127.0.0.1:{others[0]}/a",
            "TICKMESH_REDIS__URL": f"redis://127.0.0.1:{others[1]}/0",
        }
        spec = local_servers(load(env), tmp_path, only=("nats",))[0]
        self.child = Child(
            "nats", spec.argv, env=spec.env, log_dir=tmp_path, prepare=spec.prepare, ready=spec.ready
        )  # fmt: skip

    async def kill(self) -> None:
        """SIGKILL; the supervisor's Child starts it again."""
        first = self.child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(30):
            while self.child.pid in (None, first):
                await asyncio.sleep(0.01)
        assert await self.child.wait_ready(30)

    def signal(self, number: signal.Signals) -> None:
        assert self.child.pid is not None
        os.kill(self.child.pid, number)


@contextlib.asynccontextmanager
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    s = Server(tmp_path)
    await s.child.start()
    try:
        assert await s.child.wait_ready(30), s.child.last_lines(10)
        yield s
    finally:
        await s.child.stop()


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_subscription_hears_what_another_connection_says_right_after_it(tmp_path: Path) -> None:
    """nats-py's PING overtakes a SUB that waits for its flusher: 14 of 1,000 were deaf to the next message."""
    async with server(tmp_path) as s:
        sender = await NatsBus.connect(s.url, name="sender")
        receiver = await NatsBus.connect(s.url, name="receiver", apply_layout=False)
        heard: list[str] = []
        for n in range(1000):
            await receiver.subscribe(f"said.{n}", lambda subject, _: heard.append(subject))
            sender.publish(f"said.{n}", b"")
        await sender.flush()
        await receiver.flush()
        await until(lambda: len(heard) == 1000)
        await asyncio.gather(sender.close(), receiver.close())


async def test_messages_stay_in_order_over_a_reconnect_and_those_of_the_gap_are_delivered(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        sender = await NatsBus.connect(s.url, name="sender")
        receiver = await NatsBus.connect(s.url, name="receiver", apply_layout=False)
        heard: list[int] = []
        await receiver.subscribe("order.event.a.x", lambda subject, payload: heard.append(int(payload)))
        for n in range(100):
            await sender.publish_durable("order.event.a.x", b"%d" % n, message_id=str(n))
        await until(lambda: len(heard) == 100)
        restart = asyncio.create_task(s.kill())
        await until(lambda: not sender.connected)
        for n in range(100, 1100):  # nobody is there
            sender.publish("order.event.a.x", b"%d" % n)
        await restart
        await until(lambda: sender.connected and receiver.connected)
        # The sender may be back before the receiver; the stream heard it all, whoever was listening.
        await until(lambda: sender.client._pending_data_size == 0)
        for n in range(1100, 1199):
            sender.publish("order.event.a.x", b"%d" % n)
        await sender.publish_durable("order.event.a.x", b"1199", message_id="last", timeout_s=20)
        await until(lambda: bool(heard) and heard[-1] == 1199)
        assert heard == sorted(set(heard))
        stored = [int(payload) async for _, payload, _ in sender.replay("ORDERS")]
        assert stored == list(range(1200))
        await asyncio.gather(sender.close(), receiver.close())


async def test_a_bus_that_cannot_send_is_bounded_and_says_so(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        s.signal(signal.SIGSTOP)  # alive to the kernel, dead to us
        sent = 0
        try:
            with pytest.raises(DependencyError, match="bytes wait for a NATS server that"):
                while sent < 64 * 1024 * 1024:
                    bus.publish("md.book.v.s", b"x" * 65536)
                    sent += 65536
                    await asyncio.sleep(0)
            await until(lambda: not bus.connected, 15)  # missed pings: given up, though the socket never closed
            assert bus.counts["lost_bytes"] > 0
        finally:
            s.signal(signal.SIGCONT)
        await until(lambda: bus.connected)
        await until(lambda: bus.client._pending_data_size == 0)
        bus.publish("md.book.v.s", b"again")
        await bus.flush()
        async with asyncio.timeout(20):  # the server has it; its stream may still be storing the 8 MiB before it
            while await bus.last("MD", "md.book.v.s") != b"again":
                await asyncio.sleep(0.01)
        await bus.close()


async def test_a_message_larger_than_the_server_takes_is_refused_and_the_connection_lives(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        with pytest.raises(DependencyError, match="max_payload"):
            bus.publish("md.x", b"x" * (9 * 1024 * 1024))
        bus.publish("md.x", b"small")
        await bus.flush()
        assert bus.connected and bus.counts["reconnects"] == 0
        await bus.close()


async def test_many_are_published_in_order_up_to_the_first_that_is_refused(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        heard: list[bytes] = []
        await bus.subscribe("md.trade.v.s", lambda subject, payload: heard.append(payload))
        assert bus.publish_many("md.trade.v.s", []) == 0
        assert bus.publish_many("md.trade.v.s", [b"%d" % n for n in range(300)]) == 300
        too_large = b"x" * (bus.client.max_payload + 1)
        assert bus.publish_many("md.trade.v.s", [b"300", b"301", too_large, b"never"]) == 2
        large = b"y" * (bus.client.max_payload // 2)  # more than one message may have, in three that may go
        assert bus.publish_many("md.trade.v.s", [large, large, large]) == 3
        await until(lambda: len(heard) == 305)
        assert heard == [*(b"%d" % n for n in range(302)), large, large, large]
        s.signal(signal.SIGSTOP)
        try:
            payloads, taken = [b"z" * 65536] * 8, 8
            async with asyncio.timeout(30):
                while taken == 8:
                    taken = bus.publish_many("md.book.v.s", payloads)
                    await asyncio.sleep(0)
            assert 0 <= taken < 8 and bus.client._pending_data_size <= 8 * 1024 * 1024
        finally:
            s.signal(signal.SIGCONT)
        await bus.close()
        assert bus.publish_many("md.trade.v.s", [b"late"]) == 0


async def test_streams_that_the_server_held_in_memory_are_back_after_its_death(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        heard: list[bytes] = []

        async def take(messages) -> None:
            for message in messages:
                heard.append(message.data)
                await message.ack()

        await bus.consume_batches("MD", "d", take, filter_subjects=("md.trade.>",), max_wait_s=0.01)
        bus.publish("md.trade.v.s", b"before")
        await until(lambda: heard == [b"before"])
        await s.kill()
        await until(lambda: bus.connected)
        async with asyncio.timeout(10):
            while b"after" not in heard:
                bus.publish("md.trade.v.s", b"after")
                await asyncio.sleep(0.05)
        await bus.close()


async def test_a_watch_survives_the_server_and_tells_each_change_once(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        bucket = await bus.kv("limits")
        await bucket.put("old", b"1")
        heard: list[tuple[str, bytes | None]] = []

        async def watch() -> None:
            async for entry in bucket.watch():
                heard.append((entry.key, entry.value))

        task = asyncio.create_task(watch())
        await until(lambda: heard == [("old", b"1")])
        await bucket.put("halt", b"yes")
        await bucket.delete("old")
        await until(lambda: len(heard) == 3)
        await s.kill()
        other = await NatsBus.connect(s.url, name="b", apply_layout=False)
        await (await other.kv("limits")).put("halt", b"no")
        await until(lambda: len(heard) == 4, 10)
        assert heard == [("old", b"1"), ("halt", b"yes"), ("old", None), ("halt", b"no")]
        # The server loses everything: numbers start again, and the watch must not take them for old ones.
        shutil.rmtree(tmp_path / "nats" / "jetstream")
        await s.kill()
        await until(lambda: bus.connected and other.connected)
        async with asyncio.timeout(20):
            while heard[-1] != ("halt", b"new life"):
                with contextlib.suppress(DependencyError):
                    await (await other.kv("limits")).put("halt", b"new life")
                await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(bus.close(), other.close())


async def test_a_bus_that_starts_before_its_server_waits_for_it(tmp_path: Path) -> None:
    s = Server(tmp_path)
    connecting = asyncio.create_task(NatsBus.connect(s.url, name="early", connect_timeout_s=30))
    await asyncio.sleep(0.5)
    await s.child.start()
    try:
        bus = await connecting
        bucket = await bus.kv("config")
        watch = bucket.watch("a")
        first = asyncio.create_task(anext(watch))
        await asyncio.sleep(0.1)
        await bucket.put("a", b"1")
        assert (await asyncio.wait_for(first, 10)).value == b"1"
        await watch.aclose()
        await bus.close()
    finally:
        await s.child.stop()
    with pytest.raises(DependencyError, match="no NATS server with JetStream answers"):
        await NatsBus.connect(s.url, name="late", connect_timeout_s=0.5)


_CONSUMER = """
import asyncio, os, signal, sys
from tickmesh.bus.nats import NatsBus

async def main():
    bus = await NatsBus.connect(sys.argv[1], name="c", apply_layout=False)
    async def take(message):
        print(message.stream_seq, flush=True)
        if message.stream_seq == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        await message.ack()
        await bus.flush()
    await bus.consume("INTENTS", "durable", take, ack_wait_s=1.0)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_consumer_killed_in_the_middle_gets_the_rest_and_nothing_twice_that_it_acknowledged(
    tmp_path: Path,
) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        for n in range(1, 11):
            await bus.publish_durable("order.intent.a", b"%d" % n, message_id=str(n))
        env = {**os.environ, "PYTHONPATH": str(ROOT / "pkg")}
        dead = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", _CONSUMER, s.url], env=env, capture_output=True, timeout=60
        )
        assert dead.returncode == -signal.SIGKILL and dead.stdout.split() == [b"1", b"2", b"3", b"4", b"5"]
        got: list[tuple[int, bool]] = []

        async def take(message) -> None:
            got.append((message.stream_seq, message.redelivered))
            await message.ack()

        await bus.consume("INTENTS", "durable", take, ack_wait_s=1.0)
        await until(lambda: len(got) == 6)
        await asyncio.sleep(1.5)  # past the ack wait: nothing comes again
        assert sorted(seq for seq, _ in got) == [5, 6, 7, 8, 9, 10]
        assert (5, True) in got
        await bus.close()


async def test_a_handler_that_raises_gets_its_message_again_and_a_terminated_one_is_gone(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        calls: list[bytes] = []

        async def take(message) -> None:
            calls.append(message.data)
            if message.data == b"poison":
                await message.term()
            elif calls.count(message.data) == 1:
                raise ValueError("the first time fails")
            else:
                await message.ack()

        await bus.consume("COPY", "d", take)
        await bus.publish_durable("copy.trade.x", b"poison", message_id="1")
        await bus.publish_durable("copy.trade.x", b"fine", message_id="2")
        await until(lambda: calls.count(b"fine") == 2, 10)
        assert calls.count(b"poison") == 1 and bus.handler_errors == 1
        await bus.close()


@pytest.mark.parametrize("how", ["consumer", "server"])
async def test_a_replay_goes_on_where_it_stopped_when_its_consumer_is_lost(tmp_path: Path, how: str) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        for n in range(3000):
            bus.publish("order.event.a.x", b"%d" % n)
        await bus.publish_durable("order.event.a.x", b"3000", message_id="last", timeout_s=30)
        read: list[int] = []
        async for _, payload, _ in bus.replay("ORDERS"):
            read.append(int(payload))
            if len(read) in (1, 2500):  # two batches may be here already when the first consumer goes
                if how == "server":
                    await s.kill()
                else:
                    (consumer,) = await bus.jetstream.consumers_info("ORDERS")
                    await bus.jetstream.delete_consumer("ORDERS", consumer.name)
        assert read == list(range(3001))
        await bus.close()


async def test_repeating_a_durable_publication_stores_it_once(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        first = await bus.publish_durable("order.event.a.x", b"1", message_id="same")
        assert await bus.publish_durable("order.event.a.x", b"1", message_id="same") == first
        assert [p async for _, p, _ in bus.replay("ORDERS")] == [b"1"]
        assert [x async for x in bus.replay("COPY")] == []
        with pytest.raises(DependencyError, match="no stream captures it"):
            await bus.publish_durable("nobody.stores.this", b"1", message_id="2")
        s.signal(signal.SIGSTOP)
        try:
            with pytest.raises(DependencyError, match="may be stored or not"):
                await bus.publish_durable("order.event.a.x", b"3", message_id="3", timeout_s=0.3)
        finally:
            s.signal(signal.SIGCONT)
        await bus.close()


async def test_a_full_stream_is_one_clear_sentence(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        config = StreamConfig(name="TINY", subjects=["tiny.>"], max_bytes=1000, discard=DiscardPolicy.NEW)
        await bus.jetstream.add_stream(config)
        with pytest.raises(DependencyError, match=r"tiny\.a was not stored: the stream is full \(max_bytes\)"):
            for n in range(20):
                await bus.publish_durable("tiny.a", b"x" * 100, message_id=str(n))
        await bus.close()


async def test_a_store_without_room_is_one_clear_sentence(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    config = tmp_path / "small.conf"
    config.write_text(
        f"host: 127.0.0.1\nport: {port}\n"
        f'jetstream {{ store_dir: "{tmp_path / "js"}", max_file_store: 200KB, max_memory_store: 1MB }}\n'
    )
    child = Child("nats", [str(Path(sys.executable).parent / "nats-server"), "-c", str(config)], log_dir=tmp_path,
                  env=dict(os.environ))  # fmt: skip
    await child.start()
    try:
        url = f"nats://127.0.0.1:{port}"
        with pytest.raises(DependencyError, match=r"JetStream .*; raise max_\w+"):
            await NatsBus.connect(url, name="a", connect_timeout_s=2)
        bus = await NatsBus.connect(url, name="a", apply_layout=False)
        await bus.jetstream.add_stream(StreamConfig(name="UNBOUND", subjects=["u.>"]))
        with pytest.raises(DependencyError, match=r"u\.a was not stored: JetStream .*max_file_store"):
            for n in range(100):
                await bus.publish_durable("u.a", b"x" * 10_000, message_id=str(n))
        await bus.close()
    finally:
        await child.stop()


async def test_request_and_answer_and_nobody_there(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a", apply_layout=False)

        async def double(subject: str, payload: bytes) -> bytes:
            return payload * 2

        await bus.respond("rpc.double", double)
        assert await bus.request("rpc.double", b"ab") == b"abab"
        with pytest.raises(DependencyError, match=r"nobody answers on rpc\.none"):
            await bus.request("rpc.none", b"")
        await bus.close()


async def test_the_newest_of_each_subject_is_told_in_one_go(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        assert await bus.last_of_each("MD", "md.book.>") == []
        for n in range(30):
            bus.publish(f"md.book.v.s{n % 3}", b"%d" % n)
        await bus.flush()
        found = {subject: payload for subject, payload, _ in await bus.last_of_each("MD", "md.book.>")}
        assert found == {"md.book.v.s0": b"27", "md.book.v.s1": b"28", "md.book.v.s2": b"29"}
        await bus.close()


async def test_only_the_journals_are_synced_at_every_message(tmp_path: Path) -> None:
    async with server(tmp_path) as s:
        bus = await NatsBus.connect(s.url, name="a")
        modes = {
            name: (await bus.jetstream.stream_info(name)).config.persist_mode
            for name in ("INTENTS", "ORDERS", "SIGNALS", "ACCOUNT", "AUDIT")
        }
        words = {name: str(getattr(mode, "value", mode)) for name, mode in modes.items()}
        assert {name for name, word in words.items() if word == "async"} == {"SIGNALS", "ACCOUNT", "AUDIT"}
        await bus.close()
