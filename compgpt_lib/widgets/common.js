// What the live views share. Text reaches the page as text nodes only, never as markup.

export const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];

/** An element with attributes, listeners (functions) and children (elements or texts). */
export function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "circle", "g", "text", "rect", "polyline", "title"];
  const node = svg.includes(tag)
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

const PATIENCE = 5000; // ms
const AGAIN = "run the cells up to this one again";
const GONE = "The kernel was restarted or stopped: this view shows its last answer. "
  + `To go on, ${AGAIN}.`;
const LATE = `No answer for ${PATIENCE / 1000} seconds. Python may be busy, and answers when it `
  + `is done. If the kernel was restarted or stopped, ${AGAIN}.`;

/**
 * What all displays of a view have in common. It is in the model and never in one of them: the
 * `request` to Python, where the other `controls` stand, the `answer`. `show` draws an answer, and
 * `follow` sets the controls, whichever display or answer changed them. What needs the kernel
 * stands in a fieldset, which ends with the kernel.
 */
export function ask(model, root, show, follow) {
  const error = el("div", { class: "cg-error", role: "alert", hidden: true });
  const notice = el("div", { class: "cg-notice", role: "status" });
  const kernel = el("div", { class: "cg-kernel", role: "status" });
  root.append(kernel, error, notice);
  const number = (of) => model.get(of).number ?? 0;
  const state = () => ({ ...model.get("request"), ...model.get("controls") });
  // A page that does not tell of a restart leaves this true: there LATE has the last word.
  let connected = !root.closest(".jupyter-widgets-disconnected");
  const live = () => connected;
  const waiting = () => connected && number("request") > number("answer");
  let drawn = -1;
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
    if (waiting()) late = setTimeout(() => busy(LATE, false), PATIENCE);
    root.querySelectorAll("fieldset").forEach((part) => { part.disabled = !connected; });
    follow(state());
  };
  const receive = () => {
    const answer = model.get("answer");
    if (answer.number < drawn) return;
    drawn = answer.number;
    error.hidden = !answer.error;
    error.textContent = answer.error ?? "";
    notice.textContent = answer.notice ?? "";
    show(answer);
    changed();
  };
  const events = {
    "change:answer": receive,
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
    const next = Math.max(number("request"), number("answer")) + 1;
    model.set("request", { ...model.get("request"), ...changes, number: next });
    clearTimeout(pause);
    pause = setTimeout(send, wait);
  };
  /** Set a control on all displays; Python keeps it for a page that is opened later. */
  const turn = (changes) => {
    model.set("controls", { ...model.get("controls"), ...changes });
    model.save_changes();
  };
  const stop = () => {
    clearTimeout(late);
    if (pause) send(); // another display waits for it
    for (const [name, call] of Object.entries(events)) model.off(name, call);
  };
  return { put, turn, state, live, waiting, receive, stop };
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
export function typed(text, limit, end = false) {
  const part = (whole, size) => (end ? whole.slice(-size) : whole.slice(0, size));
  const characters = Array.from(part(text, 4 * limit).replace(/\p{Surrogate}/gu, "\ufffd"));
  const length = text.length > 4 * limit ? text.length : characters.length;
  return { text: part(characters, 2 * limit).join(""), length };
}

export function slider(label, { min, max, step, value }, changed, form = (v) => v.toFixed(2)) {
  const shown = el("output", {}, form(value));
  const input = el("input", {
    type: "range", min, max, step, "aria-label": label,
    input: () => { shown.textContent = form(Number(input.value)); changed(Number(input.value)); },
  });
  input.value = value;
  const node = el("label", { class: "cg-field" }, label, input, shown);
  const set = (v) => { input.value = v; shown.textContent = form(v); };
  return { node, input, set };
}

/** Where the learner looks: hover looks, click locks, a second click or Escape unlocks. */
export function makeFocus(changed) {
  const focus = { at: null, locked: false };
  const move = (at) => { if (at !== focus.at) { focus.at = at; changed(focus); } };
  return Object.assign(focus, {
    look: (at) => { if (!focus.locked) move(at); },
    click: (at) => {
      const again = focus.locked && at === focus.at;
      focus.locked = !again;
      focus.at = at;
      changed(focus);
    },
    unlock: () => { focus.locked = false; changed(focus); },
    step: (at) => { focus.at = at; changed(focus); },
  });
}

/** Characters as cells that can be looked at with a pointer or the arrow keys; `add` appends. */
export function codeArea(label, signs, unknown, focus, extra = []) {
  const strange = new Set(unknown);
  const cells = [];
  const node = el("div", {
    class: "cg-code", tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": 0,
    dir: "ltr",
  });
  const add = (sign) => {
    const place = cells.length;
    const cell = el("span", {
      class: `cg-char${strange.has(place) ? " cg-unknown" : ""}${"␣⏎⇥".includes(sign) ? " cg-blank" : ""}`,
      "data-at": place,
    }, sign);
    cells.push(cell);
    node.append(cell);
    if (sign === "⏎") node.append(el("br"));
    node.setAttribute("aria-valuemax", place);
    return cell;
  };
  [...signs, ...extra].forEach(add);
  const place = (event) => {
    const at = event.target.closest?.("[data-at]")?.dataset.at;
    return at === undefined ? null : Number(at);
  };
  node.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (at !== null) focus.look(at);
  });
  node.addEventListener("click", (event) => {
    const at = place(event);
    if (at !== null) focus.click(at);
  });
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
export function dataTable(title, columns, rows) {
  const row = (tag, values) => el("tr", {}, ...values.map((value) => el(tag, {}, String(value))));
  const table = el("table", {}, el("thead", {}, row("th", columns)),
    el("tbody", {}, ...rows.map((values) => row("td", values))));
  return el("details", { class: "cg-table" }, el("summary", {}, title), table);
}

/** The colour of the text as the page's theme has it, as [r, g, b]. */
export function ink(node) {
  return (getComputedStyle(node).color.match(/[\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map(Number);
}

/** A character in the middle of a sentence. */
export const glyph = (sign) => el("code", { class: "cg-glyph" }, sign);

/** Call `draw` again when the view gets its place or size, and when light and dark change. */
export function onLook(root, draw) {
  const observer = new MutationObserver(draw);
  const sizes = new ResizeObserver(draw);
  sizes.observe(root);
  for (const node of [document.body, document.documentElement]) {
    observer.observe(node, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "style", "theme"] });
  }
  return () => { observer.disconnect(); sizes.disconnect(); };
}

/** The element that a view lives in; the notebook's own keyboard shortcuts stay out of it. */
export function rootOf(el_, title) {
  const root = el("div", {
    class: "cg-view", role: "group", "aria-label": title, "data-lm-suppress-shortcuts": "true",
  });
  root.addEventListener("keydown", (event) => event.stopPropagation());
  el_.append(root);
  return root;
}

export const clear = (node, ...children) => node.replaceChildren(...children);
