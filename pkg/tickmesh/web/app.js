// The page: live state in, panels out. What comes from the wire is drawn at most once a frame.

import { priceChart, sparkline } from "/web/chart.js";
import { commands, login } from "/web/command.js";
import { $, decimals, node, put } from "/web/dom.js";
import { Live } from "/web/live.js";
import * as panel from "/web/panel.js";

const KEPT_MS = 15 * 60 * 1000;
const SPANS = [["1 min", 60000], ["5 min", 300000], ["15 min", KEPT_MS]];
const mids = {}, pnl = [];
let state = null, chosen = null, spanMs = SPANS[0][1], nowMs = 0, pending = false, isLive = false;
let seen = { at: 0, events: 0 };

function remember(series, at, value) {
  const last = series[series.length - 1];
  if (!last || at > last[0]) series.push([at, value]);
  while (series.length && series[0][0] < at - KEPT_MS) series.shift();
}

async function recall() {
  const past = await (await fetch("/api/v1/history", { cache: "no-store" })).json();
  const zip = (values) => past.at_ms.map((at, i) => [at, values[i]]).filter((p) => p[1] !== null);
  const join = (old, live) => [...old, ...live.filter((p) => !old.length || p[0] > old[old.length - 1][0])];
  for (const [symbol, values] of Object.entries(past.mid)) mids[symbol] = join(zip(values), mids[symbol] || []);
  pnl.splice(0, pnl.length, ...join(zip(past.pnl), pnl));
}

function take(next, ts, fresh) {
  state = next;
  nowMs = ts / 1e6;
  if (fresh) recall().catch(() => { /* the charts then begin now */ });
  for (const [symbol, price] of Object.entries(state.prices)) remember((mids[symbol] ||= []), nowMs, Number(price.mid));
  if (Object.keys(state.accounts).length) remember(pnl, nowMs, Number(state.totals.all.pnl.total));
  if (!pending) { pending = true; requestAnimationFrame(draw); }
}

function draw() {
  pending = false;
  const names = Object.keys(state.prices).sort();
  if (!names.includes(chosen)) chosen = names[0] || null;
  const price = state.prices[chosen];
  const orders = Object.values(state.orders).filter((o) => o.symbol === chosen && o.price !== null);
  panel.tiles(state);
  panel.services(state);
  panel.halts(state);
  panel.tabs(state, chosen);
  panel.ladder(price, orders);
  panel.positions(state);
  panel.strategies(state);
  panel.openOrders(state);
  panel.recentFills(state);
  panel.stages(state);
  panel.alerts(state);
  charts(price, orders);
  pulse();
}

function charts(price, orders) {
  const points = mids[chosen] || [];
  // A young run fills the chart too, from twenty seconds on.
  const from = Math.max(nowMs - spanMs, Math.min(points.length ? points[0][0] : nowMs, nowMs - 20000));
  const first = points.find((p) => p[0] >= from), last = points[points.length - 1];
  panel.quote(price, first && last ? (last[1] / first[1] - 1) * 100 : 0);
  const fills = Object.values(state.fills).filter((f) => f.symbol === chosen && f.price !== null).map((f) => ({ at: f.at_ns / 1e6, price: Number(f.price), side: f.side }));
  const lines = orders.map((o) => ({ price: Number(o.price), side: o.side }));
  priceChart($("chart"), { points, from, to: nowMs, digits: price ? decimals(price.bid) : 2, fills, orders: lines });
  $("chart").setAttribute("aria-label", price ? `${chosen}, middle price ${price.mid}` : "no prices yet");
  sparkline($("spark"), pnl);
}

function pulse() {
  const { events, gaps } = state.totals.all.market;
  if (nowMs - seen.at < 1000) return;
  const rate = seen.at && events >= seen.events ? ((events - seen.events) / (nowMs - seen.at)) * 1000 : 0;
  put($("pulse"), events ? `${Math.round(rate).toLocaleString("en")} events/s · ${gaps} gap${gaps === 1 ? "" : "s"}` : "no market data");
  seen = { at: nowMs, events };
}

function status({ live, why, inS }) {
  put($("link"), live ? "live" : "connection lost", live ? "pill live" : "pill");
  const sentence = live ? "" : inS === undefined ? `Not connected: ${why}.` : `Connection lost: ${why}. What you see is old. Trying again ${inS ? `in ${inS} s` : "now"} …`;
  $("lost").hidden = live;
  if ($("lost").textContent !== sentence) $("lost").textContent = sentence;
  if (live !== isLive) { isLive = live; document.body.classList.toggle("dead", !live); }
}

function controls() {
  $("tabs").addEventListener("click", (event) => { const tab = event.target.closest("button"); if (tab) { chosen = tab.dataset.symbol; draw(); } });
  $("tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const all = [...$("tabs").children];
    if (!step || !all.length) return;
    const next = all[(all.findIndex((t) => t.dataset.symbol === chosen) + step + all.length) % all.length];
    chosen = next.dataset.symbol;
    draw();
    next.focus();
  });
  $("spans").replaceChildren(...SPANS.map(([name, ms]) => node("button", { type: "button", text: name, "data-ms": ms, "aria-pressed": ms === spanMs })));
  $("spans").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    spanMs = Number(button.dataset.ms);
    for (const other of $("spans").children) other.setAttribute("aria-pressed", String(other === button));
    if (state) draw();
  });
  window.addEventListener("resize", () => { if (state) draw(); });
}

controls();
commands(() => state);
const askForToken = login(() => live.connect());
const live = new Live({ onState: take, onStatus: status, onLogin: () => askForToken() });
