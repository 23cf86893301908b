// Small words for building the page. Text only ever becomes text: nothing from the wire is parsed as HTML.

export const $ = (id) => document.getElementById(id);

export function node(tag, { cls, text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (cls) made.className = cls;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function put(target, text, cls) {
  if (target.textContent !== text) target.textContent = text;
  if (cls !== undefined && target.className !== cls) target.className = cls;
}

export const cell = (value, cls) => ({ value: value === null || value === undefined ? "–" : String(value), cls: cls || "" });

// Draw a table anew only when what it says has changed.
export function table(target, caption, heads, rows, empty) {
  const says = JSON.stringify([heads, rows]);
  if (target.dataset.says === says) return;
  target.dataset.says = says;
  const head = node("tr", {}, ...heads.map((h) => node("th", { scope: "col", text: h.value, cls: h.cls })));
  const body = rows.map((row) => node("tr", {}, ...row.map((c) => node("td", { text: c.value, cls: c.cls }))));
  if (!body.length) body.push(node("tr", {}, node("td", { cls: "dim", colspan: heads.length, text: empty })));
  target.replaceChildren(node("caption", { text: caption }), node("thead", {}, head), node("tbody", {}, ...body));
}

// Cents decide: what rounds to nothing is shown as nothing.
const cents = (value) => Math.round(Number(value) * 100) / 100;
export const tone = (value) => (cents(value) > 0 ? "up" : cents(value) < 0 ? "down" : "dim");
export const lean = (value) => (Number(value) > 0 ? "up" : Number(value) < 0 ? "down" : "dim");
export const money = (value) => {
  const n = cents(value);
  return (n > 0 ? "+" : n < 0 ? "−" : "") + Math.abs(n).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
};
// Decimals travel as exact text; here they are only shortened for the eye.
export const trim = (text) => (String(text).includes(".") ? String(text).replace(/\.?0+$/, "") : String(text)).replace("-", "−");
export const decimals = (text) => (String(text).split(".")[1] || "").length;
export const grouped = (value, digits) => Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const micros = (us) => (us >= 100000 ? `${(us / 1e6).toFixed(2)} s` : us >= 1000 ? `${(us / 1000).toFixed(us >= 10000 ? 0 : 1)} ms` : `${Math.round(us)} µs`);
export const time = (ns) => new Date(Number(ns) / 1e6).toISOString().slice(11, 19);
