// The forward pass explorer: one character on its way through a model, each number to be read.
import {
  ask, clear, codeArea, counted, dataTable, el, glyph, onLook, percent, rootOf, textBox, tint,
  unpack,
} from "./common.js";

const SHOWN = 8; // of the characters looked at; the others are summed up
const fixed = (value, digits = 2) => value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1");
const strongest = (...rows) => Math.max(...rows.flatMap((row) => [...row].map(Math.abs)), 1e-9);
const length = (row) => Math.sqrt(row.reduce((sum, value) => sum + value * value, 0));

/** A number on the page, by its name. */
const num = (name, value, digits = 2) =>
  el("b", { class: "cg-number", "data-name": name }, fixed(value, digits));

/** A vector as a strip of cells: blue above 0, orange below; under the pointer its number. */
function strip(name, row, most, widest = row.length) {
  const canvas = el("canvas", {
    class: "cg-strip", role: "img", style: `width:${(100 * row.length) / widest}%`,
    "aria-label": `${name}: ${row.length} numbers, length ${fixed(length(row))}`,
  });
  const output = el("output", { class: "cg-length" }, fixed(length(row)));
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const at = Math.max(0, Math.min(row.length - 1, Math.floor(share * row.length)));
    output.textContent = `[${at}] ${fixed(row[at], 3)}`;
  });
  canvas.addEventListener("pointerleave", () => { output.textContent = fixed(length(row)); });
  const paint = () => {
    canvas.width = row.length;
    canvas.height = 1;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    for (let at = 0; at < row.length; at += 1) {
      context.globalAlpha = Math.min(1, Math.abs(row[at]) / most);
      context.fillStyle = style.getPropertyValue(row[at] < 0 ? "--cg-minus" : "--cg-plus");
      context.fillRect(at, 0, 1, 1);
    }
  };
  return { canvas, output, paint };
}

/** A line of the picture: what it is, its strip, how long it is. */
function line(strips, words, row, options = {}) {
  const { most = strongest(row), widest, name = words, title = null, sign = "" } = options;
  const { canvas, output, paint } = strip(name, row, most, widest);
  strips.push(paint);
  return el("div", { class: "cg-step", "data-step": name },
    el("span", {}, sign), el("span", { title }, ...[words].flat()),
    el("span", {}, canvas), output);
}

const part = (title, ...children) => el("section", { class: "cg-part" },
  el("div", { class: "cg-title" }, ...[title].flat()), ...children);
const said = (...children) => el("div", { class: "cg-hint" }, ...children);

/** 1: the character's row of the token table, and its place's row of the position table. */
function embedded(answer, strips) {
  const [token, position, sum] = [answer.token, answer.position, answer.stream[0]].map(floats);
  const most = strongest(token, position, sum);
  return part("1  From a character to numbers",
    line(strips, ["token ", glyph(answer.signs[answer.at]), ` (id ${answer.id})`], token,
      { most, name: "token" }),
    line(strips, `position ${answer.at}`, position,
      { most, name: "position", sign: "+" }),
    line(strips, "embedding", sum, { most, sign: "=" }));
}

const floats = (bytes) => unpack(bytes, Float32Array);

/** 2: what each part of the model passed on, and its heads to choose from. */
function stream(stages, answer, strips, choose) {
  const rows = answer.stream.map(floats);
  const widest = Math.max(...rows.map((row) => row.length));
  const most = strongest(...rows);
  return part("2  The residual stream, part by part",
    ...stages.flatMap((stage, index) => {
      const row = line(strips, stage.name, rows[index],
        { most, widest, title: stage.part });
      const heads = stage.heads.map((head) => el("button", {
        "aria-pressed": String(head.part === answer.head), "data-head": head.part,
        "aria-label": `${head.name}${pattern(answer, head)}`,
        title: head.part, click: () => choose(head.part),
      }, head.short));
      if (!heads.length) return [row];
      row.classList.toggle("cg-inside", stage.heads.some((head) => head.part === answer.head));
      return [row, el("div", { class: "cg-step" }, el("span"), el("span"),
        el("fieldset", { class: "cg-heads" }, ...heads), el("span"))];
    }),
    said("Blue is above 0, orange below. Click a head to look inside its block."));
}

const pattern = (answer, head) =>
  (answer.patterns[head.part] ? `: ${answer.patterns[head.part]}` : "");

