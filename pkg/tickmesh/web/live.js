// The connection: one WebSocket, a snapshot, then differences. Every message names the one before it; a hole, a
// silence or another gateway's life ends the connection, and the next one begins with a snapshot.

const SILENCE_MS = 3000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 8000;

export class Live {
  constructor({ onState, onStatus, onLogin }) {
    Object.assign(this, { onState, onStatus, onLogin });
    this.state = null;
    this.seq = 0;
    this.retryMs = FIRST_RETRY_MS;
    this.lastMs = 0;
    this.retryAtMs = 0;
    setInterval(() => this.watch(), 250);
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !this.socket) this.connect(); });
    this.connect();
  }

  async connect() {
    clearTimeout(this.timer);
    this.drop();
    try {
      const session = await (await fetch("/api/v1/session", { cache: "no-store" })).json();
      if (!session.authorized) { this.onStatus({ live: false, why: "signed out" }); this.onLogin(); return; }
    } catch { this.again("the gateway does not answer"); return; }
    this.drop();
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/live`);
    this.socket = socket;
    this.lastMs = performance.now();
    socket.onmessage = (event) => { if (socket === this.socket) this.take(JSON.parse(event.data)); };
    socket.onclose = () => { if (socket === this.socket) this.again("the connection was closed"); };
  }

  drop() {
    const socket = this.socket;
    this.socket = null;
    if (socket) { socket.onmessage = socket.onclose = null; socket.close(); }
  }

  again(why) {
    this.drop();
    clearTimeout(this.timer);
    const wait = this.retryMs * (0.75 + Math.random() / 2);
    this.retryMs = Math.min(this.retryMs * 2, LONGEST_RETRY_MS);
    this.retryAtMs = performance.now() + wait;
    this.why = why;
    this.timer = setTimeout(() => this.connect(), wait);
    this.watch();
  }

  take(message) {
    this.lastMs = performance.now();
    const fresh = message.type === "snapshot";
    if (fresh) {
      this.state = message.state;
      this.epoch = message.epoch;
      this.retryMs = FIRST_RETRY_MS;
    } else if (message.previous !== this.seq || message.epoch !== this.epoch) {
      this.again("an update was missing");
      return;
    } else {
      merge(this.state, message.changed);
    }
    this.seq = message.seq;
    this.onState(this.state, message.ts, fresh);
    this.onStatus({ live: true });
  }

  watch() {
    if (this.socket) {
      if (performance.now() - this.lastMs > SILENCE_MS) this.again("nothing came for three seconds");
    } else if (this.retryAtMs) {
      const inS = Math.max(0, Math.ceil((this.retryAtMs - performance.now()) / 1000));
      this.onStatus({ live: false, why: this.why, inS });
    }
  }
}

// Sections of keyed values; null removes a key.
export function merge(state, changed) {
  for (const [section, entries] of Object.entries(changed)) {
    for (const [key, value] of Object.entries(entries)) {
      if (value === null) delete state[section][key];
      else state[section][key] = value;
    }
  }
}
