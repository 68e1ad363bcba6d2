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
  let listed = null;
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

  function grow(run) {
    run.written.slice(written.length).forEach(([drawn, p]) => {
      const cell = area.add(vocabulary[drawn]);
      cell.style.background = `color-mix(in srgb, ${TINT} ${(60 * (1 - p)).toFixed(0)}%, transparent)`;
    });
    const grew = run.written.length > written.length;
    written = run.written;
    ms.textContent = `${run.ms.toFixed(2)} ms a character`;
    if (grew && !focus.locked) area.node.scrollTop = area.node.scrollHeight;
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

function render({ model, el: parent }) {
  const root = rootOf(parent, "playground");
  let columns = null;
  let timer = null;
  const panels = el("div", { class: "cg-panels" });
  const status = el("span", { class: "cg-status", role: "status" });

  /** Whether more is to come: the last run is not over, nor stopped, nor another's by now. */
  function writing() {
    const { run, stopped, number } = wire.state();
    const answer = model.get("answer");
    const over = answer.number >= number && (answer.error || answer.done || answer.run !== run);
    return Boolean(run) && run !== stopped && wire.live() && !over;
  }

  const wire = ask(model, root, (answer) => {
    if (columns?.run !== answer.run) {
      const made = answer.runs.map((one) => makeColumn(one.name, answer, answer.signs.length));
      columns = { run: answer.run, made };
      clear(panels, ...made.map((column) => column.node));
    }
    answer.runs.forEach((one, index) => columns.made[index].grow(one));
  }, (state) => {
    field.set(state.text);
    temperature.set(state.temperature);
    nucleus.set(state.top_p);
    if (whole(seed.value) !== state.seed) seed.value = state.seed;
    const on = writing();
    root.dataset.writing = String(on);
    button.textContent = on ? "Stop" : "Write";
    status.textContent = on ? "writing" : words(state);
    clearTimeout(timer);
    if (on) timer = setTimeout(goOn);
    else columns.made.forEach((column) => column.finish());
  });

  function words({ run, stopped }) {
    if (!run) return "hover a character for its probability; click locks, Escape unlocks";
    if (run === stopped) return "stopped";
    return wire.live() && !model.get("answer").error ? "written" : "";
  }

  /** Ask for some characters more, unless another display has. */
  function goOn() {
    if (writing() && !wire.waiting()) wire.put();
  }

  function start() {
    const { text, length, temperature: heat, top_p, seed: dice } = wire.state();
    const run = `${Date.now()} ${Math.random()}`; // another than any before, on any page
    wire.put({ text, length, temperature: heat, top_p, seed: dice, run });
  }

  const button = el("button", {
    class: "cg-go",
    click: () => (writing() ? wire.turn({ stopped: wire.state().run }) : start()),
  });
  const { text, limit, settings } = model.get("answer");
  const field = textBox("prompt (Ctrl+Enter writes)", text, limit, wire.turn, true);
  field.node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      start();
    }
  });
  const change = (name) => (value) => wire.turn({ [name]: value });
  const temperature = slider("temperature", {
    min: 0, max: 2, step: 0.05, value: settings.temperature,
  }, change("temperature"));
  const nucleus = slider("top-p", {
    min: 0.05, max: 1, step: 0.05, value: settings.top_p,
  }, change("top_p"));
  const whole = (value) => Math.max(0, Math.round(Number(value) || 0));
  const seed = el("input", {
    type: "number", min: 0, step: 1, value: settings.seed, "aria-label": "seed",
    style: "width:6em", input: () => change("seed")(whole(seed.value)),
  });
  root.prepend(el("fieldset", {}, field.node, el("div", { class: "cg-row" }, temperature.node,
    nucleus.node, el("label", { class: "cg-field" }, "seed", seed), button, status)));
  root.append(panels);
  wire.receive();
  root.dataset.ready = "true";
  return () => { clearTimeout(timer); wire.stop(); };
}

export default { render };
