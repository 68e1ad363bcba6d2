// The playground: models complete the same prompt side by side, character by character.
import {
  ask, clear, codeArea, dataTable, el, glyph, makeFocus, percent, rootOf, slider, textBox,
} from "./common.js";

const TINT = "#D55E00";

/** One model's column: its text, which grows, and what is known of the character looked at. */
function makeColumn(name, initial, given) {
  const { signs, unknown, vocabulary } = initial;
  const ms = el("span", { class: "cg-ms" });
  const readout = el("div", { class: "cg-readout" });
  const candidates = el("div", { class: "cg-list" });
  const table = el("div");
  const focus = makeFocus(() => mark());
  const area = codeArea(`what ${name} writes`, signs, unknown, focus);
  let written = [];
  area.cells.forEach((cell) => cell.classList.add("cg-prompt"));
  area.node.classList.add("cg-out");

  function mark() {
    area.mark();
    clear(candidates);
    const at = focus.at ?? given + written.length - 1; // the newest, until one is looked at
    const one = written[at - given];
    if (!one) {
      clear(readout, "This character was given.");
      return;
    }
    const [drawn, p, likeliest] = one;
    clear(readout, `${at - given} `, glyph(vocabulary[drawn]), " had probability ", el("b", { class: "cg-p" }, p.toFixed(4)));
    const rows = likeliest.some(([v]) => v === drawn) ? likeliest : [...likeliest, [drawn, p, true]];
    candidates.append(...rows.map(([v, share, kept]) => el("div", {
      class: `cg-candidate${v === drawn ? " cg-drawn" : ""}`, "data-token": v, "data-kept": String(kept),
    }, glyph(vocabulary[v]), el("span", { class: "cg-share", style: `width:${(120 * share).toFixed(1)}px` }),
    ` ${percent(share)}${kept ? "" : ", cut"}${v === drawn ? ", drawn" : ""}`)));
  }

  function grow(run, done) {
    run.written.slice(written.length).forEach(([drawn, p]) => {
      const cell = area.add(vocabulary[drawn]);
      cell.style.background = `color-mix(in srgb, ${TINT} ${(60 * (1 - p)).toFixed(0)}%, transparent)`;
    });
    const grew = run.written.length > written.length;
    written = run.written;
    ms.textContent = `${run.ms.toFixed(2)} ms a character`;
    if (grew && !focus.locked) area.node.scrollTop = area.node.scrollHeight;
    if (done) {
      const rows = written.map(([drawn, p], place) => [place, vocabulary[drawn], p.toFixed(4)]);
      clear(table, dataTable("data", ["place", "character", "probability"], rows));
    }
    mark();
  }

  const node = el("div", { class: "cg-panel cg-narrow", "data-model": name },
    el("div", { class: "cg-row" }, el("span", { class: "cg-title" }, name), ms),
    area.node, readout, candidates, table);
  return { node, grow };
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "playground");
  const initial = model.get("answer");
  let settings = { ...initial.settings };
  let text = { text: initial.text };
  let columns = null;
  let writing = false;
  let run = 0;
  let late = null;
  const panels = el("div", { class: "cg-panels" });
  const status = el("span", { class: "cg-status", role: "status" });

  const received = () => {
    clearTimeout(late);
    if (writing) status.textContent = "writing";
    if (model.get("answer").error) say(false, "");
  };
  model.on("change:answer", received); // before what `ask` calls, which may ask again
  const wire = ask(model, root, (answer) => {
    if (columns?.run !== answer.run) {
      const made = answer.runs.map((one) => makeColumn(one.name, answer, answer.signs.length));
      columns = { run: answer.run, made };
      clear(panels, ...made.map((column) => column.node));
    }
    answer.runs.forEach((one, index) => columns.made[index].grow(one, answer.done));
    if (!writing) return;
    if (answer.done) say(false, "written");
    else put();
  });

  function put() {
    clearTimeout(late);
    late = setTimeout(() => { status.textContent = "waiting for Python: a cell is running"; }, 2000);
    wire.put({ ...text, ...settings, run });
  }

  /** Begin or end: the button and the status follow. */
  function say(begin, words) {
    writing = begin;
    clearTimeout(late);
    root.dataset.writing = String(begin);
    button.textContent = begin ? "Stop" : "Write";
    status.textContent = words;
  }

  function start() {
    run = `${Date.now()} ${Math.random()}`; // another than any before, on any page
    say(true, "writing");
    put();
  }

  const button = el("button", {
    class: "cg-go", click: () => (writing ? say(false, "stopped") : start()),
  }, "Write");
  const field = textBox("prompt (Ctrl+Enter writes)", initial.text, initial.limit, (typed) => { text = typed; }, true);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    }
  });
  const change = (name) => (value) => { settings = { ...settings, [name]: value }; };
  const temperature = slider("temperature", {
    min: 0, max: 2, step: 0.05, value: settings.temperature,
  }, change("temperature"));
  const nucleus = slider("top-p", { min: 0.05, max: 1, step: 0.05, value: settings.top_p }, change("top_p"));
  const seed = el("input", {
    type: "number", min: 0, step: 1, "aria-label": "seed", style: "width:6em",
    input: () => change("seed")(Math.max(0, Math.round(Number(seed.value) || 0))),
  });
  seed.value = settings.seed;
  root.prepend(field, el("div", { class: "cg-row" }, temperature.node, nucleus.node,
    el("label", { class: "cg-field" }, "seed", seed), button, status));
  root.append(panels);
  wire.receive();
  say(false, "hover a character for its probability; click locks, Escape unlocks");
  root.dataset.ready = "true";
  return () => { writing = false; clearTimeout(late); model.off("change:answer", received); wire.stop(); };
}

export default { render };
