"""Signals of one event, from all plugins, become a short ordered list of wishes.

In: proposals (strategy, account, signal). Out: at most ``limit`` proposals, opposing directional ones netted, those
of one direction merged, quotes reduced to the last word, the most urgent first. Knows no price and no position.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tickmesh.domain.enums import Side
from tickmesh.strategy.interface import Signal


class Proposal(NamedTuple):
    """A signal and whose it is. ``account`` with ``venue`` says where opposing wishes would meet."""

    strategy: str
    account: str
    venue: str
    signal: Signal


class Aggregated(NamedTuple):
    """``kept`` in order of priority; ``dropped`` with one sentence each, for the record."""

    kept: list[Proposal]
    dropped: list[tuple[Proposal, str]]


def aggregate(proposals: list[Proposal], *, limit: int) -> Aggregated:
    """Net, merge, order and bound the proposals that one event caused.

    The net quantity of every symbol is conserved by netting: what is taken from the buyers is taken from the
    sellers. A withdrawal always goes first and is never cut off by ``limit``.
    """
    if len(proposals) == 1 or _only_quotes(proposals, limit):
        return Aggregated(sorted(proposals, key=_rank), [])
    quotes: dict[tuple[str, str, str], Proposal] = {}
    directional: dict[tuple[str, str], Proposal] = {}
    dropped: list[tuple[Proposal, str]] = []
    for proposal in proposals:
        signal = proposal.signal
        if signal.quote or signal.withdraw:
            key = (proposal.strategy, signal.symbol, signal.quote)
            if key in quotes:
                dropped.append((quotes[key], "a later signal speaks for the same quote"))
            quotes[key] = proposal
            continue
        own = (proposal.strategy, signal.symbol)
        earlier = directional.pop(own, None)
        merged = proposal if earlier is None else _join(earlier, proposal)
        if merged is not None:
            directional[own] = merged
        elif earlier is not None:
            dropped += [(earlier, "opposing signals cancel out"), (proposal, "opposing signals cancel out")]
    kept = list(quotes.values()) + _net_between(list(directional.values()), dropped)
    kept.sort(key=_rank)
    calls = [p for p in kept if p.signal.withdraw]
    places = [p for p in kept if not p.signal.withdraw]
    dropped += [(p, f"more than {limit} orders at one event") for p in places[limit:]]
    return Aggregated(calls + places[:limit], dropped)


def _only_quotes(proposals: list[Proposal], limit: int) -> bool:
    """Whether nothing is to be netted, merged or cut off: every one speaks for a quote of its own."""
    if len(proposals) > limit:
        return False
    seen = set()
    for strategy, _, _, signal in proposals:
        if not signal.quote:
            return False
        seen.add((strategy, signal.symbol, signal.quote))
    return len(seen) == len(proposals)


def _rank(proposal: Proposal) -> tuple[int, int, float]:
    signal = proposal.signal
    return (not signal.withdraw, -int(signal.urgency), -signal.strength)


def _join(first: Proposal, second: Proposal) -> Proposal | None:
    """One directional signal for two of one strategy and symbol; None when nothing is left."""
    a, b = first.signal, second.signal
    net = int(a.side) * a.qty_lots + int(b.side) * b.qty_lots
    if net == 0:
        return None
    if a.side is b.side:
        leading = a if _rank(first) <= _rank(second) else b
        prices = [s.price_ticks for s in (a, b) if s.price_ticks]
        return first._replace(
            signal=msgspec.structs.replace(
                leading,
                qty_lots=abs(net),
                strength=max(a.strength, b.strength),
                price_ticks=(max(prices) if a.side is Side.BUY else min(prices)) if prices else 0,
                reduce_only=a.reduce_only and b.reduce_only,
                ttl_ns=min(a.ttl_ns, b.ttl_ns),
                rest_ns=min(a.rest_ns, b.rest_ns),
                reason="; ".join(r for r in (a.reason, b.reason) if r),
            )
        )
    winner, loser = (a, b) if (net > 0) == (a.side is Side.BUY) else (b, a)
    strength = max(winner.strength - loser.strength * loser.qty_lots / winner.qty_lots, 0.0)
    return first._replace(signal=msgspec.structs.replace(winner, qty_lots=abs(net), strength=strength))


def _net_between(proposals: list[Proposal], dropped: list[tuple[Proposal, str]]) -> list[Proposal]:
    """Different strategies that want opposite things on one account at once do not trade against each other.

    The stronger side gives up, weakest signal first, as much as the weaker side wants. Signals that reduce a
    position are left alone: getting out has precedence over fees.
    """
    groups: dict[tuple[str, str, str], list[Proposal]] = {}
    for proposal in proposals:
        groups.setdefault((proposal.account, proposal.venue, proposal.signal.symbol), []).append(proposal)
    kept: list[Proposal] = []
    for group in groups.values():
        free = [p for p in group if not p.signal.reduce_only]
        kept += [p for p in group if p.signal.reduce_only]
        sides = {side: [p for p in free if p.signal.side is side] for side in Side}
        matched = min(sum(p.signal.qty_lots for p in own) for own in sides.values())
        for own in sides.values():
            left = matched
            for proposal in sorted(own, key=_rank, reverse=True):
                taken = min(left, proposal.signal.qty_lots)
                left -= taken
                rest = proposal.signal.qty_lots - taken
                if taken and not rest:
                    dropped.append((proposal, "netted against an opposing signal of another strategy"))
                else:
                    kept.append(
                        proposal._replace(signal=msgspec.structs.replace(proposal.signal, qty_lots=rest))
                        if taken
                        else proposal
                    )
    return kept