/** 3: a head's query against each key, the weights, and what the values carry. */
function head(about, answer, strips, cells) {
  const names = ["query", "keys", "values", "scores", "weights", "carried", "mixed", "adds"];
  const [query, keys, values, scores, weights, carried, mixed, adds] =
    names.map((name) => floats(answer[name]));
  const size = query.length;
  const vector = (all, s) => all.subarray(s * size, (s + 1) * size);
  const ranked = [...weights.keys()].sort((s, u) => weights[u] - weights[s] || u - s);
  const shown = ranked.slice(0, SHOWN).sort((s, u) => u - s);
  const rest = ranked.slice(SHOWN);
  const most = strongest(query, ...shown.map((s) => vector(keys, s)));
  const parts = shown.map((s) => vector(values, s).map((value) => weights[s] * value));
  const loudest = strongest(mixed, ...parts);
  const readout = el("div", { class: "cg-readout", "aria-live": "polite" });
  const who = (s) => [glyph(answer.signs[s]), ` at ${s}`];

  const explain = (s) => {
    const product = scores[s] * Math.sqrt(size);
    clear(readout, "query · key of ", ...who(s), " = ", num("product", product),
      `, divided by √${size} = `, num("score", scores[s]), ". Of all scores softmax makes the "
      + "weight ", num("weight", weights[s], 4), ". So ", num("weight", weights[s], 4),
      " times its value is carried: through the output matrix a vector of length ",
      num("carried", carried[s], 3), ".");
    for (const [at, cell] of cells.entries()) cell.classList.toggle("cg-source", at === s);
  };
  const rows = shown.map((s, index) => {
    const key = strip(`key of ${answer.signs[s]} at ${s}`, vector(keys, s), most);
    const value = strip(`weighted value of ${answer.signs[s]} at ${s}`, parts[index], loudest);
    strips.push(key.paint, value.paint);
    const row = el("div", {
      class: "cg-look", tabindex: "0", "data-source": s, pointerenter: () => explain(s),
      focus: () => explain(s), click: () => explain(s),
    }, el("span", {}, ...who(s)), key.canvas, num("score", scores[s]),
    el("span", { class: "cg-weighted" }, num("weight", weights[s], 3),
      el("span", { class: "cg-share", style: `width:${(50 * weights[s]).toFixed(1)}%` })),
    value.canvas, num("carried", carried[s], 2));
    return row;
  });
  const sum = (list) => rest.reduce((total, s) => total + list[s], 0);
  const others = rest.length ? [el("div", { class: "cg-look" },
    el("span", {}, `${rest.length} others`), el("span"), el("span"),
    el("span", { class: "cg-weighted" }, num("rest", sum(weights), 3)), el("span"),
    el("span"))] : [];
  const queries = strip("query", query, most);
  const sums = strip("sum of the weighted values", mixed, loudest);
  strips.push(queries.paint, sums.paint);
  explain(ranked[0]);
  const heads = el("div", { class: "cg-look cg-columns" }, ...["looks at", "key", "score",
    "weight", "weight × value", "carries"].map((word) => el("span", {}, word)));
  const asks = el("div", { class: "cg-look" }, el("span", {}, "query of ",
    glyph(answer.signs[answer.at])), queries.canvas, el("span"), el("span"), sums.canvas,
  el("span", {}, "sum"));
  const node = part([`3  Inside ${about.name}: `, ...who(answer.at), " asks, the others answer"],
    heads, asks, ...rows, ...others, readout,
    line(strips, "what this head adds", adds),
    said("Shown are the characters with the largest weights. The number at the right of a strip is "
      + "its length. Hover over a strip to read its numbers."));
  return node;
}

/** 4: the block's other steps: all heads, the norms, the feed-forward. */
function block(about, given, answer, strips) {
  const [lengths, attention, a, fed, out] =
    ["lengths", "attention", "a", "feed_forward", "out"].map((name) => floats(answer[name]));
  const bars = [...lengths].map((value, index) => el("span", {},
    `${about.heads[index].short} `, num(`length ${index}`, value),
    el("span", { class: "cg-share", style: `width:${(60 * value) / Math.max(...lengths)}px` })));
  return part(`4  The rest of ${about.name}`,
    el("div", { class: "cg-row" }, "what each head adds, as a length:", ...bars),
    line(strips, "what came in: x", given, { name: "x" }),
    line(strips, "attention: all heads and bias", attention,
      { name: "attention", sign: "+" }),
    line(strips, "first norm of the sum: a", a, { name: "a", sign: "→" }),
    line(strips, "feed-forward of a", fed, { name: "feed-forward", sign: "+" }),
    line(strips, "second norm of the sum", out, { name: "out", sign: "→" }),
    said("Each strip has its strongest colour at its own largest number: compare the lengths."));
}

