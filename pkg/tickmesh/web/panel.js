// Each part of the page: state in, DOM out. Nothing here remembers anything but what is on the screen.

import { $, cell, decimals, grouped, lean, micros, money, node, put, table, time, tone, trim } from "/web/dom.js";

const head = (...names) => names.map((n) => (Array.isArray(n) ? cell(n[0], n[1]) : cell(n)));
const side = (name) => cell(name, name === "BUY" ? "up" : "down");
const LEVELS = 9;

export function tiles(state) {
  const { pnl, orders, fills, maker_fills: maker } = state.totals.all;
  put($("pnl"), money(pnl.total), `big num ${tone(pnl.total)}`);
  put($("split"), `${money(pnl.realized)} / ${money(pnl.unrealized)}`);
  put($("costs"), `fees ${money(-pnl.commission)} · funding ${money(pnl.funding)}`);
  const accounts = Object.values(state.accounts);
  put($("equity"), accounts.length ? grouped(accounts.reduce((sum, a) => sum + Number(a.equity), 0), 2) : "–");
  put($("available"), accounts.length ? `available ${grouped(accounts.reduce((sum, a) => sum + Number(a.available), 0), 2)}` : "no account yet");
  put($("orders"), String(orders.open));
  const done = Object.entries(orders.by_state).filter(([, n]) => n).map(([s, n]) => `${n} ${s.toLowerCase().replace("_", " ")}`);
  put($("states"), done.join(" · ") || "none yet");
  $("states").title = done.join("\n");
  put($("fills"), String(fills));
  put($("maker"), fills ? `${Math.round((100 * maker) / fills)} % as maker` : "none yet");
  const took = state.latency_us.tick_to_order;
  put($("tick"), took && took.n ? micros(took.p50) : "–");
  put($("tick99"), took && took.n ? `p99 ${micros(took.p99)} · ${took.n} orders` : "no order yet");
}

export function services(state) {
  const entries = Object.entries(state.services).sort();
  const says = JSON.stringify(entries);
  const list = $("services");
  if (list.dataset.says === says) return;
  list.dataset.says = says;
  list.replaceChildren(...entries.map(([name, service]) => {
    const why = Object.values(service.because).join("; ") || "not ready";
    const item = node("li", { text: name, cls: service.ready ? "" : "bad", title: service.ready ? "ready" : why });
    item.setAttribute("aria-label", service.ready ? `${name} ready` : `${name} not ready: ${why}`);
    return item;
  }));
}

export function halts(state) {
  const found = Object.values(state.halts);
  $("halted").hidden = !found.length;
  put($("halted-text"), found.map((h) => `${h.state}: ${h.scope === "all" ? "everything" : h.scope}, by ${h.actor}${h.reason ? ` (${h.reason})` : ""}`).join(" · "));
}

export function tabs(state, chosen) {
  const names = Object.keys(state.prices).sort();
  const bar = $("tabs");
  if (bar.dataset.names !== names.join()) {
    bar.dataset.names = names.join();
    bar.replaceChildren(...names.map((name) => node("button", { type: "button", role: "tab", "data-symbol": name, text: name })));
  }
  for (const button of bar.children) {
    button.setAttribute("aria-selected", String(button.dataset.symbol === chosen));
    button.tabIndex = button.dataset.symbol === chosen ? 0 : -1;
  }
}

export function quote(price, change) {
  const target = $("quote");
  if (!price) { target.replaceChildren(node("span", { text: "no prices yet: the feed is starting or cannot reach the venue" })); return; }
  const digits = decimals(price.bid);
  const bps = (Number(price.spread) / Number(price.mid)) * 1e4;
  target.replaceChildren(
    node("b", { text: grouped(price.mid, digits) }),
    node("span", { text: `${change >= 0 ? "▲" : "▼"} ${Math.abs(change).toFixed(3)} %`, cls: change >= 0 ? "up" : "down" }),
    node("span", { text: `bid ${grouped(price.bid, digits)}` }),
    node("span", { text: `ask ${grouped(price.ask, digits)}` }),
    node("span", { text: `spread ${trim(price.spread)} (${bps.toFixed(2)} bp)` }),
    node("span", { text: price.stale ? `stale for ${(price.age_ms / 1000).toFixed(0)} s` : price.age_ms > 5000 ? `${(price.age_ms / 1000).toFixed(0)} s old` : "", cls: "warning" }),
  );
}

export function ladder(price, orders) {
  const target = $("ladder");
  if (!price || !price.bids.length) { target.replaceChildren(); return; }
  const asks = price.asks.slice(0, LEVELS).reverse(), bids = price.bids.slice(0, LEVELS);
  const deepest = Math.max(...[...asks, ...bids].map((level) => Number(level[1])), 1e-12);
  const ours = new Set(orders.map((o) => Number(o.price)));
  const digits = decimals(price.bid);
  const line = ([at, quantity], cls) => {
    const bar = node("i");
    bar.style.width = `${Math.max(1, Math.round((Number(quantity) / deepest) * 100))}%`;
    const mine = ours.has(Number(at));
    const first = node("td", { cls, text: grouped(at, digits) + (mine ? " ●" : "") });
    if (mine) first.title = "our order rests here";
    return node("tr", {}, first, node("td", { cls }, bar, node("span", { text: trim(quantity) })));
  };
  const middle = node("tr", { cls: "middle" }, node("td", { text: `spread ${trim(price.spread)}` }), node("td", { text: `imbalance ${price.imbalance.toFixed(2)}` }));
  const heading = node("tr", {}, node("th", { scope: "col", text: "Price" }), node("th", { scope: "col", text: "Quantity" }));
  target.replaceChildren(node("caption", { text: "Order book, asks above bids" }), node("thead", {}, heading),
    node("tbody", {}, ...asks.map((l) => line(l, "down")), middle, ...bids.map((l) => line(l, "up"))));
}

