// The branch explorer: logits = w * first + (1 - w) * second + bias, taken apart by character.
import {
  ask, clear, codeArea, dataTable, el, glyph, makeFocus, percent, rootOf, slider, softmax, textBox, unpack,
} from "./common.js";

const BLUE = "#0072B2";
const ORANGE = "#D55E00";
const mean = (values) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);

/** What was received, as numbers: rows are positions, columns the vocabulary. */
function decode(answer) {
  const V = answer.vocabulary.length;
  const first = unpack(answer.first, Float32Array);
  const second = unpack(answer.second, Float32Array);
  const bias = unpack(answer.bias, Float32Array);
  return { ...answer, V, bias, row: (t) => [first.subarray(t * V, t * V + V), second.subarray(t * V, t * V + V)] };
}

/** Everything about one prediction at a weight w: logits, parts, probabilities, losses. */
function predict(data, t, w) {
  const [a, b] = data.row(t);
  const first = Float64Array.from(a, (value) => w * value);
  const second = Float64Array.from(b, (value) => (1 - w) * value);
  const add = (...parts) => Float64Array.from(data.bias, (value, v) => parts.reduce((sum, part) => sum + part[v], value));
  const logits = add(first, second);
  const p = { both: softmax(logits), first: softmax(add(first)), second: softmax(add(second)) };
  const came = data.ids[t + 1];
  const centre = { first: mean(first), second: mean(second) };
  const push = (v) => [first[v] - centre.first, second[v] - centre.second];
  const loss = (name) => -Math.log(Math.max(p[name][came], 1e-300));
  return { first, second, logits, p, came, push, loss };
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "branch explorer");
  const initial = model.get("answer");
  let data = null;
  let w = initial.w;
  let drawn = false;
  let all = [];
  let candidate = null;
  let area = null;
  const focus = makeFocus(() => { candidate = null; mark(); });
  const summary = el("div", { class: "cg-readout cg-summary", "aria-live": "polite" });
  const code = el("div");
  const readout = el("div", { class: "cg-readout", "aria-live": "polite" });
  const bars = el("div", { class: "cg-candidates" });
  const chart = el("div");
  const table = el("div");
  const knock = el("fieldset", { class: "cg-row cg-top", "aria-label": "knock out" });

  const weight = slider("w (the first branch's weight)", {
    min: Math.min(0, Math.floor(initial.w)), max: Math.max(1, Math.ceil(initial.w)), step: 0.01, value: initial.w,
  }, (value) => wire.turn({ w: value }), (value) => value.toFixed(3));
  const learned = el("button", {
    click: () => wire.turn({ w: null }),
  }, `learned: ${initial.w.toFixed(3)}`);

  function recompute() {
    all = data.ids.map((_, t) => predict(data, t, w));
    const scored = all.slice(0, -1);
    const line = (name) => (scored.length ? mean(scored.map((one) => one.loss(name))).toFixed(3) : "none");
    const intact = el("b", { class: "cg-intact" }, data.intact?.toFixed(3) ?? "none");
    const without = data.knocked.length ? [", before the knock-out ", intact] : [];
    clear(summary, "loss in nats per character: ", el("b", { class: "cg-loss" }, line("both")), ...without,
      "; first branch alone ", el("b", { class: "cg-first" }, line("first")),
      ", second alone ", el("b", { class: "cg-second" }, line("second")));
    scored.forEach((one, t) => {
      const [a, b] = one.push(one.came);
      const strength = Math.min(70, 14 * Math.abs(a - b));
      const cell = area.cells[t + 1];
      cell.style.background = `color-mix(in srgb, ${a > b ? BLUE : ORANGE} ${strength.toFixed(0)}%, transparent)`;
      cell.dataset.decided = a > b ? "first" : "second";
      cell.style.borderBottom = `2px ${a > b ? "solid" : "dotted"} ${a > b ? BLUE : ORANGE}`;
    });
    drawPushes(scored);
    drawClasses(scored);
    mark();
  }

  function drawPushes(scored) {
    const pushes = scored.map((one) => one.push(one.came));
    const high = Math.max(1, ...pushes.flat());
    const low = Math.min(0, ...pushes.flat());
    const [wide, tall] = [Math.max(300, 9 * scored.length), 110];
    const y = (value) => 4 + ((high - value) / (high - low)) * (tall - 18);
    const svg = el("svg", {
      class: "cg-chart", viewBox: `0 0 ${wide} ${tall}`, width: wide, role: "img",
      "aria-label": "each branch's push for the character that came",
    });
    pushes.forEach((pair, t) => pair.forEach((value, index) => svg.append(el("rect", {
      x: 9 * t + 4 * index, width: 3.5, y: Math.min(y(0), y(value)), height: Math.max(0.5, Math.abs(y(0) - y(value))),
      fill: index ? ORANGE : BLUE, "data-at": t + 1,
    }))));
    svg.append(el("line", { x1: 0, x2: wide, y1: y(0), y2: y(0), class: "cg-axis" }));
    svg.append(el("text", { x: 0, y: tall - 1 }, `push for the character that came, ${low.toFixed(1)} to ${high.toFixed(1)}: first branch blue, second orange`));
    svg.addEventListener("pointermove", (event) => {
      const at = event.target.dataset?.at;
      if (at) focus.look(Number(at));
    });
    clear(chart, svg);
  }

  function drawClasses(scored) {
    const rows = data["class names"].map((name) => {
      const those = scored.filter((_, t) => data.classes[t + 1] === name);
      const decided = mean(those.map((one) => { const [a, b] = one.push(one.came); return Number(a > b); }));
      return [name, those.length, ...["both", "first", "second"].map((which) => mean(those.map((one) => one.loss(which))).toFixed(3)), percent(decided)];
    }).filter((row) => row[1]);
    const open = table.firstChild?.open ?? true;
    clear(table, dataTable("what each branch is good at: loss by class of character",
      ["class", "characters", "both", "first alone", "second alone", "first decided"], rows));
    table.firstChild.open = open;
  }

  /** The looked-at character: how its logit came about, and what else might have come. */
  function mark() {
    if (!area) return;
    area.mark();
    const at = focus.at;
    clear(bars);
    if (!at) {
      clear(readout, at === 0 ? "The first character is given: nothing predicts it."
        : "Hover a character to see who predicted it. Click to lock, Escape to unlock.");
      return;
    }
    const one = all[at - 1];
    const real = at < data.ids.length;
    const order = Array.from(one.p.both.keys()).sort((i, j) => one.p.both[j] - one.p.both[i]);
    const chosen = candidate ?? (real ? one.came : order[0]);
    const name = (v) => data.vocabulary[v];
    const [a, b] = one.push(chosen);
    const number = (value, kind) => el("b", { class: kind }, value.toFixed(3));
    clear(readout, `${at} `, glyph(name(chosen)), ": logit ", number(one.logits[chosen], "cg-logit"), " = first ",
      number(one.first[chosen], "cg-part-first"), " + second ", number(one.second[chosen], "cg-part-second"),
      " + bias ", number(data.bias[chosen], "cg-part-bias"), `; probability ${percent(one.p.both[chosen])}`, el("br"),
      `above what each adds to all characters alike: first ${a.toFixed(2)}, second ${b.toFixed(2)}: the ${a > b ? "first" : "second"} branch decided`,
      el("br"), real ? glyph(name(one.came)) : "", real ? ` came: loss ${one.loss("both").toFixed(3)}, first alone ${one.loss("first").toFixed(3)}, second alone ${one.loss("second").toFixed(3)}` : "what comes next is not in the text");
    const listed = order.slice(0, 6);
    if (real && !listed.includes(one.came)) listed.push(one.came);
    const widest = Math.max(...listed.flatMap((v) => one.push(v).map(Math.abs)), 1);
    const bar = (value, color) => el("span", {
      style: `display:inline-block;height:9px;width:${((90 * Math.abs(value)) / widest).toFixed(1)}px;background:${color};opacity:${value < 0 ? 0.35 : 1}`,
    });
    for (const v of listed) {
      const [x, y] = one.push(v);
      bars.append(el("button", {
        "aria-pressed": String(v === chosen), "data-token": v,
        "aria-label": `${name(v)}: ${percent(one.p.both[v])}, first ${x.toFixed(2)}, second ${y.toFixed(2)}`,
        click: () => { candidate = v; mark(); },
      }, glyph(name(v)), ` ${percent(one.p.both[v])}${real && v === one.came ? " (came)" : ""} `, bar(x, BLUE), bar(y, ORANGE)));
    }
  }

  function drawKnocks() {
    const words = (part) => {
      const [, , block, , head] = part.split(".");
      return head !== undefined ? `head ${head}` : block !== undefined ? `block ${block}` : "whole branch";
    };
    const branches = [...new Set(data.parts.map((part) => part.split(".")[1]))];
    clear(knock, ...branches.map((branch) => el("div", { class: "cg-group" },
      el("div", { class: "cg-title" }, `knock out of the ${branch} branch`),
      ...data.parts.filter((part) => part.split(".")[1] === branch && !part.includes("heads")).map((part) => el("div", { class: "cg-thumbs" },
        ...data.parts.filter((other) => other === part || (part.split(".").length > 2 && other.startsWith(`${part}.heads.`))).map((other) => el("button", {
          "data-part": other, "aria-label": `knock out ${other}`,
          click: () => {
            const knocked = new Set(wire.state().knocked);
            if (!knocked.delete(other)) knocked.add(other);
            wire.put({ knocked: [...knocked] });
          },
        }, words(other))))))));
  }

  const wire = ask(model, root, (answer) => {
    const other = !data || data.text !== answer.text;
    data = decode(answer);
    drawn = false;
    if (other) {
      focus.at = null;
      focus.locked = false;
      area = codeArea("code, coloured by the branch that decided", data.signs, data.unknown, focus, ["…"]);
      clear(code, area.node);
    }
    focus.at ??= Math.max(0, data.ids.length - 1);
    if (!knock.hasChildNodes()) drawKnocks();
  }, (state) => {
    const next = state.w ?? data.w;
    const knocked = new Set(state.knocked);
    box.set(state.text);
    weight.set(next);
    for (const button of knock.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(knocked.has(button.dataset.part)));
    }
    if (drawn && next === w) return; // only typed
    w = next;
    recompute();
    drawn = true;
  });
  const box = textBox("text", initial.text, initial.limit, (part) => wire.put(part, 250));
  root.prepend(el("fieldset", {}, box.node), el("div", { class: "cg-row" }, weight.node, learned));
  root.append(summary, code, readout, bars, chart, knock, table);
  wire.receive();
  root.dataset.ready = "true";
  return () => wire.stop();
}

export default { render };