/** 5: the logits and what softmax makes of them; a click writes the character. */
function next(answer, { vocabulary, reads }, strips, write) {
  const row = floats(answer.final);
  const came = answer.signs[answer.at + 1];
  const entries = answer.candidates.map((token, index) => el("div", {
    class: "cg-next", "data-token": token,
  }, el("button", {
    "aria-label": `add ${vocabulary[token]} to the text`, click: () => write(token),
  }, glyph(vocabulary[token])), num("logit", answer.logits[index]),
  el("span", {}, num("p", 100 * answer.p[index], 1), " %",
    el("span", { class: "cg-share", style: `width:${(70 * answer.p[index]).toFixed(1)}%` })),
  el("span", {}, vocabulary[token] === came ? "came next" : "")));
  return part("5  From numbers to the next character",
    line(strips, reads, row, { name: "final" }),
    el("div", { class: "cg-next cg-columns" }, ...["character", "logit", "probability", ""]
      .map((word) => el("span", {}, word))),
    el("fieldset", { class: "cg-nexts" }, ...entries),
    said("Probability of ", glyph(vocabulary[answer.candidates[0]]), ` = e^${
      fixed(answer.logits[0])} / (the sum of e^logit over all ${vocabulary.length} characters) = `
      + `${fixed(Math.exp(answer.logits[0]), 1)} / ${fixed(answer.total, 1)} = `
      + `${percent(answer.p[0])}. Click a character to add it to the text and follow it.`));
}

/** The same numbers as the strips, for whoever reads rather than looks. */
function numbers(answer, about, given) {
  const columns = {
    token: answer.token, position: answer.position, "what came in": given,
    "this head adds": answer.adds, attention: answer.attention, a: answer.a,
    "feed-forward": answer.feed_forward, "block's output": answer.out,
    "the model's head reads": answer.final,
  };
  const lists = Object.values(columns).map(floats);
  const longest = Math.max(...lists.map((list) => list.length));
  const cell = (list, at) => (at < list.length ? fixed(list[at], 3) : "");
  return dataTable(`all numbers of this picture (${about.name})`,
    ["place", ...Object.keys(columns)],
    Array.from({ length: longest }, (_, at) => [at, ...lists.map((list) => cell(list, at))]));
}

function render({ model, el: parent }) {
  const root = rootOf(parent, "forward pass explorer");
  const { stages, tokens, limit } = model.get("fixed");
  const holder = el("div", { class: "cg-flow" });
  let strips = [];
  const paint = () => strips.forEach((draw) => draw());

  const wire = ask(model, root, (answer) => {
    strips = [];
    const inside = stages.findIndex(({ heads }) => heads.some(({ part }) => part === answer.head));
    const about = stages[inside];
    const chosen = about.heads.find((one) => one.part === answer.head);
    const go = (at) => { if (wire.live()) wire.put({ at }); };
    const focus = {
      at: answer.at, locked: true, look: () => {}, click: go, step: go, unlock: () => {},
    };
    const area = codeArea("text: click the character to follow", answer.signs, answer.unknown,
      focus);
    const weights = floats(answer.weights);
    weights.forEach((weight, at) => {
      area.cells[at].style.background = tint("weight", 0.8 * Math.sqrt(weight));
    });
    area.mark();
    const write = (token) => { // after the character that is followed: what came there goes
      const before = Array.from(answer.text).slice(0, answer.at + 1);
      wire.put({ text: [...before, tokens[token]].slice(-limit).join(""), at: limit });
    };
    const focused = /** @type {HTMLElement} */ (document.activeElement);
    const had = holder.contains(focused) && focused;
    const again = had && (had.dataset.head ? `[data-head="${had.dataset.head}"]`
      : had.classList.contains("cg-code") && ".cg-code");
    const open = holder.querySelector("details")?.open;
    const given = floats(answer.given);
    const table = numbers(answer, about, answer.given);
    table.open = open;
    clear(holder, area.node,
      embedded(answer, strips),
      stream(stages, answer, strips, (part) => wire.put({ head: part })),
      head(chosen, answer, strips, area.cells),
      block(about, given, answer, strips),
      next(answer, model.get("fixed"), strips, write), table);
    if (again) holder.querySelector(again)?.focus();
    paint();
  }, ({ text }) => box.set(text));
  const box = textBox("text", model.get("request").text, limit, (part) => wire.put(part, 250));
  root.prepend(el("fieldset", {}, box.node));
  root.append(holder, counted("Blocks and heads"));
  wire.begin();
  const forget = onLook(root, paint);
  return () => { wire.stop(); forget(); };
}

export default { render };
