"""What several shards report, in one report and one status; a report that is nonsense changes nothing."""

from __future__ import annotations

import msgspec

from tickmesh.kube.status import Knowledge, PodReport, combine, compute
from tickmesh.services.operator.strategies import Known, StrategyReconciler

ONE = PodReport(holder="a", epoch=3, generation=2, mode="Live", open_orders=2, positions={"BTCUSDT": "0.01"}, pnl="1.5",
                last_signal_ns=5, paused=True, written_ns=9)  # fmt: skip
TWO = PodReport(holder="b", epoch=7, generation=1, mode="Live", open_orders=1, positions={"ETHUSDT": "-2"}, pnl="-0.5",
                halted=["all"], disabled=True, last_error="boom", problem="bad", written_ns=8)  # fmt: skip


def reconciler() -> tuple[StrategyReconciler, Known]:
    known = Known()
    return StrategyReconciler(None, None, known, None, lambda: True), known  # type: ignore[arg-type]


def test_shards_add_up_and_the_worst_of_them_counts() -> None:
    both = combine({1: TWO, 0: ONE})
    assert both is not None
    assert (both.holder, both.epoch, both.generation, both.open_orders) == ("a,b", 7, 1, 3)
    assert both.positions == {"BTCUSDT": "0.01", "ETHUSDT": "-2"} and both.pnl == "1.0"
    assert not both.paused and both.disabled and both.halted == ["all"] and both.problem == "bad"
    assert combine({}) is None and combine({0: ONE}) == ONE


def test_positions_of_one_symbol_are_summed_and_flat_ones_left_out() -> None:
    short = msgspec.structs.replace(TWO, positions={"BTCUSDT": "-0.01"})
    both = combine({0: ONE, 1: short})
    assert both is not None and both.positions == {}


def test_reports_come_by_name_and_shard_and_go_again() -> None:
    operator, known = reconciler()
    assert operator.on_report("mm", msgspec.json.encode(ONE)) == "mm"
    assert operator.on_report("mm.1", msgspec.json.encode(TWO)) == "mm"
    both = known.report("mm")
    assert both is not None and both.open_orders == 3
    operator.on_report("mm.1", None)
    assert known.report("mm") == ONE
    operator.on_report("mm", None)
    assert known.report("mm") is None


def test_a_report_that_is_no_report_is_skipped() -> None:
    operator, known = reconciler()
    operator.on_report("mm", msgspec.json.encode(ONE))
    for nonsense in (b"", b"{", b'{"open_orders": "two"}', b'{"positions": {"BTCUSDT": "many"}}', b'{"pnl": "x"}'):
        operator.on_report("mm", nonsense)
        assert known.report("mm") == ONE


def test_what_a_pod_finds_wrong_with_the_resource_degrades_it() -> None:
    strategy = {"metadata": {"name": "mm", "generation": 2}, "spec": {"shards": 2}}
    status = compute(strategy, Knowledge(report=combine({0: ONE, 1: TWO})), 1)
    degraded = next(c for c in status["conditions"] if c["type"] == "Degraded")
    assert degraded["status"] == "True" and "bad" in degraded["message"] and "boom" in degraded["message"]
    assert status["holder"] == "a,b" and status["phase"] == "Degraded"


def test_a_strategy_with_a_shard_that_nobody_trades_is_not_ready() -> None:
    strategy = {"metadata": {"name": "mm", "generation": 1}, "spec": {"shards": 2, "replicas": 1}}

    def ready(*pods: int) -> str:
        deployments = [{"spec": {}, "metadata": {"name": str(n)}, "status": {"readyReplicas": n}} for n in pods]
        status = compute(strategy, Knowledge(deployments=deployments), 1)
        return str(next(c["status"] for c in status["conditions"] if c["type"] == "Ready"))

    assert [ready(), ready(1), ready(1, 0), ready(1, 1)] == ["False", "False", "False", "True"]
