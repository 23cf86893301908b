"""``tickmesh layout``: what JetStream holds against what is declared; ``--apply`` makes it so.

Exit code 0 when everything is as declared (or was made so), 1 when something is not.
"""

from __future__ import annotations

import argparse
import asyncio
import json

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from tickmesh.bus import layout
from tickmesh.bus.durability import Verdict, judge
from tickmesh.bus.nats import NatsBus
from tickmesh.domain.errors import DependencyError
from tickmesh.settings import load


def run(arguments: argparse.Namespace) -> int:
    """Carry the command out.

    Raises:
        DependencyError: NATS does not answer within nats.connect_timeout_s, or refuses.
    """
    return asyncio.run(_run(arguments.apply, arguments.json))


async def _run(apply: bool, as_json: bool) -> int:
    keys = load().nats
    bus = await NatsBus.connect(
        keys.url, name="tickmesh-layout", connect_timeout_s=keys.connect_timeout_s, apply_layout=False,
        user_credentials=keys.credentials_file or None, token=keys.token.get_secret_value() or None,
    )  # fmt: skip
    try:
        corrected = await layout.apply(bus.jetstream, replicas=keys.replicas) if apply else []
        drift = await layout.compare(bus.jetstream, replicas=keys.replicas)
        durability = await judge(bus.jetstream, replicas=keys.replicas, monitor_url=keys.monitor_url)
    except (NatsError, APIError, TimeoutError) as error:
        raise DependencyError("nats", f"the layout cannot be read or applied: {error or 'no answer'}") from error
    finally:
        await bus.close()
    if as_json:
        left = [{"stream": d.stream, "fields": d.fields} for d in drift]
        told = {"corrected": corrected, "drift": left, "journals": durability.verdict, "because": durability.because}
        print(json.dumps(told))
    else:
        for sentence in corrected:
            print(sentence)
        for found in drift:
            print(f"stream {found.stream}: {', '.join(found.fields) or 'missing'} not as declared")
        if not drift:
            print(f"{len(layout.declared(keys.replicas))} streams and buckets are as declared ({keys.replicas} copies)")
        print(f"order journals: {durability.verdict} ({durability})")
    return 1 if drift or durability.verdict is Verdict.NOT_DURABLE else 0
