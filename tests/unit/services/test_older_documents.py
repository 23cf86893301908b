"""What the former release wrote into the buckets is read by this one, and what this one writes by the former: fields
are only added, with defaults, and unknown ones are passed over. During a rolling upgrade both run side by side."""

from __future__ import annotations

import msgspec
import pytest

from tickmesh.domain.lease import LeaseRecord
from tickmesh.execution.checkpoint import Checkpoint as ExecutionCheckpoint
from tickmesh.execution.halt import HaltState
from tickmesh.kube.desired import hot_document
from tickmesh.kube.status import PodReport
from tickmesh.services.strategy_checkpoint import Checkpoint
from tickmesh.strategy.resource import from_document

FIRST_RELEASE = [
    (LeaseRecord, b'{"holder":"pod-a","epoch":3,"ttl_ms":3000}'),
    (PodReport, b'{"holder":"pod-a","epoch":3,"open_orders":2,"paused":false,"positions":{"BTCUSDT":"0.01"}}'),
    (Checkpoint, b'{"name":"mm","account":"main","venue":"binance","epoch":5,"journal_seq":7}'),
    (ExecutionCheckpoint, b'{"seq":9}'),
    (HaltState, b'{"scopes":{"all":{"state":"HALTED"}},"ctl_seq":4}'),
]


@pytest.mark.parametrize(("kind", "text"), FIRST_RELEASE, ids=lambda x: getattr(x, "__name__", ""))
def test_a_document_of_the_first_release_is_read(kind: type[msgspec.Struct], text: bytes) -> None:
    read = msgspec.json.decode(text, type=kind)
    again = msgspec.json.decode(msgspec.json.encode(read))
    for key, value in msgspec.json.decode(text).items():
        if not isinstance(value, dict):
            assert again[key] == value


@pytest.mark.parametrize(("kind", "text"), FIRST_RELEASE, ids=lambda x: getattr(x, "__name__", ""))
def test_a_document_of_a_later_release_is_read(kind: type[msgspec.Struct], text: bytes) -> None:
    later = {**msgspec.json.decode(text), "a_field_of_later": [1, {"b": 2}]}
    assert msgspec.json.decode(msgspec.json.encode(later), type=kind) == msgspec.json.decode(text, type=kind)


def test_what_the_operator_writes_is_what_a_pod_reads() -> None:
    strategy = {
        "apiVersion": "tickmesh.io/v1alpha1", "kind": "Strategy",
        "metadata": {"name": "mm", "uid": "u", "generation": 4, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"plugin": {"configMap": {"name": "code"}}, "mode": "Live", "account": "main", "replicas": 2,
                 "symbols": ["A", "B"], "shards": 2, "onStale": "Keep", "paused": False, "venue": "",
                 "limits": {"maxPosition": "0.1", "maxOrderNotional": "5000", "maxOpenOrders": 8, "coolDownMs": 200,
                            "maxOrdersPerSecond": 10},
                 "placement": {"sharedMemory": True}, "resources": {}, "parameters": {"x": 1}},
    }  # fmt: skip
    read = from_document(msgspec.json.decode(hot_document(strategy)), "bucket")
    assert (read.name, read.metadata.generation, read.spec.paused, read.spec.shards) == ("mm", 4, True, 2)
    assert read.spec.plugin.file == "/etc/tickmesh/plugin/strategy.py"
