// The dimension explorer: a slider walks through the stages, the characters move with it.
import {
  ask, clear, codeArea, dataTable, el, glyph, makeFocus, percent, rootOf, slider, textBox, unpack,
} from "./common.js";

const LOOKS = [
  ["#0072B2", "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0z"],
  ["#E69F00", "M-3,-3h6v6h-6z"],
  ["#D55E00", "M0,-4L4,3.5H-4z"],
  ["#CC79A7", "M0,-4.5L4,0L0,4.5L-4,0z"],
  ["#009E73", "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z"],
  ["#56B4E9", "M0,4L4,-3.5H-4z"],
  ["#999999", "M-4,0L3.5,-4V4z"],
  ["currentColor", "M-4,-2.5l1.5,-1.5l2.5,2.5l2.5,-2.5l1.5,1.5l-2.5,2.5l2.5,2.5l-1.5,1.5l-2.5,-2.5l-2.5,2.5l-1.5,-1.5l2.5,-2.5z"],
];
const WIDE = 430;
const TALL = 340;

/** A chart of one line for each stage; the stage that is shown is drawn heavier. */
function lineChart(title, lines, labels, now, { log = false, dashed = null } = {}) {
  const [wide, tall, left, below] = [380, 220, 46, 34];
  const count = Math.max(...lines.map((line) => line.length));
  const x = (index) => left + (index / Math.max(1, count - 1)) * (wide - left - 24);
  const scale = (value) => (log ? 1 + Math.log10(Math.max(value, 1e-5)) / 5 : value);
  const y = (value) => 8 + (1 - scale(value)) * (tall - below - 8);
  const path = (line) => line.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const svg = el("svg", { class: "cg-chart", viewBox: `0 0 ${wide} ${tall}`, width: wide, role: "img", "aria-label": title });
  for (const tick of log ? [1, 0.1, 0.01, 0.001, 0.0001] : [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(el("line", { x1: left, x2: wide - 24, y1: y(tick), y2: y(tick), class: "cg-axis", "stroke-opacity": 0.15 }),
      el("text", { x: left - 4, y: y(tick) + 4, "text-anchor": "end" }, log ? String(tick) : percent(tick).replace(".0", "")));
  }
  lines.forEach((line, index) => svg.append(el("polyline", {
    points: path(line), fill: "none", stroke: index === now ? "#D55E00" : "currentColor",
    "stroke-width": index === now ? 2.5 : 1, "stroke-opacity": index === now ? 1 : 0.35,
  })));
  if (dashed) svg.append(el("polyline", { points: path(dashed), fill: "none", stroke: "currentColor", "stroke-dasharray": "4 3" }));
  const every = Math.ceil(labels.length / 8);
  labels.forEach((label, index) => {
    if (index % every === 0) svg.append(el("text", { x: x(index), y: tall - below + 14, "text-anchor": "middle" }, label));
  });
  svg.append(el("text", { x: left, y: tall - 4 }, title));
  return svg;
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "dimension explorer");
  const initial = model.get("answer");
  let data = initial;
  let now = 0;
  let drawn = false;
  let timer = null;
  const focus = makeFocus(() => markLens());
  const said = el("div", { class: "cg-readout cg-stage", "aria-live": "polite" });
  const pointed = el("div", { class: "cg-readout" });
  const map = el("svg", { class: "cg-chart", viewBox: `0 0 ${WIDE} ${TALL}`, width: WIDE, tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": initial.points.length - 1, "aria-label": "characters on the first two principal components" });
  const charts = el("div", { class: "cg-panels" });
  const legend = el("div", { class: "cg-thumbs", role: "group", "aria-label": "classes shown", style: `max-width:${WIDE}px` });
  const lens = el("div");
  const lensReadout = el("div", { class: "cg-readout cg-lens", "aria-live": "polite" });
  let area = null;

  const coordinates = unpack(initial.maps, Float32Array);
  const count = initial.points.length;
  const sizes = Float32Array.from(coordinates, Math.abs).sort();
  const reach = 1.1 * sizes[Math.floor(0.995 * sizes.length)];
  const at = (index, which) => {  // the few that lie farther out are shown at the edge
    const start = 2 * (index * count + which);
    const inside = (value) => Math.max(-1, Math.min(1, value / reach));
    return [WIDE / 2 + inside(coordinates[start]) * (WIDE / 2 - 8), TALL / 2 - inside(coordinates[start + 1]) * (TALL / 2 - 8)];
  };
  const points = initial.points.map((point, which) => {
    const [color, shape] = LOOKS[initial.kinds[which]];
    const node = el("path", { class: "cg-point", d: shape, fill: color, "fill-opacity": 0.75, "data-point": which });
    map.append(node);
    return node;
  });
  let chosen = -1;
  function point(which) {
    points[chosen]?.classList.remove("cg-chosen");
    chosen = which;
    points[which].classList.add("cg-chosen");
    const { sign, before } = initial.points[which];
    const kind = initial["class names"][initial.kinds[which]];
    clear(pointed, glyph(sign), ` (${kind}) after `, el("code", {}, before || "the start"));
    map.setAttribute("aria-valuenow", which);
    map.setAttribute("aria-valuetext", `${sign} (${kind}) after ${before || "the start"}`);
  }
  map.addEventListener("pointermove", (event) => {
    const which = event.target.dataset?.point;
    if (which !== undefined) point(Number(which));
  });
  map.addEventListener("keydown", (event) => {  // the next one of those shown
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    let next = chosen + step;
    while (points[next]?.style.display === "none") next += step;
    if (points[next]) point(next);
  });
  initial["class names"].forEach((name, kind) => {
    const [color, shape] = LOOKS[kind];
    legend.append(el("button", {
      "data-kind": kind,
      click: () => {
        const hidden = new Set(wire.state().hidden);
        if (!hidden.delete(kind)) hidden.add(kind);
        wire.turn({ hidden: [...hidden] });
      },
    }, el("svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true" }, el("path", { d: shape, fill: color })), ` ${name}`));
  });

  const walk = slider("stage", { min: 0, max: initial.stages.length - 1, step: 1, value: 0 },
    (value) => wire.turn({ stage: value }), (value) => initial.stages[value].name);
  const play = el("button", { click: () => wire.turn({ playing: !wire.state().playing }) });

  function follow({ text, stage = 0, hidden = [], playing = false }) {
    box.set(text);
    walk.set(stage);
    play.textContent = playing ? "pause" : "play";
    // The display whose time is up first walks on, and the others begin to count anew.
    clearTimeout(timer);
    const next = (stage + 1) % initial.stages.length;
    if (playing) timer = setTimeout(() => wire.turn({ stage: next }), 1200);
    for (const button of legend.children) {
      button.setAttribute("aria-pressed", String(!hidden.includes(Number(button.dataset.kind))));
    }
    points.forEach((node, which) => {
      node.style.display = hidden.includes(initial.kinds[which]) ? "none" : "";
    });
    if (drawn && stage === now) return; // only typed
    now = stage;
    draw();
    drawn = true;
  }

  function draw() {
    const one = initial.stages[now];
    const before = initial.stages[now - 1];
    const kept = one.kept === null ? "" : `; of ${before.name} it keeps ${percent(one.kept)} of the variance, CKA ${one.cka.toFixed(3)}`;
    clear(said, el("b", {}, one.name), `: width ${one.width}, effective rank `,
      el("b", { class: "cg-rank" }, one.rank.toFixed(2)), kept);
    points.forEach((node, which) => {
      const [x, y] = at(now, which);
      node.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    });
    const most = Math.max(...initial.stages.map((each) => each.spectrum.length));
    clear(charts,
      lineChart("share of variance by principal component", initial.stages.map((each) => each.spectrum), Array.from({ length: most }, (_, index) => String(index + 1)), now, { log: true }),
      lineChart("how often a linear probe is right (dashed: the commonest)", initial.stages.map((each) => each.probes), initial.probes, now, { dashed: initial.commonest }));
    markLens();
  }

  /** One row for each stage: what the head would say if it read that stage, and how surely. */
  function drawLens() {
    const time = data.ids.length;
    const rows = data.lens.map((each) => ({ top: each.top, p: unpack(each.p, Float32Array), came: unpack(each.came, Float32Array) }));
    const grid = el("div", { class: "cg-grid", role: "img", "aria-label": "what the head would say, stage by stage", style: `grid-template-columns: 7.5em repeat(${time}, 1.5em)` });
    const cells = [];
    rows.forEach((row, index) => {
      grid.append(el("div", { class: "cg-stagename" }, data.stages[index].name));
      for (let t = 0; t < time; t += 1) {
        const right = row.top[t] === data.ids[t + 1];
        const cell = el("div", {
          class: `cg-cell${right ? " cg-right" : ""}`, "data-at": t + 1, "data-stage": index,
          style: `background: color-mix(in srgb, #0072B2 ${(75 * row.p[t]).toFixed(0)}%, transparent)`,
        }, data.vocabulary[row.top[t]]);
        cells.push(cell);
        grid.append(cell);
      }
    });
    grid.addEventListener("pointermove", (event) => {
      if (event.target.dataset?.at) focus.look(Number(event.target.dataset.at));
    });
    grid.addEventListener("click", (event) => {
      if (event.target.dataset?.at) focus.click(Number(event.target.dataset.at));
    });
    area = codeArea("code, read by the logit lens", data.signs, data.unknown, focus, ["…"]);
    clear(lens, area.node, lensReadout, grid);
    lens.rows = rows;
    lens.cells = cells;
    focus.at = Math.min(focus.at ?? time - 1, time);
    markLens();
  }

  function markLens() {
    if (!area) return;
    area.mark();
    const place = focus.at;
    for (const cell of lens.cells) cell.classList.toggle("cg-at", Number(cell.dataset.at) === place);
    const [grid, column] = [lens.lastChild, lens.cells[Math.max(0, place - 1)]];
    const left = column.offsetLeft - grid.offsetLeft;
    if (left < grid.scrollLeft + 100 || left > grid.scrollLeft + grid.clientWidth - 30) {
      grid.scrollLeft = left - grid.clientWidth / 2; // a place looked at on the code comes into sight
    }
    if (!place) {
      clear(lensReadout, "The first character is given. Hover another to see what each stage would say in its place.");
      return;
    }
    const real = place < data.ids.length;
    const row = lens.rows[now];
    clear(lensReadout, `read after ${data.stages[now].name}, the head would say `, glyph(data.vocabulary[row.top[place - 1]]),
      ` (${percent(row.p[place - 1])})`, real ? "; it gives " : "", real ? glyph(data.signs[place]) : "", real ? ", which came, " : "",
      real ? el("b", { class: "cg-came", "data-at": place }, row.came[place - 1].toFixed(4)) : "");
  }

  const wire = ask(model, root, (answer) => { data = answer; drawLens(); }, follow);
  const box = textBox("text", initial.text, initial.limit, (part) => wire.put(part, 250));
  const numbers = initial.stages.map((one) => [one.name, one.width, one.rank.toFixed(2), one.kept?.toFixed(3) ?? "", one.cka?.toFixed(3) ?? "", ...one.probes.map((value) => value.toFixed(3))]);
  root.append(
    el("div", { class: "cg-row" }, walk.node, play), said,
    el("div", { class: "cg-panels" }, el("div", { class: "cg-group" }, map, legend, pointed), charts),
    dataTable(`all of it in numbers (${initial.characters} characters)`, ["stage", "width", "effective rank", "variance kept", "CKA", ...initial.probes],
      [...numbers, ["always the commonest", "", "", "", "", ...initial.commonest.map((value) => value.toFixed(3))]]),
    el("div", { class: "cg-title" }, "logit lens: what would the head say if it read this stage? (the strip scrolls to the right)"),
    el("fieldset", {}, box.node), lens);
  wire.receive();
  root.dataset.ready = "true";
  return () => { clearTimeout(timer); wire.stop(); };
}

export default { render };
