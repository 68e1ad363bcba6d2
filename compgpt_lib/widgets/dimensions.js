// The dimension explorer: a slider walks through the stages, the characters move with it.
import {
  ask, clear, codeArea, counted, dataTable, el, glyph, makeFocus, percent, pointAt, rootOf,
  slider, textBox, tint, unpack,
} from "./common.js";

// Matplotlib's markers, as the still picture has them.
const SHAPES = {
  o: "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0z",
  s: "M-3,-3h6v6h-6z",
  "^": "M0,-4L4,3.5H-4z",
  D: "M0,-4.5L4,0L0,4.5L-4,0z",
  P: "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
  v: "M0,4L4,-3.5H-4z",
  "<": "M-4,0L3.5,-4V4z",
  X: "M-4,-2.5l1.5,-1.5l2.5,2.5l2.5,-2.5l1.5,1.5l-2.5,2.5l2.5,2.5l-1.5,1.5l-2.5,-2.5"
    + "l-2.5,2.5l-1.5,-1.5l2.5,-2.5z",
};
const [WIDE, TALL] = [430, 340];
const three = (value) => value?.toFixed(3) ?? "";

/** A chart of one line for each stage; the stage that is shown is drawn heavier. */
function lineChart(title, lines, labels, now, { log = false, dashed = [] } = {}) {
  const [wide, tall, left, right, below] = [380, 226, 46, 352, 40];
  const ticks = log ? [1, 0.1, 0.01, 0.001, 0.0001] : [0, 0.25, 0.5, 0.75, 1];
  const x = (index) => left + (index / Math.max(1, labels.length - 1)) * (right - left);
  const scale = (value) => (log ? 1 + Math.log10(Math.max(value, 1e-5)) / 5 : value);
  const y = (value) => 8 + (1 - scale(value)) * (tall - below - 8);
  const svg = el("svg", {
    class: "cg-chart", viewBox: `0 0 ${wide} ${tall}`, width: wide, role: "img",
    "aria-label": title,
  });
  const draw = (values, look) => svg.append(el("polyline", {
    points: values.map((value, index) => [value, `${x(index).toFixed(1)},${y(value).toFixed(1)}`])
      .filter(([value]) => value !== null).map(([, point]) => point).join(" "),
    fill: "none", stroke: "currentColor", ...look,
  }));
  for (const tick of ticks) {
    svg.append(
      el("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "cg-grid-line" }),
      el("text", { x: left - 4, y: y(tick) + 4, "text-anchor": "end" },
        log ? String(tick) : `${100 * tick} %`));
  }
  lines.forEach((values, index) => draw(values, index === now
    ? { stroke: "var(--cg-chosen)", "stroke-width": 2.5 } : { "stroke-opacity": 0.35 }));
  draw(dashed, { "stroke-dasharray": "4 3" });
  const every = Math.ceil(labels.length / 8);
  labels.forEach((label, index) => {
    if (index % every) return;
    const at = { x: x(index), y: tall - below + 18, "text-anchor": "middle" };
    svg.append(el("text", at, label));
  });
  svg.append(el("text", { x: 0, y: tall - 4 }, title));
  return svg;
}

/** The characters of the sample as points, which move from stage to stage. */
function makeMap({ points, kinds, classes, maps }) {
  const svg = el("svg", {
    class: "cg-chart", viewBox: `0 0 ${WIDE} ${TALL}`, width: WIDE, tabindex: 0, role: "slider",
    "aria-valuemin": 0, "aria-valuenow": 0, "aria-valuemax": points.length - 1,
    "aria-valuetext": "no character yet",
    "aria-label": "characters on the first two principal components",
  });
  const readout = el("div", { class: "cg-readout" });
  const coordinates = unpack(maps, Float32Array);
  const sizes = Float32Array.from(coordinates, Math.abs).sort();
  const reach = 1.1 * sizes[Math.floor(0.995 * sizes.length)];
  // The few that lie farther out are shown at the edge.
  const inside = (value, half) => half + Math.max(-1, Math.min(1, value / reach)) * (half - 8);
  const nodes = points.map((_, which) => el("path", {
    class: "cg-point", d: SHAPES[classes[kinds[which]].marker], "data-point": which,
    fill: `var(--cg-${classes[kinds[which]].name})`, "fill-opacity": 0.75,
  }));
  svg.append(...nodes);
  let chosen = -1;

  function choose(which) {
    nodes[chosen]?.classList.remove("cg-chosen");
    nodes[which].classList.add("cg-chosen");
    chosen = which;
    const { sign, before } = points[which];
    const words = ` (${classes[kinds[which]].name}) after `;
    clear(readout, glyph(sign), words, el("code", {}, before || "the start"));
    svg.setAttribute("aria-valuenow", which);
    svg.setAttribute("aria-valuetext", `${sign}${words}${before || "the start"}`);
  }
  svg.addEventListener("pointermove", (event) => {
    const which = event.target.dataset?.point;
    if (which !== undefined) choose(Number(which));
  });
  svg.addEventListener("keydown", (event) => { // the next one of those shown
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    let next = chosen + step;
    while (nodes[next]?.style.display === "none") next += step;
    if (nodes[next]) choose(next);
  });
  const move = (stage) => nodes.forEach((node, which) => {
    const start = 2 * (stage * points.length + which);
    const x = inside(coordinates[start], WIDE / 2);
    const y = inside(-coordinates[start + 1], TALL / 2);
    node.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
  });
  const hide = (hidden) => nodes.forEach((node, which) => {
    node.style.display = hidden.includes(kinds[which]) ? "none" : "";
  });
  return { svg, readout, move, hide };
}

/** Every number of the view but the lens's. */
function numbers({ stages, probes, commonest, characters }) {
  const probed = (stage) => probes.map((probe) => three(stage[probe]));
  const rows = stages.map((stage) => [stage.name, stage.width, stage["effective rank"].toFixed(2),
    three(stage["variance kept"]), three(stage.cka), ...probed(stage)]);
  rows.push([commonest.stage, "", "", "", "", ...probed(commonest)]);
  return dataTable(`all numbers (${characters} characters)`,
    ["depth", "width", "effective rank", "variance kept", "CKA", ...probes], rows);
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "dimension explorer");
  const fixed = model.get("fixed");
  const { stages, classes, probes, vocabulary } = fixed;
  let data = null;
  let now = 0;
  let drawn = false;
  let timer = null;
  let area = null;
  let grid = null;
  let cells = [];
  const focus = makeFocus(() => markLens());
  const about = el("div", { class: "cg-readout cg-stage", "aria-live": "polite" });
  const map = makeMap(fixed);
  const charts = el("div", { class: "cg-group" });
  const lens = el("div");
  const lensReadout = el("div", { class: "cg-readout cg-lens", "aria-live": "polite" });
  const toggle = (kind) => {
    const hidden = new Set(wire.state().hidden);
    if (!hidden.delete(kind)) hidden.add(kind);
    wire.turn({ hidden: [...hidden] });
  };
  const legend = el("div", {
    class: "cg-thumbs", role: "group", "aria-label": "classes shown", style: `max-width:${WIDE}px`,
  }, ...classes.map(({ name, marker }, kind) => el("button", {
    "data-kind": kind, click: () => toggle(kind),
  }, el("svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true" },
    el("path", { d: SHAPES[marker], fill: `var(--cg-${name})` })), ` ${name}`)));
  const walk = slider("depth", { min: 0, max: stages.length - 1, step: 1, value: 0 },
    (value) => wire.turn({ stage: value }), (value) => stages[value].name);
  const play = el("button", { click: () => wire.turn({ playing: !wire.state().playing }) });

  function follow({ text, stage = 0, hidden = [], playing = false }) {
    box.set(text);
    walk.set(stage);
    play.textContent = playing ? "pause" : "play";
    // The display whose time is up first walks on, and the others begin to count anew.
    clearTimeout(timer);
    const next = (stage + 1) % stages.length;
    if (playing) timer = setTimeout(() => wire.turn({ stage: next }), 1200);
    for (const button of legend.children) {
      button.setAttribute("aria-pressed", String(!hidden.includes(Number(button.dataset.kind))));
    }
    map.hide(hidden);
    if (drawn && stage === now) return; // only typed
    now = stage;
    drawn = true;
    draw();
  }

  function draw() {
    const stage = stages[now];
    const kept = stage.cka === null ? "" : "; it keeps, of the depth before, "
      + `${percent(stage["variance kept"])} of the variance, CKA ${three(stage.cka)}`;
    clear(about, el("b", { title: stage.stage }, stage.name),
      `: width ${stage.width}, effective rank `,
      el("b", { class: "cg-rank" }, stage["effective rank"].toFixed(2)), kept);
    map.move(now);
    const spectra = stages.map(({ spectrum }) => spectrum);
    const most = Math.max(...spectra.map((shares) => shares.length));
    const places = Array.from({ length: most }, (_, index) => String(index + 1));
    const probed = (of) => probes.map((probe) => of[probe]);
    clear(charts,
      lineChart("share of variance by principal component", spectra, places, now, { log: true }),
      lineChart("how often a linear probe is right (dashed: the commonest)", stages.map(probed),
        probes, now, { dashed: probed(fixed.commonest) }));
    markLens();
  }

  /** One row for each stage: what the head would say if it read that stage, and how surely. */
  function drawLens() {
    const time = data.ids.length;
    grid = el("div", {
      class: "cg-grid", role: "img", "aria-label": "what the head would say, depth by depth",
      tabindex: 0, // keys scroll it
      style: `grid-template-columns: max-content repeat(${time}, 1.5em)`,
    });
    cells = [];
    stages.forEach(({ stage, name }, index) => {
      const row = data.ids.map((_, t) => {
        const top = data.top[index * time + t];
        return el("div", {
          class: `cg-cell${top === data.ids[t + 1] ? " cg-right" : ""}`, "data-at": t + 1,
          style: `background: ${tint("share", 0.75 * data.p[index * time + t])}`,
        }, vocabulary[top]);
      });
      grid.append(el("div", { class: "cg-stagename", title: stage }, name), ...row);
      cells.push(...row);
    });
    pointAt(grid, focus);
    area = codeArea("code, read by the logit lens", data.signs, data.unknown, focus, ["…"]);
    clear(lens, area.node, lensReadout, grid);
    focus.at = Math.min(focus.at ?? time - 1, time);
    markLens();
  }

  function markLens() {
    area.mark();
    const place = focus.at;
    for (const cell of cells) cell.classList.toggle("cg-at", Number(cell.dataset.at) === place);
    const left = cells[Math.max(0, place - 1)].offsetLeft - grid.offsetLeft - grid.scrollLeft;
    if (left < grid.firstChild.offsetWidth || left > grid.clientWidth - 30) {
      grid.scrollLeft += left - grid.clientWidth / 2; // a place looked at on the code is in sight
    }
    if (!place) {
      clear(lensReadout, "The first character is given. Hover another to see what each depth ",
        "would say in its place.");
      return;
    }
    const time = data.ids.length;
    const at = now * time + place - 1;
    const came = place === time ? [] : ["; it gives ", glyph(data.signs[place]), ", which came, ",
      el("b", { class: "cg-came", "data-at": place },
        data.came[now * (time - 1) + place - 1].toFixed(4))];
    clear(lensReadout, `${stages[now].name}: the head would say `,
      glyph(vocabulary[data.top[at]]), ` (${percent(data.p[at])})`, ...came);
  }

  const wire = ask(model, root, (answer) => {
    const { top, p, came } = answer;
    data = {
      ...answer, top: unpack(top, Uint32Array), p: unpack(p, Float32Array),
      came: unpack(came, Float32Array),
    };
    drawLens();
  }, follow);
  const box = textBox("text", model.get("request").text, fixed.limit,
    (part) => wire.put(part, 250));
  root.append(
    el("div", { class: "cg-row" }, play, walk.node), about,
    counted("Stages and blocks"),
    el("div", { class: "cg-panels" },
      el("div", { class: "cg-group" }, map.svg, legend, map.readout), charts),
    numbers(fixed),
    el("div", { class: "cg-title" },
      "logit lens: what would the head say if it read at this depth? ",
      "(the strip scrolls to the right)"),
    el("fieldset", {}, box.node), lens);
  wire.begin();
  return () => { clearTimeout(timer); wire.stop(); };
}

export default { render };
