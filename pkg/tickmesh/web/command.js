// Halt, reduce, resume, sign in: dialogs that say what will happen and show the gateway's own sentence when it says no.

import { $, node } from "/web/dom.js";

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function scopes(select, state, only) {
  const found = only || ["all",
    ...Object.keys(state ? state.accounts : {}).map((name) => `account.${name}`),
    ...Object.keys(state ? state.prices : {}).sort().map((name) => `symbol.${name}`),
    ...[...new Set(Object.values(state ? state.orders : {}).map((o) => o.strategy).filter(Boolean))].sort().map((name) => `strategy.${name}`)];
  select.replaceChildren(...found.map((scope) => node("option", { value: scope, text: scope === "all" ? "everything" : scope.replace(".", " ") })));
}

function open(dialog, actor) {
  dialog.querySelector(".problem").textContent = "";
  if (actor) actor.value = actor.value || localStorage.getItem("tickmesh.actor") || "";
  if (!dialog.open) dialog.showModal();
}

// Keeps the dialog open until `work` has succeeded; a refusal is shown in it.
function onSubmit(dialog, work) {
  for (const button of dialog.querySelectorAll(".close")) button.addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = dialog.querySelector(".problem");
    problem.textContent = "";
    try {
      if (await work(event.submitter ? event.submitter.value : "")) dialog.close();
    } catch (error) {
      problem.textContent = error instanceof TypeError ? "The gateway does not answer; use `tickmesh halt` in a terminal." : error.message;
    }
  });
}

export function commands(current) {
  const halt = $("halt-dialog"), resume = $("resume-dialog");
  let word = "";

  $("halt").addEventListener("click", () => { scopes($("halt-scope"), current()); $("halt-reason").value = ""; $("halt-flatten").checked = false; open(halt, $("halt-actor")); });
  onSubmit(halt, async (verb) => {
    const actor = $("halt-actor").value.trim();
    localStorage.setItem("tickmesh.actor", actor);
    const body = { scope: $("halt-scope").value, reason: $("halt-reason").value, actor };
    if (verb === "reduce") await post("/api/v1/control/reduce", body);
    else await post("/api/v1/control/halt", { ...body, flatten: $("halt-flatten").checked });
    return true;
  });

  $("resume").addEventListener("click", () => {
    word = "";
    scopes($("resume-scope"), current(), Object.keys(current().halts));
    $("resume-first").hidden = false;
    $("resume-second").hidden = true;
    $("resume-typed").value = "";
    $("resume-go").textContent = "Continue";
    open(resume, $("resume-actor"));
  });
  onSubmit(resume, async () => {
    const body = { scope: $("resume-scope").value, reason: $("resume-reason").value, actor: $("resume-actor").value.trim() };
    localStorage.setItem("tickmesh.actor", body.actor);
    if (!word) {
      word = (await post("/api/v1/control/resume", body)).confirm;
      $("resume-word").textContent = word;
      $("resume-first").hidden = true;
      $("resume-second").hidden = false;
      $("resume-go").textContent = "Resume trading";
      $("resume-typed").focus();
      return false;
    }
    if ($("resume-typed").value.trim().toLowerCase() !== word) throw new Error(`Type ${word} exactly as shown.`);
    await post("/api/v1/control/resume", { ...body, confirm: word });
    return true;
  });
}

export function login(done) {
  const dialog = $("login-dialog");
  onSubmit(dialog, async () => {
    await post("/api/v1/session", { token: $("login-token").value });
    $("login-token").value = "";
    done();
    return true;
  });
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  return () => open(dialog);
}
