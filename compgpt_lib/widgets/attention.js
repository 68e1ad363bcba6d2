// The attention explorer: small maps of all heads, one enlarged, the same weights on the code.
import {
  ask, clear, codeArea, counted, dataTable, el, glyph, ink, makeFocus, onLook, rootOf, slider,
  textBox, tint, unpack,
} from "./common.js";

const ONE = 65535;
const cellOf = (t, s) => (t * (t + 1)) / 2 + s;

/** Paint a head's lower triangle: the ink's opacity is the square root of the weight. */
function paint(canvas, weights, time, least) {
  canvas.width = canvas.height = time;
  const context = canvas.getContext("2d");
  const image = context.createImageData(time, time);
  const [r, g, b] = ink(canvas);
  for (let t = 0; t < time; t += 1) {
    for (let s = 0; s <= t; s += 1) {
      const weight = weights[cellOf(t, s)] / ONE;
      const pixel = 4 * (t * time + s);
      image.data[pixel] = r;
      image.data[pixel + 1] = g;
      image.data[pixel + 2] = b;
      image.data[pixel + 3] = weight < least ? 0 : 255 * Math.sqrt(weight);
    }
  }
  context.putImageData(image, 0, 0);
}

/** The heads of a model, block by block, each with its weights and what they look like. */
function headsOf({ blocks }, { weights, scores, captions }) {
  const all = unpack(weights, Uint16Array);
  const size = all.length / scores.length;
  const heads = blocks.flatMap((block) => block.heads.map((head) => ({ ...head, block })));
  return heads.map((head, index) => ({
    ...head,
    weights: all.subarray(index * size, (index + 1) * size),
    scores: scores[index],
    caption: captions[index],
  }));
}

