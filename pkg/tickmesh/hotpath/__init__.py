"""The hot path behind one interface: the native half where it is built, else its pure-Python twin.

The twin in ``hotpath.pure`` is the specification; ``HALF`` says which one is in use and ``WHY_PURE`` why it is not
the native one. ``TICKMESH_PURE=1`` forces Python. The choice is made once, at import, and for all parts together:
a process never runs on a mixture.
"""

from __future__ import annotations

import importlib
import os
import site
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tickmesh.domain import client_order_id

INTERFACE = 14
"""Version of the interface between the two halves; a native half of another one is not used."""


FORCED = os.environ.get("TICKMESH_PURE", "") not in ("", "0")
"""Whether somebody asked for the pure half."""


def _load() -> tuple[ModuleType | None, str]:
    if FORCED:
        return None, "TICKMESH_PURE is set"
    reasons = []
    # A wheel carries its own inside the package; one beside it may be left over from another version.
    for name in ("tickmesh.hotpath.tickmesh_native", "tickmesh_native"):
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            reasons.append(f"it is installed and does not load: {error}")
            continue
        interface = getattr(found, "INTERFACE", None)
        if interface == INTERFACE:
            sys.modules["tickmesh_native"] = found  # by this name it is imported below
            return found, ""
        reasons.append(f"what is installed has interface {interface}, not {INTERFACE}: run `make native` again")
    if reasons:
        return None, reasons[0]
    return None, _why_absent() or "it is not installed: run `make native`, which needs a Rust toolchain"


def _why_absent() -> str:
    """What the build noted down when it could not build, beside where the library would be; on one line."""
    for folder in (*map(Path, site.getsitepackages()), Path(__file__).parent):
        note = folder / "tickmesh_native_absent.txt"
        if note.is_file():
            return " ".join(note.read_text(errors="replace").split())
    return ""


native, WHY_PURE = _load()
HALF = "native" if native is not None else "pure"

if TYPE_CHECKING or native is None:
    from tickmesh.hotpath.pure.book import L2Book
    from tickmesh.hotpath.pure.histogram import Histogram
    from tickmesh.hotpath.pure.ids import order_id, trace_parent
    from tickmesh.hotpath.pure.market import APPLIED, BUFFERED, GAP, OLD, OTHER, TOP, TOP_OLD, TRADE, Market
    from tickmesh.hotpath.pure.matching import MatchingBook
    from tickmesh.hotpath.pure.open_orders import OpenOrder, OpenOrders, RecentIds
    from tickmesh.hotpath.pure.order_requests import OrderRequests
    from tickmesh.hotpath.pure.pretrade import PreTradeKernel
    from tickmesh.hotpath.pure.queue_model import QueueModel
    from tickmesh.hotpath.pure.replica import BookReplica
    from tickmesh.hotpath.pure.ring import RingReader, RingWriter
    from tickmesh.hotpath.pure.risk_state import AccountRisk, Leg, RateWindow, SymbolRisk
    from tickmesh.hotpath.pure.signal import LeanSignal
    from tickmesh.hotpath.pure.token_bucket import TokenBucket
    from tickmesh.hotpath.pure.top_of_book import top_of_book
else:
    from tickmesh_native import (
        APPLIED,
        BUFFERED,
        GAP,
        OLD,
        OTHER,
        TOP,
        TOP_OLD,
        TRADE,
        AccountRisk,
        BookReplica,
        Histogram,
        L2Book,
        LeanSignal,
        Leg,
        Market,
        MatchingBook,
        OpenOrder,
        OpenOrders,
        OrderRequests,
        PreTradeKernel,
        QueueModel,
        RateWindow,
        RecentIds,
        RingReader,
        RingWriter,
        SymbolRisk,
        TokenBucket,
        order_id,
        top_of_book,
        trace_parent,
    )

client_order_id.make_with(order_id)

__all__ = [
    "APPLIED",
    "BUFFERED",
    "FORCED",
    "GAP",
    "HALF",
    "OLD",
    "OTHER",
    "TOP",
    "TOP_OLD",
    "TRADE",
    "WHY_PURE",
    "AccountRisk",
    "BookReplica",
    "Histogram",
    "L2Book",
    "LeanSignal",
    "Leg",
    "Market",
    "MatchingBook",
    "OpenOrder",
    "OpenOrders",
    "OrderRequests",
    "PreTradeKernel",
    "QueueModel",
    "RateWindow",
    "RecentIds",
    "RingReader",
    "RingWriter",
    "SymbolRisk",
    "TokenBucket",
    "native",
    "order_id",
    "top_of_book",
    "trace_parent",
]
