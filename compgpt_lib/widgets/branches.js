// The branch explorer: logits = w * first + (1 - w) * second + bias, taken apart by character.
import {
  ask, clear, codeArea, counted, dataTable, el, glyph, makeFocus, percent, rootOf, slider,
  softmax, textBox, tint, unpack,
} from "./common.js";

const WAYS = ["both", "first", "second"];
const mean = (values) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
const colorOf = (branch) => `var(--cg-${branch})`;

/** Everything about one prediction at a weight w: logits, parts, probabilities, losses. */
function predict(rows, bias, w, came) {
  const first = Float64Array.from(rows.first, (value) => w * value);
  const second = Float64Array.from(rows.second, (value) => (1 - w) * value);
  const add = (...parts) => Float64Array.from(bias, (value, v) =>
    parts.reduce((sum, part) => sum + part[v], value));
  const logits = add(first, second);
  const p = { both: softmax(logits), first: softmax(add(first)), second: softmax(add(second)) };
  const centre = { first: mean(first), second: mean(second) };
  const push = (v) => [first[v] - centre.first, second[v] - centre.second];
  const decided = (v) => (push(v)[0] > push(v)[1] ? "first" : "second");
  const loss = (way) => -Math.log(Math.max(p[way][came], 1e-300));
  return { first, second, logits, p, came, push, decided, loss };
}

/** Each branch's push for the characters that came, as bars. */
function pushChart(pushes, focus) {
  const high = Math.max(1, ...pushes.flat());
  const low = Math.min(0, ...pushes.flat());
  const [wide, tall] = [Math.max(440, 9 * pushes.length), 100];
  const y = (value) => 4 + ((high - value) / (high - low)) * (tall - 8);
  const svg = el("svg", {
    class: "cg-chart", viewBox: `0 0 ${wide} ${tall}`, width: wide, role: "img",
    "aria-label": "each branch's push for the character that came",
  });
  pushes.forEach((pair, t) => pair.forEach((value, index) => svg.append(el("rect", {
    x: 9 * t + 4 * index, width: 3.5, y: Math.min(y(0), y(value)),
    height: Math.max(0.5, Math.abs(y(0) - y(value))), fill: colorOf(WAYS[index + 1]),
    "data-at": t + 1,
  }))));
  const words = `push for the character that came, ${low.toFixed(1)} to ${high.toFixed(1)}: `
    + "first branch blue, second orange";
  svg.append(el("line", { x1: 0, x2: wide, y1: y(0), y2: y(0), class: "cg-axis" }));
  svg.addEventListener("pointermove", (event) => {
    const at = event.target.dataset?.at;
    if (at) focus.look(Number(at));
  });
  return el("div", {}, svg, el("div", { class: "cg-hint" }, words)); // words do not shrink with it
}