/** One model: its heads as small maps, the chosen one large, and the code under its weights. */
function makePanel(about, data, patterns, answer, shared) {
  const time = answer.signs.length;
  const heads = headsOf(about, data);
  const widest = Math.max(...about.blocks.map((block) => block.width));
  let chosen = heads[0];

  const area = codeArea(`code, read by ${about.name}`, answer.signs, answer.unknown, shared.focus);
  const lines = el("svg", { class: "cg-lines", "aria-hidden": "true" });
  area.node.append(lines);
  const canvas = el("canvas", { role: "img" });
  const across = el("div", { class: "cg-cross" });
  const down = el("div", { class: "cg-cross" });
  const map = el("div", { class: "cg-map" }, canvas, across, down);
  const title = el("div", { class: "cg-title" });
  const readout = el("div", { class: "cg-readout", "aria-live": "polite" });
  const table = el("div");

  const thumbs = heads.map((head) => {
    const picture = el("canvas");
    const button = el("button", {
      class: "cg-thumb", "aria-label": `${head.name}: ${head.caption}`, title: head.part,
      "data-head": head.part, click: () => shared.choose({ [about.name]: head.part }),
    }, head.short, picture, head.caption);
    return { head, button, picture };
  });
  const rowOf = (block) => el("div", { class: "cg-block" },
    el("div", { class: "cg-blockname", title: block.part },
      el("div", { class: "cg-name" }, block.name), `width ${block.width}`,
      el("div", { class: "cg-bar", style: `width:${(100 * block.width) / widest}%` })),
    el("div", { class: "cg-thumbs" },
      ...thumbs.filter(({ head }) => head.block === block).map(({ button }) => button)));
  const groups = [...new Set(about.blocks.map((block) => block.branch))].map((branch) =>
    el("div", { class: "cg-group" },
      ...about.blocks.filter((block) => block.branch === branch).map(rowOf)));
  const fixed = (scores) => scores.map((score) => score.toFixed(2));
  const node = el("section", { class: "cg-panel", "data-model": about.name },
    el("div", { class: "cg-title" }, about.name),
    area.node, readout,
    el("div", { class: "cg-row cg-top" }, el("div", { class: "cg-panels" }, ...groups),
      el("div", {}, title, map)),
    table,
    dataTable(`share of attention on each pattern, all heads of ${about.name}`,
      ["head", "named", ...patterns],
      [...heads.map((head) => [head.name, head.caption, ...fixed(head.scores)]),
        ["even attention", "", ...fixed(data.even)]]));

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = (share) => Math.max(0, Math.min(time - 1, Math.floor(share * time)));
    return [at((event.clientY - box.top) / box.height), at((event.clientX - box.left) / box.width)];
  };
  canvas.addEventListener("pointermove", (event) => {
    const [t, s] = place(event);
    if (shared.focus.locked) shared.source = Math.min(s, shared.focus.at);
    else { shared.source = s <= t ? s : null; shared.focus.at = t; }
    shared.mark();
  });
  canvas.addEventListener("click", (event) => {
    const [t, s] = place(event);
    shared.focus.click(t);
    shared.source = Math.min(s, t);
    shared.mark();
  });

  function draw() {
    chosen = heads.find((head) => head.part === shared.chosen?.[about.name]) ?? heads[0];
    for (const { head, button, picture } of thumbs) {
      button.setAttribute("aria-pressed", String(head === chosen));
      paint(picture, head.weights, time, shared.least);
    }
    paint(canvas, chosen.weights, time, shared.least);
    title.textContent = `${chosen.name}: row looks, column is looked at`;
    title.title = chosen.part;
    canvas.setAttribute("aria-label", title.textContent);
    mark();
  }

  /** A line from the character that looks to one that it looks at. */
  function line(from, to, weight) {
    const middle = (cell) =>
      [cell.offsetLeft + cell.offsetWidth / 2, cell.offsetTop + cell.offsetHeight / 2];
    const [[x, y], [u, v]] = [middle(from), middle(to)];
    const bend = Math.min(24, 6 + Math.abs(x - u) / 6);
    return el("path", {
      d: `M${x},${y} Q${(x + u) / 2},${(y + v) / 2 - bend} ${u},${v}`, fill: "none",
      stroke: "var(--cg-weight)", "stroke-width": (1 + 3 * weight).toFixed(1),
      "stroke-opacity": (0.25 + 0.6 * weight).toFixed(2),
    });
  }

  /** The weights that the looked-at character gives, on the code, as lines and in words. */
  function mark() {
    area.mark();
    clear(lines);
    const t = shared.focus.at;
    across.hidden = down.hidden = t === null;
    area.cells.forEach((cell) => { cell.style.background = ""; });
    if (t === null) {
      readout.textContent =
        "Hover a character, or a point of the map. Click to lock, Escape to unlock.";
      return;
    }
    const row = Array.from({ length: t + 1 }, (_, s) => chosen.weights[cellOf(t, s)] / ONE);
    const ranked = row.map((weight, s) => [weight, s])
      .filter(([weight]) => weight >= shared.least).sort((a, b) => b[0] - a[0]);
    for (const [weight, s] of ranked) {
      area.cells[s].style.background = tint("weight", 0.8 * Math.sqrt(weight));
    }
    const linked = ranked.slice(0, 16).filter(([weight, s]) => s !== t && weight >= 0.02);
    lines.append(...linked.map(([weight, s]) => line(area.cells[t], area.cells[s], weight)));
    const source = shared.source !== null && shared.source <= t
      ? shared.source : (ranked[0]?.[1] ?? t);
    across.style.cssText = `left:0;right:0;height:${100 / time}%;top:${(100 * t) / time}%`;
    down.style.cssText = `top:0;bottom:0;width:${100 / time}%;left:${(100 * source) / time}%`;
    const name = (at) => [`${at} `, glyph(answer.signs[at])];
    const best = ranked.slice(0, 3).flatMap(([weight, s], index) =>
      [index ? ", " : "", ...name(s), ` ${weight.toFixed(3)}`]);
    clear(readout, ...name(t), " looks at ", ...name(source), ": ",
      el("b", { class: "cg-weight", "data-row": t, "data-column": source }, row[source].toFixed(4)),
      el("br"), "most: ", ...best);
    clear(table, dataTable(`weights of character ${t}`, ["place", "character", "weight"],
      ranked.slice(0, 40).map(([weight, s]) => [s, answer.signs[s], weight.toFixed(4)]),
      table.firstChild?.open));
  }
  return { node, draw, mark };
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "attention explorer");
  const { models, patterns, rule, limit } = model.get("fixed");
  let panels = [];
  let drawn = false;
  const shared = { source: null, mark: () => panels.forEach((panel) => panel.mark()) };
  shared.focus = makeFocus(() => { shared.source = null; shared.mark(); });
  const holder = el("div", { class: "cg-panels" });

  const wire = ask(model, root, (answer) => {
    const last = answer.signs.length - 1;
    if (shared.focus.at > last) shared.focus.locked = false;
    if (!(shared.focus.at <= last)) shared.focus.at = null;
    shared.focus.at ??= last;
    panels = models.map((about, index) =>
      makePanel(about, answer.models[index], patterns, answer, shared));
    clear(holder, ...panels.map((panel) => panel.node));
    drawn = false;
  }, ({ text, least = 0, chosen }) => {
    box.set(text);
    weakest.set(least);
    if (drawn && least === shared.least && chosen === shared.chosen) return; // only typed
    Object.assign(shared, { least, chosen });
    panels.forEach((panel) => panel.draw());
    drawn = true;
  });
  shared.choose = (head) => wire.turn({ chosen: { ...shared.chosen, ...head } });
  const weakest = slider("hide weights below", { min: 0, max: 0.5, step: 0.01, value: 0 },
    (value) => wire.turn({ least: value }));
  const box = textBox("text", model.get("request").text, limit, (part) => wire.put(part, 250));
  root.prepend(el("fieldset", {}, box.node), el("div", { class: "cg-row" }, weakest.node));
  root.append(counted("Blocks and heads"), holder, el("div", { class: "cg-hint" }, rule));
  wire.begin();
  const forget = onLook(root, () => panels.forEach((panel) => panel.draw()));
  return () => { wire.stop(); forget(); };
}

export default { render };
