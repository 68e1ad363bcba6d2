// What the live views share. Text reaches the page as text nodes only, never as markup.

const SVG = new Set(["svg", "path", "line", "text", "rect", "polyline"]);

/** An element with attributes, listeners (functions) and children (elements or texts). */
export function el(tag, attributes = {}, ...children) {
  const node = SVG.has(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Numbers packed by Python, as a typed array of their own. */
export function unpack(view, Kind) {
  const bytes = new Uint8Array(view.buffer ?? view, view.byteOffset ?? 0, view.byteLength);
  return new Kind(bytes.slice().buffer);
}

export function softmax(logits) {
  let top = -Infinity;
  for (const value of logits) top = Math.max(top, value);
  const powers = Float64Array.from(logits, (value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((value) => value / sum);
}

export const percent = (value) => `${(100 * value).toFixed(1)} %`;

/** A colour of the palette, as strong as `share` says; the palette is in views.css. */
export const tint = (name, share) =>
  `color-mix(in srgb, var(--cg-${name}) ${(100 * share).toFixed(0)}%, transparent)`;

const PATIENCE = 5000; // ms
const AGAIN = "run the cells up to this one again";
const GONE = "The kernel was restarted or stopped: this view shows its last answer. "
  + `To go on, ${AGAIN}.`;
const LATE = `No answer for ${PATIENCE / 1000} seconds. Python may be busy, and answers when it `
  + `has time. If the kernel was restarted or stopped, ${AGAIN}.`;

/**
 * What all displays of a view have in common. It is in the model and never in one of them: the
 * `request` to Python, where the other `controls` stand, the `answer`, or the `error`. `draw` draws
 * an answer, and `follow` sets the controls, whichever display or answer changed them. An answer
 * that comes after a newer one is dropped. What needs the kernel stands in a fieldset, which ends
 * with the kernel.
 */
export function ask(model, root, draw, follow) {
  const problem = el("div", { class: "cg-error", role: "alert", hidden: true });
  const notice = el("div", { class: "cg-notice", role: "status" });
  const kernel = el("div", { class: "cg-kernel", role: "status" });
  root.append(kernel, problem, notice);
  const state = () => ({ ...model.get("request"), ...model.get("controls") });
  // A page that does not tell of a restart leaves this true: there LATE has the last word.
  let connected = !root.closest(".jupyter-widgets-disconnected");
  const newest = { answer: { number: -1 }, error: { number: -1 } };
  const last = () => Math.max(newest.answer.number, newest.error.number);
  const live = () => connected;
  const waiting = () => connected && model.get("request").number > last();
  const failed = () => newest.error.number > newest.answer.number;
  const delayed = model.late ?? LATE; // a page without a kernel says it in its own words
  let pause = null;
  let late = null;

  const busy = (words, on) => {
    kernel.textContent = words;
    if (on) root.setAttribute("aria-busy", "true");
    else root.removeAttribute("aria-busy"); // what is busy is not read aloud
  };
  const changed = () => {
    clearTimeout(late);
    busy(connected ? "" : GONE, waiting());
    root.toggleAttribute("data-waiting", waiting());
    if (waiting()) late = setTimeout(() => busy(delayed, false), PATIENCE);
    root.querySelectorAll("fieldset").forEach((part) => { part.disabled = !connected; });
    problem.hidden = !failed();
    problem.textContent = failed() ? newest.error.words : "";
    notice.textContent = newest.answer.notice ?? "";
    follow(state());
  };
  /** Take what came, unless it is older than what was there; say whether it was taken. */
  const take = (name) => {
    const next = model.get(name);
    if (!(next.number >= newest[name].number)) return false;
    newest[name] = next;
    return true;
  };
  const receive = () => {
    if (!take("answer")) return;
    draw(newest.answer);
    changed();
  };
  const events = {
    "change:answer": receive,
    "change:error": () => { if (take("error")) changed(); },
    "change:request": changed,
    "change:controls": () => follow(state()),
    comm_live_update: () => { // ipywidgets: the kernel went; none comes back to an old view
      connected = false;
      changed();
    },
  };
  for (const [name, call] of Object.entries(events)) model.on(name, call);

  const send = () => {
    clearTimeout(pause);
    pause = null;
    model.save_changes();
  };
  /** Ask Python, after a pause; all displays show at once what is asked. */
  const put = (changes, wait = 0) => {
    const number = Math.max(model.get("request").number, last()) + 1;
    model.set("request", { ...model.get("request"), ...changes, number });
    clearTimeout(pause);
    pause = setTimeout(send, wait);
  };
  /** Set a control on all displays; Python keeps it for a page that is opened later. */
  const turn = (changes) => {
    model.set("controls", { ...model.get("controls"), ...changes });
    model.save_changes();
  };
  /** Draw what is there already. */
  const begin = () => {
    take("error");
    receive();
    root.dataset.ready = "true";
  };
  const stop = () => {
    clearTimeout(late);
    if (pause) send(); // another display waits for it
    for (const [name, call] of Object.entries(events)) model.off(name, call);
  };
  return { put, turn, state, live, waiting, failed, begin, stop };
}

/**
 * A box to type text into, and how to set it. It holds what is handed on and no more, so that all
 * displays show the same; of a text that is too long the first characters, or the last.
 */
export function textBox(label, text, limit, changed, end = false) {
  const box = el("textarea", {
    rows: Math.min(8, text.split("\n").length + 1), spellcheck: "false", autocomplete: "off",
    autocapitalize: "off", "aria-label": label,
    input: () => {
      const part = typed(box.value, limit, end);
      set(part.text);
      changed(part);
    },
  });
  const set = (value) => {
    if (box.value === value) return;
    const caret = Math.max(0, box.selectionEnd - (end ? box.value.length - value.length : 0));
    box.value = value;
    box.setSelectionRange(caret, caret);
  };
  set(text);
  return { node: el("label", { class: "cg-field cg-wide" }, label, box), set };
}

/** The first (or last) characters of a text and how many there were; half ones become one sign. */
function typed(text, limit, end) {
  const part = (whole, size) => (end ? whole.slice(-size) : whole.slice(0, size));
  const characters = Array.from(part(text, 4 * limit).replace(/\p{Surrogate}/gu, "\ufffd"));
  const length = text.length > 4 * limit ? text.length : characters.length;
  return { text: part(characters, 2 * limit).join(""), length };
}

/** A slider with its value in words beside it, and how to set it. */
export function slider(label, range, changed, words = (value) => value.toFixed(2)) {
  const output = el("output");
  const { value: first, ...bounds } = range;
  const input = el("input", {
    type: "range", ...bounds, "aria-label": label,
    input: () => { output.textContent = words(Number(input.value)); changed(Number(input.value)); },
  });
  const set = (value) => { input.value = value; output.textContent = words(value); };
  set(first);
  return { node: el("label", { class: "cg-field" }, label, input, output), set };
}

/** Where the learner looks: hover looks, click locks, a second click or Escape unlocks. */
export function makeFocus(changed) {
  const focus = { at: null, locked: false };
  const set = (at, locked) => { Object.assign(focus, { at, locked }); changed(); };
  return Object.assign(focus, {
    look: (at) => { if (!focus.locked && at !== focus.at) set(at, false); },
    click: (at) => set(at, !(focus.locked && at === focus.at)),
    unlock: () => set(focus.at, false),
    step: (at) => set(at, focus.locked),
  });
}

/** Let a pointer look at, and lock, what carries its place as `data-at`. */
export function pointAt(node, focus) {
  const place = (event) => Number(event.target.closest?.("[data-at]")?.dataset.at ?? NaN);
  const to = (act) => (event) => { if (place(event) >= 0) act(place(event)); };
  node.addEventListener("pointermove", to(focus.look));
  node.addEventListener("click", to(focus.click));
}

/** Characters as cells that can be looked at with a pointer or the arrow keys; `add` appends. */
export function codeArea(label, signs, unknown, focus, extra = []) {
  const strange = new Set(unknown);
  const cells = [];
  const node = el("div", {
    class: "cg-code", tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": 0,
    "aria-valuenow": 0, "aria-valuetext": "no character yet", // it must say something
    dir: "ltr",
  });
  const add = (sign) => {
    const place = cells.length;
    const cell = el("span", { class: "cg-char", "data-at": place }, sign);
    cell.classList.toggle("cg-unknown", strange.has(place));
    cell.classList.toggle("cg-blank", "␣⏎⇥".includes(sign));
    cells.push(cell);
    node.append(cell);
    if (sign === "⏎") node.append(el("br"));
    node.setAttribute("aria-valuemax", place);
    return cell;
  };
  [...signs, ...extra].forEach(add);
  pointAt(node, focus);
  node.addEventListener("keydown", (event) => {
    const at = focus.at ?? 0;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: cells.length - 1 };
    if (event.key in moves) {
      focus.step(Math.max(0, Math.min(cells.length - 1, moves[event.key])));
    } else if (event.key === "Enter" || event.key === " ") focus.click(at);
    else if (event.key === "Escape") focus.unlock();
    else return;
    event.preventDefault();
  });
  const mark = () => {
    cells.forEach((cell, at) => {
      cell.classList.toggle("cg-at", at === focus.at);
      cell.classList.toggle("cg-locked", at === focus.at && focus.locked);
    });
    if (focus.at === null) return;
    node.setAttribute("aria-valuenow", focus.at);
    node.setAttribute("aria-valuetext", `character ${focus.at}: ${cells[focus.at]?.textContent}`);
  };
  return { node, cells, add, mark };
}

/** A table on demand: the same numbers as the picture, for whoever reads rather than looks. */
export function dataTable(title, columns, rows, open = false) {
  const row = (tag, values) => el("tr", {}, ...values.map((value) => el(tag, {}, String(value))));
  const table = el("table", { tabindex: 0 }, el("thead", {}, row("th", columns)),
    el("tbody", {}, ...rows.map((values) => row("td", values))));
  return el("details", { class: "cg-table", open }, el("summary", {}, title), table);
}

/** How the names on the page are to be read; what is named has its name in code as a tooltip. */
export const counted = (parts) => el("div", { class: "cg-hint" },
  `${parts} are counted from 1 here, and from 0 in code: hover over one to see its name in code.`);

/** The colour of the text as the page's theme has it, as [r, g, b]. */
export function ink(node) {
  return (getComputedStyle(node).color.match(/[\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map(Number);
}

/** A character in the middle of a sentence. */
export const glyph = (sign) => el("code", { class: "cg-glyph" }, sign);

/** Call `draw` again when the view gets its place or another width, and when the theme changes. */
export function onLook(root, draw) {
  const themes = new MutationObserver(draw);
  let width = 0;
  const sizes = new ResizeObserver(() => {
    if (root.clientWidth === width) return; // what is said in the view makes it higher or lower
    width = root.clientWidth;
    draw();
  });
  sizes.observe(root);
  const attributeFilter = ["class", "data-jp-theme-light", "data-theme", "style", "theme"];
  for (const node of [document.body, document.documentElement]) {
    themes.observe(node, { attributes: true, attributeFilter });
  }
  return () => { themes.disconnect(); sizes.disconnect(); };
}

/** The element that a view lives in; the notebook's own keyboard shortcuts stay out of it. */
export function rootOf(parent, title) {
  const root = el("div", {
    class: "cg-view", role: "group", "aria-label": title, "data-lm-suppress-shortcuts": "true",
  });
  root.addEventListener("keydown", (event) => event.stopPropagation());
  parent.append(root);
  return root;
}

export const clear = (node, ...children) => node.replaceChildren(...children);
