// The attention explorer: small maps of all heads, one enlarged, the same weights on the code.
import {
  COLORS, ask, clear, codeArea, dataTable, el, glyph, ink, makeFocus, onLook, rootOf, slider,
  textBox, unpack,
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

/** One model: its heads as small maps, the chosen one large, and the code under its weights. */
function makePanel(data, answer, shared, color) {
  const time = answer.signs.length;
  const heads = [];
  for (const block of data.blocks) {
    const all = unpack(block.weights, Uint16Array);
    const size = all.length / block.heads;
    for (let head = 0; head < block.heads; head += 1) {
      const weights = all.subarray(head * size, (head + 1) * size);
      heads.push({ block, head, weights, scores: block.scores[head], words: block.captions[head] });
    }
  }
  const widest = Math.max(...data.blocks.map((block) => block.width));
  const key = ({ block, head }) => `${block.name} ${head}`;
  let chosen = heads[0];

  const area = codeArea(`code, read by ${data.name}`, answer.signs, answer.unknown, shared.focus);
  const lines = el("svg", { class: "cg-lines", "aria-hidden": "true" });
  area.node.append(lines);
  const canvas = el("canvas", { role: "img" });
  const across = el("div", { class: "cg-cross" });
  const down = el("div", { class: "cg-cross" });
  const map = el("div", { class: "cg-map" }, canvas, across, down);
  const caption = el("div", { class: "cg-title" });
  const readout = el("div", { class: "cg-readout", "aria-live": "polite" });
  const table = el("div");

  const thumbs = heads.map((one) => {
    const picture = el("canvas");
    const button = el("button", {
      class: "cg-thumb", "aria-label": `${one.block.name}, head ${one.head}: ${one.words}`,
      title: `${one.block.name}, head ${one.head}`, "data-head": key(one),
      click: () => shared.choose({ [data.name]: key(one) }),
    }, picture, one.words);
    return { one, button, picture };
  });
  const rowOf = (block) => el("div", { class: "cg-block" },
    el("div", { class: "cg-blockname" }, `${block.name}`, el("br"), `width ${block.width}`,
      el("div", { class: "cg-bar", style: `width:${(100 * block.width) / widest}%` })),
    el("div", { class: "cg-thumbs" },
      ...thumbs.filter(({ one }) => one.block === block).map(({ button }) => button)));
  const branches = [...new Set(data.blocks.map((block) => block.branch))];
  const groups = branches.map((branch) => el("div", { class: "cg-group" },
    branch ? el("div", { class: "cg-title" }, `${branch} branch`) : null,
    ...data.blocks.filter((block) => block.branch === branch).map(rowOf)));
  const node = el("section", { class: "cg-panel", "data-model": data.name },
    el("div", { class: "cg-title" }, data.name),
    area.node, readout,
    el("div", { class: "cg-row cg-top" }, el("div", { class: "cg-panels" }, ...groups),
      el("div", {}, caption, map)),
    table,
    dataTable(`scores of all heads of ${data.name}`, ["head", ...answer.patterns],
      [...heads.map((one) => [key(one), ...one.scores.map((score) => score.toFixed(2))]),
        ["even attention", ...data.even.map((score) => score.toFixed(2))]]));

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = (value, start, size) => Math.max(0, Math.min(time - 1, Math.floor(((value - start) / size) * time)));
    return [at(event.clientY, box.top, box.height), at(event.clientX, box.left, box.width)];
  };
  canvas.addEventListener("pointermove", (event) => {
    const [t, s] = place(event);
    if (shared.focus.locked) shared.source = Math.min(s, shared.focus.at);
    else { shared.source = s <= t ? s : null; shared.focus.at = t; }
    shared.mark();
  });
  canvas.addEventListener("click", (event) => { [, shared.source] = place(event); shared.focus.click(place(event)[0]); });

  function draw() {
    chosen = heads.find((one) => key(one) === shared.chosen?.[data.name]) ?? heads[0];
    for (const { one, button, picture } of thumbs) {
      button.setAttribute("aria-pressed", String(one === chosen));
      paint(picture, one.weights, time, shared.least);
    }
    paint(canvas, chosen.weights, time, shared.least);
    caption.textContent = `${chosen.block.name}, head ${chosen.head}: row looks, column is looked at`;
    canvas.setAttribute("aria-label", caption.textContent);
    mark();
  }

  /** The weights that the looked-at character gives, on the code, as lines and in words. */
  function mark() {
    area.mark();
    clear(lines);
    const t = shared.focus.at;
    const shown = t !== null && t < time;
    across.hidden = down.hidden = !shown;
    area.cells.forEach((cell) => { cell.style.background = ""; });
    if (!shown) {
      readout.textContent = "Hover a character, or a point of the map. Click to lock, Escape to unlock.";
      return;
    }
    const row = Array.from({ length: t + 1 }, (_, s) => chosen.weights[cellOf(t, s)] / ONE);
    const ranked = row.map((weight, s) => [weight, s]).filter(([weight]) => weight >= shared.least)
      .sort((a, b) => b[0] - a[0]);
    for (const [weight, s] of ranked) {
      const strength = Math.round(80 * Math.sqrt(weight));
      area.cells[s].style.background = `color-mix(in srgb, ${color} ${strength}%, transparent)`;
    }
    const middle = (cell) => [cell.offsetLeft + cell.offsetWidth / 2, cell.offsetTop + cell.offsetHeight / 2];
    const [x, y] = middle(area.cells[t]);
    for (const [weight, s] of ranked.slice(0, 16)) {
      if (s === t || weight < 0.02) continue;
      const [u, v] = middle(area.cells[s]);
      const bend = Math.min(24, 6 + Math.abs(x - u) / 6);
      lines.append(el("path", {
        d: `M${x},${y} Q${(x + u) / 2},${(y + v) / 2 - bend} ${u},${v}`, fill: "none",
        stroke: color, "stroke-width": (1 + 3 * weight).toFixed(1), "stroke-opacity": (0.25 + 0.6 * weight).toFixed(2),
      }));
    }
    const source = shared.source !== null && shared.source <= t ? shared.source : (ranked[0]?.[1] ?? t);
    across.style.cssText = `left:0;right:0;height:${100 / time}%;top:${(100 * t) / time}%`;
    down.style.cssText = `top:0;bottom:0;width:${100 / time}%;left:${(100 * source) / time}%`;
    const name = (at) => [`${at} `, glyph(answer.signs[at])];
    const best = ranked.slice(0, 3).flatMap(([weight, s], index) => [index ? ", " : "", ...name(s), ` ${weight.toFixed(3)}`]);
    clear(readout, ...name(t), " looks at ", ...name(source), ": ",
      el("b", { class: "cg-weight", "data-row": t, "data-column": source }, row[source].toFixed(4)),
      el("br"), "most: ", ...best);
    const open = table.firstChild?.open ?? false;
    clear(table, dataTable(`weights of character ${t}`, ["place", "character", "weight"],
      ranked.slice(0, 40).map(([weight, s]) => [s, answer.signs[s], weight.toFixed(4)])));
    table.firstChild.open = open;
  }
  return { node, draw, mark };
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "attention explorer");
  let panels = [];
  let drawn = false;
  const shared = { source: null, mark: () => panels.forEach((panel) => panel.mark()) };
  shared.focus = makeFocus(() => { shared.source = null; shared.mark(); });
  const holder = el("div", { class: "cg-panels" });
  const show = (answer) => {
    if (shared.focus.at !== null && shared.focus.at >= answer.signs.length) {
      shared.focus.at = null;
      shared.focus.locked = false;
    }
    panels = answer.models.map((data, index) => makePanel(data, answer, shared, COLORS[index]));
    clear(holder, ...panels.map((panel) => panel.node));
    shared.focus.at ??= answer.signs.length - 1;
    drawn = false;
  };
  const follow = ({ text, least = 0, chosen }) => {
    box.set(text);
    weakest.set(least);
    if (drawn && least === shared.least && chosen === shared.chosen) return; // only typed
    Object.assign(shared, { least, chosen });
    panels.forEach((panel) => panel.draw());
    drawn = true;
  };
  const first = model.get("answer");
  const wire = ask(model, root, show, follow);
  shared.choose = (head) => wire.turn({ chosen: { ...shared.chosen, ...head } });
  const weakest = slider("hide weights below", { min: 0, max: 0.5, step: 0.01, value: 0 },
    (value) => wire.turn({ least: value }));
  const box = textBox("text", first.text, first.limit, (part) => wire.put(part, 250));
  root.prepend(el("fieldset", {}, box.node), el("div", { class: "cg-row" }, weakest.node));
  root.append(holder);
  wire.receive();
  const forget = onLook(root, () => panels.forEach((panel) => panel.draw()));
  root.dataset.ready = "true";
  return () => { wire.stop(); forget(); };
}

export default { render };