/** A button for each part, in groups: the whole branch, then each block with its heads. */
function knockButtons(parts, toggle) {
  const button = ({ part, name, short }) => el("button", {
    "data-part": part, "aria-label": `knock out ${name}`, title: part, click: () => toggle(part),
  }, short);
  const line = ({ part: whole }) => el("div", { class: "cg-thumbs" },
    ...parts.filter(({ part }) => part === whole || part.startsWith(`${whole}.heads.`))
      .map(button));
  const branches = parts.filter(({ part }) => part.split(".").length === 2);
  return branches.map((branch) => el("div", { class: "cg-group" },
    ...parts.filter(({ part }) => part.startsWith(branch.part) && !part.includes(".heads."))
      .map(line)));
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "branch explorer");
  const fixed = model.get("fixed");
  const name = (v) => glyph(fixed.vocabulary[v]);
  let data = null;
  let w = null;
  let drawn = false;
  let predictions = [];
  let candidate = null;
  let area = null;
  const focus = makeFocus(() => { candidate = null; mark(); });
  const summary = el("div", { class: "cg-readout cg-summary", "aria-live": "polite" });
  const code = el("div");
  const readout = el("div", { class: "cg-readout", "aria-live": "polite" });
  const bars = el("div", { class: "cg-candidates" });
  const chart = el("div");
  const table = el("div");

  function recompute() {
    predictions = data.rows.map((rows, t) => predict(rows, data.bias, w, data.ids[t + 1]));
    const scored = predictions.slice(0, -1);
    const loss = (way) => el("b", { class: way === "both" ? "cg-loss" : `cg-${way}` },
      scored.length ? mean(scored.map((one) => one.loss(way))).toFixed(3) : "none");
    const intact = el("b", { class: "cg-intact" }, data.intact?.toFixed(3) ?? "none");
    clear(summary, "loss in nats per character: ", loss("both"),
      ...(data.knocked.length ? [", of the whole model ", intact] : []),
      "; lone first branch ", loss("first"), ", lone second branch ", loss("second"));
    scored.forEach((one, t) => {
      const [a, b] = one.push(one.came);
      const branch = one.decided(one.came);
      const cell = area.cells[t + 1];
      cell.dataset.decided = branch;
      cell.style.background = tint(branch, Math.min(0.7, 0.14 * Math.abs(a - b)));
      const line = branch === "first" ? "solid" : "dotted"; // told apart without colour as well
      cell.style.borderBottom = `2px ${line} ${colorOf(branch)}`;
    });
    clear(chart, pushChart(scored.map((one) => one.push(one.came)), focus));
    clear(table, classTable(scored));
    mark();
  }

  function classTable(scored) {
    const rows = fixed.classes.map((kind, index) => {
      const those = scored.filter((_, t) => data.classes[t + 1] === index);
      const losses = WAYS.map((way) => mean(those.map((one) => one.loss(way))).toFixed(3));
      const first = mean(those.map((one) => Number(one.decided(one.came) === "first")));
      return [kind, those.length, ...losses, percent(first)];
    });
    return dataTable("what each branch is good at: loss by class of character",
      ["class", "characters", "both", "first alone", "second alone", "first decided"],
      rows.filter(([, count]) => count), table.firstChild?.open ?? true);
  }

  /** The looked-at character: how its logit came about, and what else might have come. */
  function mark() {
    if (!area) return;
    area.mark();
    clear(bars);
    const at = focus.at;
    if (at === 0) {
      clear(readout, "The first character is given: nothing predicts it.");
      return;
    }
    const one = predictions[at - 1];
    const real = at < data.ids.length;
    const order = Array.from(one.p.both.keys()).sort((i, j) => one.p.both[j] - one.p.both[i]);
    const chosen = candidate ?? (real ? one.came : order[0]);
    const [a, b] = one.push(chosen);
    const number = (value, kind) => el("b", { class: `cg-${kind}` }, value.toFixed(3));
    const losses = () => WAYS.map((way) =>
      `${way === "both" ? "loss" : `${way} alone`} ${one.loss(way).toFixed(3)}`).join(", ");
    clear(readout, `${at} `, name(chosen), ": logit ", number(one.logits[chosen], "logit"),
      " = first ", number(one.first[chosen], "part-first"),
      " + second ", number(one.second[chosen], "part-second"),
      " + bias ", number(data.bias[chosen], "part-bias"),
      `; probability ${percent(one.p.both[chosen])}`, el("br"),
      `more than what each adds to all characters: first ${a.toFixed(2)}, second `,
      `${b.toFixed(2)}, so the ${one.decided(chosen)} branch decided`, el("br"),
      ...(real ? [name(one.came), ` came: ${losses()}`] : ["what comes next is not in the text"]));
    const listed = order.slice(0, 6);
    if (real && !listed.includes(one.came)) listed.push(one.came);
    const widest = Math.max(...listed.flatMap((v) => one.push(v).map(Math.abs)), 1);
    const bar = (value, branch) => el("span", {
      class: "cg-push", style: `width:${((90 * Math.abs(value)) / widest).toFixed(1)}px;`
        + `background:${colorOf(branch)};opacity:${value < 0 ? 0.35 : 1}`,
    });
    bars.append(...listed.map((v) => {
      const [x, y] = one.push(v);
      const p = percent(one.p.both[v]);
      return el("button", {
        "aria-pressed": String(v === chosen), "data-token": v,
        "aria-label":
          `${fixed.vocabulary[v]}: ${p}, first ${x.toFixed(2)}, second ${y.toFixed(2)}`,
        click: () => { candidate = v; mark(); },
      }, name(v), ` ${p}${real && v === one.came ? " (came)" : ""} `,
      bar(x, "first"), bar(y, "second"));
    }));
  }

  const wire = ask(model, root, (answer) => {
    const V = fixed.vocabulary.length;
    const [first, second] = [answer.first, answer.second].map((rows) => unpack(rows, Float32Array));
    const row = (values, t) => values.subarray(t * V, t * V + V);
    const other = data?.text !== answer.text;
    const rows = answer.ids.map((_, t) => ({ first: row(first, t), second: row(second, t) }));
    data = { ...answer, rows, bias: unpack(answer.bias, Float32Array) };
    drawn = false;
    if (!other) return;
    Object.assign(focus, { at: answer.ids.length - 1, locked: false });
    area = codeArea("code, coloured by the branch that decided", answer.signs, answer.unknown,
      focus, ["…"]);
    clear(code, area.node);
  }, (state) => {
    const next = state.w ?? data.w;
    const knocked = new Set(state.knocked);
    box.set(state.text);
    weight.set(next);
    learned.textContent = `learned: ${data.w.toFixed(3)}`;
    for (const button of knock.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(knocked.has(button.dataset.part)));
    }
    if (drawn && next === w) return; // only typed
    w = next;
    recompute();
    drawn = true;
  });
  const first = model.get("answer").w;
  const weight = slider("w (the first branch's weight)", {
    min: Math.min(0, Math.floor(first)), max: Math.max(1, Math.ceil(first)), step: 0.01,
    value: first,
  }, (value) => wire.turn({ w: value }), (value) => value.toFixed(3));
  const learned = el("button", { click: () => wire.turn({ w: null }) });
  const knock = el("fieldset", { class: "cg-row cg-top", "aria-label": "knock out" },
    ...knockButtons(fixed.parts, (part) => {
      const knocked = new Set(wire.state().knocked);
      if (!knocked.delete(part)) knocked.add(part);
      wire.put({ knocked: [...knocked] });
    }));
  const box = textBox("text", model.get("request").text, fixed.limit,
    (part) => wire.put(part, 250));
  root.prepend(el("fieldset", {}, box.node), el("div", { class: "cg-row" }, weight.node, learned));
  root.append(summary, code, readout, bars, chart,
    el("div", {}, el("div", { class: "cg-title" }, "knock out"), counted("Blocks and heads")),
    knock, table);
  wire.begin();
  return () => wire.stop();
}

export default { render };
