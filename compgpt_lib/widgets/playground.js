// The playground: models complete the same prompt side by side, character by character.
import {
  ask, clear, codeArea, dataTable, el, glyph, makeFocus, percent, rootOf, slider, textBox, tint,
} from "./common.js";

/** One model's column: its text, which grows, and what is known of the character looked at. */
function makeColumn(name, { signs, unknown }, vocabulary) {
  const ms = el("span", { class: "cg-ms" });
  const readout = el("div", { class: "cg-readout" });
  const candidates = el("div", { class: "cg-list" });
  const table = el("div");
  const focus = makeFocus(() => mark());
  const area = codeArea(`what ${name} generates`, signs, unknown, focus);
  let written = [];
  let listed = null;
  area.cells.forEach((cell) => cell.classList.add("cg-prompt"));
  area.node.classList.add("cg-out");

  function mark() {
    area.mark();
    clear(candidates);
    // The newest, until one is looked at.
    const at = (focus.at ?? area.cells.length - 1) - signs.length;
    if (!written[at]) {
      clear(readout, "This character was given.");
      return;
    }
    const [drawn, p, ids, shares, kept] = written[at];
    clear(readout, `${at} `, glyph(vocabulary[drawn]), " had probability ",
      el("b", { class: "cg-p" }, p.toFixed(4)));
    const rows = ids.map((id, rank) => [id, shares[rank], rank < kept]);
    if (!ids.includes(drawn)) rows.push([drawn, p, true]);
    candidates.append(...rows.map(([id, share, keeps]) => el("div", {
      class: `cg-candidate${id === drawn ? " cg-drawn" : ""}`, "data-token": id,
      "data-kept": String(keeps),
    }, glyph(vocabulary[id]),
    el("span", { class: "cg-share", style: `width:${(120 * share).toFixed(1)}px` }),
    ` ${percent(share)}${keeps ? "" : ", cut"}${id === drawn ? ", drawn" : ""}`)));
  }

  function grow(run) {
    const more = run.written.slice(written.length);
    for (const [drawn, p] of more) {
      area.add(vocabulary[drawn]).style.background = tint("improbable", 0.6 * (1 - p));
    }
    written = run.written;
    // What another computer wrote has no time.
    ms.textContent = run.ms ? `${run.ms.toFixed(2)} ms a character` : "";
    if (more.length && !focus.locked) area.node.scrollTop = area.node.scrollHeight;
    mark();
  }

  /** What is written, as a table, once no more comes. */
  function finish() {
    if (listed === written) return;
    listed = written;
    const rows = written.map(([drawn, p], place) => [place, vocabulary[drawn], p.toFixed(4)]);
    clear(table, dataTable("data", ["place", "character", "probability"], rows));
  }

  const node = el("div", { class: "cg-panel cg-narrow", "data-model": name },
    el("div", { class: "cg-row" }, el("span", { class: "cg-title" }, name), ms),
    area.node, readout, candidates, table);
  return { node, grow, finish };
}

const count = ({ runs }) => Math.min(...runs.map(({ written }) => written.length));

/**
 * Put in front of what was written since what was written before, in the model's own answer: there
 * every display finds the whole. Say whether it is whole.
 */
function complete(answer, before) {
  if (!answer.from) return true;
  if (before?.run !== answer.run || count(before) < answer.from) return false;
  answer.runs.forEach((run, index) => {
    run.written = [...before.runs[index].written.slice(0, answer.from), ...run.written];
  });
  Object.assign(answer, { ...before, ...answer, from: 0 });
  return true;
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "playground");
  const { models, vocabulary, limit } = model.get("fixed");
  let text = null; // the newest answer that is whole
  let lacks = false; // a page that was opened while the models write has but what came since
  let columns = [];
  let timer = null;
  const panels = el("div", { class: "cg-panels" });
  const status = el("span", { class: "cg-status", role: "status" });

  /** Whether more is to come: the last run is not over, nor stopped, nor another's by now. */
  function writing() {
    const { run, stopped } = wire.state();
    if (!run || run === stopped || !wire.live()) return false;
    return wire.waiting() || !(wire.failed() || text?.done || text?.run !== run);
  }

  const wire = ask(model, root, (answer) => {
    lacks = !complete(answer, text);
    if (lacks) return;
    if (text?.run !== answer.run) {
      columns = models.map((name) => makeColumn(name, answer, vocabulary));
      clear(panels, ...columns.map((column) => column.node));
    }
    text = answer;
    columns.forEach((column, index) => column.grow(answer.runs[index]));
  }, (state) => {
    field.set(state.text);
    temperature.set(state.temperature);
    nucleus.set(state.top_p);
    if (whole(seed.value) !== state.seed) seed.value = state.seed;
    const on = writing();
    root.dataset.writing = String(on);
    button.textContent = on ? "Stop" : "Write";
    status.textContent = on ? "generating" : words(state);
    clearTimeout(timer);
    if (on || lacks) timer = setTimeout(goOn);
    else columns.forEach((column) => column.finish());
  });

  function words({ run, stopped }) {
    if (!run) return "Hover a character for its probability. Click to lock, Escape to unlock.";
    if (run === stopped) return "stopped";
    return wire.live() && !wire.failed() ? "done" : "";
  }

  /** Ask for what comes after the characters that are there, unless another display has. */
  function goOn() {
    const { run, stopped } = wire.state();
    if (!wire.live() || wire.waiting() || wire.failed()) return;
    if (lacks) wire.put({ have: 0, write: run !== stopped });
    else if (writing()) wire.put({ have: count(text), write: true });
  }

  function start() {
    const { text: prompt, length, temperature: heat, top_p, seed: dice } = wire.state();
    const run = `${Date.now()} ${Math.random()}`; // another than any before, on any page
    const settings = { temperature: heat, top_p, seed: dice };
    wire.put({ text: prompt, length, ...settings, run, have: 0, write: true });
  }

  const button = el("button", {
    class: "cg-go",
    click: () => (writing() ? wire.turn({ stopped: wire.state().run }) : start()),
  });
  const first = model.get("request");
  const field = textBox("prompt (Ctrl+Enter: Write)", first.text, limit, (part) => wire.turn(part),
    true);
  field.node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    }
  });
  const change = (name) => (value) => wire.turn({ [name]: value });
  const temperature = slider("temperature", {
    min: 0, max: 2, step: 0.05, value: first.temperature,
  }, change("temperature"));
  const nucleus = slider("top-p", {
    min: 0.05, max: 1, step: 0.05, value: first.top_p,
  }, change("top_p"));
  const whole = (value) => Math.max(0, Math.round(Number(value) || 0));
  const seed = el("input", {
    type: "number", min: 0, step: 1, value: first.seed, "aria-label": "seed",
    style: "width:6em", input: () => change("seed")(whole(seed.value)),
  });
  root.prepend(el("fieldset", {}, field.node, el("div", { class: "cg-row" }, temperature.node,
    nucleus.node, el("label", { class: "cg-field" }, "seed", seed), button, status)));
  root.append(panels);
  wire.begin();
  return () => { clearTimeout(timer); wire.stop(); };
}

export default { render };
