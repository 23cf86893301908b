"""Keys of the strategy service."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class StrategySettings(Section):
    admin_port: int = key(17502, "Port of /healthz, /readyz, /startupz, /metrics and /stats.", ge=0, le=65535)
    resources: str = key(
        "", "Strategy resources: a YAML file, a directory of them, or bucket:NAME as the operator writes it; empty "
        "for the built-in example.",
    )  # fmt: skip
    shard: int = key(-1, "Which shard of its Strategy this process runs, from 0; -1 all symbols.", ge=-1, le=31)
    reload_interval_s: float = key(
        0.25, "How often resources and plugin files are looked at for edits.", unit="s", gt=0, le=60
    )
    checkpoint_interval_s: float = key(
        1.0, "How often changed state is saved; what is lost comes back from the journal.", unit="s", gt=0, le=60
    )
    catch_up_interval_s: float = key(
        3.0, "How often the journal is read for events that a live subscription missed.", unit="s", gt=0, le=60
    )
    timer_interval_ms: int = key(
        50, "How often expired orders, unanswered intents and silent books are looked for.", unit="ms", ge=5, le=5000
    )
    drain_timeout_s: float = key(
        10.0, "How long a stop waits for the last open order to be cancelled.", unit="s", ge=0, le=120
    )
    late_ms: int = key(
        100, "Age of market data from which orders become rarer (cool-down times five).", unit="ms", ge=1
    )
    conflate_after_us: int = key(
        2000, "Age of a book update from which only the newest of its symbol is looked at.", unit="us", ge=0
    )
    stale_after_s: float = key(3.0, "Silence of a symbol after which its book is not trusted.", unit="s", gt=0)
    unanswered_after_s: float = key(
        5.0, "Silence after an intent until its fate is asked for; longer than any restart of execution.",
        unit="s", gt=0,
    )  # fmt: skip
    max_rejections: int = key(
        10, "Rejected orders within a minute after which a strategy only observes for a while.", ge=2, le=1000
    )
    observe_after_rejections_s: float = key(
        30.0, "How long a strategy whose orders were rejected only observes.", unit="s", gt=0
    )
    plugin_max_errors: int = key(5, "Errors of a plugin within the window that disable it.", ge=1, le=1000)
    plugin_error_window_s: float = key(60.0, "Window in which the errors of a plugin are counted.", unit="s", gt=0)
    plugin_block_ms: int = key(500, "Time in one call after which a plugin is reported as blocking.", unit="ms", ge=1)
    plugin_interrupt_s: float = key(
        5.0, "Time in one call after which Python code of a plugin is interrupted; 0 never.", unit="s", ge=0
    )
    drain: str = key(
        "hand_over", "What a stop does with open orders: cancel them, or hand_over to a standby (without one, cancel).",
        pattern="^(cancel|hand_over)$",
    )  # fmt: skip
    lease_ttl_ms: int = key(
        1500, "How long a strategy's lease outlives its last renewal; a standby takes over from a killed holder after "
        "that long. A quarter of it is more than an intent's 250 ms to live (decision 0130).",
        unit="ms", ge=1200, le=60_000,
    )  # fmt: skip
    ring_spin_us: int = key(0, "How long an idle reader of the shared-memory ring spins before it sleeps.", unit="us")