export function positions(state) {
  const rows = Object.values(state.positions).filter((p) => Number(p.quantity)).map((p) => [
    cell(p.symbol + (p.position_side === "BOTH" ? "" : ` ${p.position_side}`)), cell(trim(p.quantity), lean(p.quantity)), cell(grouped(p.entry_price, 2)),
    cell(grouped(p.mark_price, 2), "wide"), cell(money(p.unrealized_pnl), tone(p.unrealized_pnl)), cell(money(p.realized_pnl), tone(p.realized_pnl)),
    cell(p.leverage ? `${p.leverage}×` : "–", "wide")]);
  table($("positions"), "Positions", head("Symbol", "Quantity", "Entry", ["Mark", "wide"], "Open P&L", "Realised", ["Leverage", "wide"]), rows, "flat: no position is open");
}

export function strategies(state) {
  const rows = Object.values(state.strategies).sort((a, b) => (a.strategy < b.strategy ? -1 : 1)).map((s) => [
    cell(s.strategy), cell(s.open_orders), cell(s.fills), cell(s.fills ? `${Math.round((100 * s.maker_fills) / s.fills)} %` : "–", "wide"),
    cell(money(s.realized_pnl), tone(s.realized_pnl)), cell(money(-s.commission), "wide dim"), cell(money(s.net_pnl), tone(s.net_pnl))]);
  table($("strategies"), "Strategies", head("Strategy", "Open", "Fills", ["Maker", "wide"], "Realised", ["Fees", "wide"], "Net"), rows, "no strategy has traded yet");
}

export function openOrders(state) {
  const rows = Object.values(state.orders).sort((a, b) => b.updated_ns - a.updated_ns).map((o) => [
    cell(o.symbol), side(o.side), cell(o.price === null ? "–" : grouped(o.price, decimals(o.price))), cell(trim(o.quantity)), cell(trim(o.filled), "wide"),
    cell(o.state.toLowerCase().replace("_", " "), o.state === "UNKNOWN" ? "warning" : ""), cell(o.strategy || (o.external ? "external" : "–"), "wide")]);
  table($("open"), "Open orders", head("Symbol", "Side", "Price", "Quantity", ["Filled", "wide"], "State", ["Strategy", "wide"]), rows, "no order is open");
}

export function recentFills(state) {
  const rows = sortedFills(state).slice(0, 40).map((f) => [
    cell(time(f.at_ns), "dim"), cell(f.symbol), side(f.side), cell(f.price === null ? "–" : grouped(f.price, decimals(f.price))), cell(trim(f.quantity)),
    cell(f.maker ? "maker" : "taker", f.maker ? "wide dim" : "wide warning"), cell(money(f.realized_pnl), tone(f.realized_pnl))]);
  table($("recent"), "Last fills", head("Time", "Symbol", "Side", "Price", "Quantity", ["Role", "wide"], "P&L"), rows, "no fill yet");
}

export const sortedFills = (state) => Object.values(state.fills).sort((a, b) => b.at_ns - a.at_ns || b.trade_id - a.trade_id);

const STAGES = {
  feed: "feed: frame to publish", transport: "transport to strategy", strategy: "strategy decision", intent: "intent to execution",
  validation: "validation and risk", send: "hand to the socket", tick_to_order: "tick to order", venue_ack: "venue's answer",
};

export function stages(state) {
  const target = $("stages");
  const entries = Object.keys(STAGES).filter((name) => state.latency_us[name]).map((name) => [name, state.latency_us[name]]);
  const says = JSON.stringify(entries);
  if (target.dataset.says === says) return;
  target.dataset.says = says;
  const longest = Math.max(1, ...entries.map(([, q]) => q.p99));
  const share = (us) => `${us ? Math.max(1.5, (Math.log10(1 + us) / Math.log10(1 + longest)) * 100) : 0}%`;
  const rows = entries.map(([name, q]) => {
    const p99 = node("i", { cls: "p99" }), p50 = node("i");
    p99.style.width = share(q.p99);
    p50.style.width = share(q.p50);
    const cls = name === "tick_to_order" ? "accent" : "";
    return node("tr", {}, node("td", { text: STAGES[name], cls }), node("td", { text: q.n ? micros(q.p50) : "–", cls }), node("td", { text: q.n ? micros(q.p99) : "–", cls }),
      node("td", { cls: "wide" }, node("div", { cls: "meter", "aria-hidden": "true" }, p99, p50)));
  });
  const heading = node("tr", {}, ...["Stage", "p50", "p99"].map((h) => node("th", { scope: "col", text: h })), node("th", { scope: "col", cls: "wide", text: "log scale" }));
  target.replaceChildren(node("caption", { text: "Latency of our orders by stage" }), node("thead", {}, heading), node("tbody", {}, ...rows));
}

export function alerts(state) {
  const rows = Object.values(state.alerts).sort((a, b) => b.at_ns - a.at_ns).map((a) => [
    cell(time(a.at_ns), "dim"), cell(a.severity, a.severity === "critical" ? "down" : a.severity === "warning" ? "warning" : "dim"), cell(a.source, "wide"), cell(a.text, "text")]);
  table($("alerts"), "Alerts", head("Time", "Severity", ["From", "wide"], "What"), rows, "none");
}
