// Lines on a canvas, placed by time: a gap in the data is a gap in the line.

const GAP_MS = 6000;
const INK = { line: "#263243", dim: "#9aa8ba", up: "#3ecf8e", down: "#ff7b86", accent: "#6cb2ff" };

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, w, h);
  return { g, w, h };
}

function bounds(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
  if (low === high) { const pad = Math.abs(low) * 1e-5 || 1; low -= pad; high += pad; }
  return [low, high];
}

function stroke(g, points, x, y, colour, width) {
  g.beginPath();
  let before = null;
  for (const [at, value] of points) {
    if (before === null || at - before > GAP_MS) g.moveTo(x(at), y(value));
    else g.lineTo(x(at), y(value));
    before = at;
  }
  g.strokeStyle = colour;
  g.lineWidth = width;
  g.lineJoin = "round";
  g.stroke();
}

function fillBelow(g, points, x, y, bottom, colour) {
  if (points.length < 2) return;
  g.beginPath();
  g.moveTo(x(points[0][0]), bottom);
  for (const [at, value] of points) g.lineTo(x(at), y(value));
  g.lineTo(x(points[points.length - 1][0]), bottom);
  g.closePath();
  g.globalAlpha = 0.1;
  g.fillStyle = colour;
  g.fill();
  g.globalAlpha = 1;
}

// points: [[ms, value]]; fills: [{at, price, side}]; orders: [{price, side}]
export function priceChart(canvas, { points, from, to, digits, fills, orders }) {
  const { g, w, h } = prepare(canvas);
  const right = 82, bottom = 18, top = 8;
  const inside = points.filter((p) => p[0] >= from);
  g.font = "11px system-ui, sans-serif";
  if (inside.length < 2) {
    g.fillStyle = INK.dim;
    g.fillText("waiting for prices", 8, 20);
    return;
  }
  let [low, high] = bounds(inside.map((p) => p[1]));
  const room = (high - low) * 0.12;
  low -= room; high += room;
  const x = (at) => ((at - from) / (to - from)) * (w - right);
  const y = (v) => top + ((high - v) / (high - low)) * (h - top - bottom);
  g.lineWidth = 1;
  for (let k = 0; k <= 4; k++) {
    const v = low + ((high - low) * k) / 4, at = y(v);
    g.strokeStyle = INK.line;
    g.beginPath(); g.moveTo(0, at); g.lineTo(w - right, at); g.stroke();
    g.fillStyle = INK.dim;
    g.fillText(v.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }), w - right + 7, at + 4);
  }
  const columns = Math.max(2, Math.floor((w - right) / 120));
  for (let k = 0; k < columns; k++) {
    const at = from + ((to - from) * k) / columns;
    g.fillText(new Date(at).toISOString().slice(11, 19), x(at) + 2, h - 4);
  }
  g.save();
  g.beginPath(); g.rect(0, 0, w - right, h - bottom); g.clip();
  fillBelow(g, inside, x, y, h - bottom, INK.accent);
  stroke(g, inside, x, y, INK.accent, 1.6);
  g.setLineDash([2, 4]);
  for (const order of orders) {
    g.strokeStyle = INK[order.side === "BUY" ? "up" : "down"];
    g.globalAlpha = 0.75;
    g.beginPath(); g.moveTo(0, y(order.price)); g.lineTo(w - right, y(order.price)); g.stroke();
  }
  g.setLineDash([]);
  g.globalAlpha = 1;
  for (const fill of fills) {
    if (fill.at < from) continue;
    const px = x(fill.at), py = y(fill.price), s = fill.side === "BUY" ? 1 : -1;
    g.fillStyle = INK[fill.side === "BUY" ? "up" : "down"];
    g.beginPath(); g.moveTo(px, py + 2 * s); g.lineTo(px - 5, py + 11 * s); g.lineTo(px + 5, py + 11 * s); g.closePath(); g.fill();
  }
  g.restore();
  const last = inside[inside.length - 1][1];
  g.fillStyle = INK.accent;
  g.fillRect(w - right + 2, y(last) - 9, right - 4, 18);
  g.fillStyle = "#04121f";
  g.fillText(last.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }), w - right + 7, y(last) + 4);
}

export function sparkline(canvas, points) {
  const { g, w, h } = prepare(canvas);
  if (points.length < 2) return;
  const [low, high] = bounds(points.map((p) => p[1]));
  const from = points[0][0], to = points[points.length - 1][0];
  const x = (at) => ((at - from) / Math.max(1, to - from)) * w;
  const y = (v) => 4 + ((high - v) / (high - low)) * (h - 8);
  const colour = points[points.length - 1][1] >= 0 ? INK.up : INK.down;
  fillBelow(g, points, x, y, h, colour);
  stroke(g, points, x, y, colour, 1.4);
}
