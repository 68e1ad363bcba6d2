// What a pass says in numbers, as compgpt_lib/measures.py computes it.
import { softmax } from "../common.js";

/**
 * What a forward pass of a text computed, as introspection.trace returns it. A block's attention is
 * (h, T, T), a stage's residual (T, width), the logits are (T, V).
 * @typedef {object} Trace
 * @property {string[]} characters
 * @property {number[]} ids
 * @property {Float32Array} logits
 * @property {Record<string, Float32Array>} attention
 * @property {Record<string, Float32Array>} residual
 */

export const CLASSES = [
  "letter", "digit", "bracket", "quote", "sign", "space", "indent", "newline",
];
export const PATTERNS = [
  "previous character", "two characters back", "start of line", "same character", "open bracket",
  "induction",
];
export const REPEATED = 3; // characters that must have occurred before, for induction
// A head's name needs so much more than even attention, at so many characters or more.
export const CLEAR = 0.1;
export const LEAST = 8;

const [OPENING, CLOSING, QUOTES] = ["([{", ")]}", "\"'`"];
// Python's isspace and isdigit: JavaScript has no class that is the same.
// oxlint-disable-next-line no-control-regex
const SPACE = /[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/u;
const LETTER = /[\p{L}_]/u;
const DIGIT = new RegExp(
  "[\\p{Nd}²³¹\u1369-\u1371\u19da⁰⁴-⁹₀-₉①-⑨⑴-⑼⒈-⒐⓪⓵-⓽⓿❶-❾➀-➈➊-➒"
  + "\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}]", "u");

/**
 * The class of each character: one of CLASSES.
 * @param {string[]} characters
 * @returns {string[]}
 */
export function classesOf(characters) {
  let blank = true;
  return characters.map((character) => {
    let kind = "sign";
    if (character === "\n") kind = "newline";
    else if (SPACE.test(character)) kind = blank ? "indent" : "space";
    else if (LETTER.test(character)) kind = "letter";
    else if (DIGIT.test(character)) kind = "digit";
    else if ((OPENING + CLOSING).includes(character)) kind = "bracket";
    else if (QUOTES.includes(character)) kind = "quote";
    blank = character === "\n" || (blank && kind === "indent");
    return kind;
  });
}

/**
 * The ids of a text, and what a pass over it computed.
 * @param {any} model
 * @param {string} text
 * @param {string[]} knocked parts that are silenced
 * @returns {Trace}
 */
export function trace(model, text, knocked = []) {
  const seen = /** @type {any} */ ({});
  const ids = model.idsOf(text);
  const logits = model.forward(ids, { seen, knocked });
  return { characters: Array.from(text), ids, logits, ...seen };
}

/**
 * For each of PATTERNS the places that a head of that kind looks at, from each position.
 * @param {string[]} characters
 * @returns {Record<string, number[][]>}
 */
export function patternTargets(characters) {
  const targets = Object.fromEntries(PATTERNS.map(
    (name) => [name, characters.map(() => /** @type {number[]} */ ([]))]));
  let line = 0;
  /** @type {number[]} */
  const opened = [];
  characters.forEach((character, t) => {
    if (t > 0) targets["previous character"][t] = [t - 1];
    if (t > 1) targets["two characters back"][t] = [t - 2];
    if (characters[t - 1] === "\n") line = t;
    if (line < t) targets["start of line"][t] = [line];
    for (let s = 0; s < t; s += 1) {
      if (characters[s] === character) targets["same character"][t].push(s);
    }
    if (opened.length) targets["open bracket"][t] = opened.slice(-1);
    if (OPENING.includes(character)) opened.push(t);
    else if (CLOSING.includes(character)) opened.pop();
    const before = lastRepeat(characters, t);
    if (before >= 0) targets.induction[t] = [before + REPEATED];
  });
  return targets;
}

/**
 * Where the characters that end at t last occurred without overlap, or -1; so too if all are alike.
 * @param {string[]} characters
 * @param {number} t
 */
function lastRepeat(characters, t) {
  const start = t + 1 - REPEATED;
  const recent = characters.slice(Math.max(0, start), t + 1);
  if (new Set(recent).size < 2) return -1;
  let before = start - REPEATED;
  while (before >= 0 && recent.some((one, at) => characters[before + at] !== one)) before -= 1;
  return Math.max(before, -1);
}

/**
 * Each head by its name in code, and its attention to each pattern's targets at the positions that
 * have any; `even` is that of a head that looks at everything before it evenly.
 * @param {Trace} record
 */
function shares({ characters, attention }) {
  const T = characters.length;
  const asked = Object.values(patternTargets(characters)).map((places) =>
    places.flatMap((targets, t) => (targets.length ? [{ t, targets }] : [])));
  const even = asked.map((places) => places.map(({ t, targets }) => targets.length / (t + 1)));
  /** @type {Record<string, number[][]>} */
  const heads = {};
  for (const [block, maps] of Object.entries(attention)) {
    for (let head = 0; head < maps.length / (T * T); head += 1) {
      const own = maps.subarray(head * T * T, (head + 1) * T * T);
      heads[`${block}.heads.${head}`] = asked.map((places) =>
        places.map(({ t, targets }) => targets.reduce((sum, s) => sum + own[t * T + s], 0)));
    }
  }
  return { heads, even };
}

/** @param {number[]} values */
export const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/**
 * What share of its attention each head gives to each of PATTERNS, and even attention does: NaN
 * where no position has such a target.
 * @param {Trace} record
 * @returns {{ heads: Record<string, number[]>, even: number[] }}
 */
export function headPatterns(record) {
  const { heads, even } = shares(record);
  return {
    heads: Object.fromEntries(
      Object.entries(heads).map(([part, there]) => [part, there.map(mean)])),
    even: even.map(mean),
  };
}

/**
 * The one of PATTERNS after which each head is named, "" where none is clear enough.
 * @param {Trace} record
 * @returns {Record<string, string>}
 */
export function headNames(record) {
  const { heads, even } = shares(record);
  return Object.fromEntries(Object.entries(heads).map(([part, there]) => {
    let [name, most] = ["", CLEAR];
    there.forEach((weights, pattern) => {
      const more = weights.map((weight, at) => weight - even[pattern][at]);
      const difference = mean(more);
      if (more.length < LEAST || difference <= most) return;
      if (meanInterval(more)[0] > CLEAR) [name, most] = [PATTERNS[pattern], difference];
    });
    return [part, name];
  }));
}

/**
 * The ends of Student's 95 % interval of a mean, as evaluation.mean_interval gives them.
 * @param {number[]} values
 * @returns {[number, number]}
 */
export function meanInterval(values) {
  const n = values.length;
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  const reach = Math.sqrt(squares / (n - 1) / n) * studentReach(n - 1);
  return [middle - reach, middle + reach];
}

/**
 * The t within which 95 % of Student's distribution lie. With whole degrees of freedom the share
 * within t = sqrt(freedom) * tan(angle) is a finite sum (Abramowitz and Stegun, 26.7.3 and 4),
 * which grows with the angle.
 * @param {number} freedom degrees, 1 or more
 */
export function studentReach(freedom) {
  const odd = freedom % 2;
  let [low, high] = [0, Math.PI / 2];
  for (let step = 0; step < 60; step += 1) {
    const angle = (low + high) / 2;
    const square = Math.cos(angle) ** 2;
    let term = odd ? Math.cos(angle) : 1;
    let sum = 0;
    for (let k = odd; k < freedom; k += 2) {
      sum += term;
      term *= square * (k + 1) / (k + 2);
    }
    sum *= Math.sin(angle);
    const within = odd ? 2 / Math.PI * (angle + sum) : sum;
    if (within < 0.95) low = angle;
    else high = angle;
  }
  return Math.sqrt(freedom) * Math.tan(low);
}

/**
 * The loss in nats of each prediction, (T - 1,): logits (T, V) against ids (T,).
 * @param {Float32Array} logits
 * @param {ArrayLike<number>} ids
 * @returns {number[]}
 */
export function losses(logits, ids) {
  const V = logits.length / ids.length;
  return Array.from({ length: ids.length - 1 }, (_, t) => {
    const row = logits.subarray(t * V, (t + 1) * V);
    const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = row.reduce((total, value) => total + Math.exp(value - top), 0);
    return top + Math.log(sum) - row[ids[t + 1]];
  });
}

/**
 * What each branch of p-gpt adds to the logits before it is weighted, (T, V) each.
 * @param {any} model
 * @param {Trace} record
 * @returns {Record<string, Float32Array>}
 */
export function contributions(model, { ids, residual }) {
  const none = new Float32Array(model.V);
  /** @type {Record<string, Float32Array>} */
  const parts = {};
  for (const [stage, rows] of Object.entries(residual)) { // of each branch the last block stays
    const [group, branch] = stage.split(".");
    if (group === "branches") parts[branch] = rows;
  }
  return Object.fromEntries(Object.entries(parts).map(
    ([branch, rows]) => [branch, model.head(rows, ids.length, none)]));
}

/**
 * The probabilities (T, V) that the head would give if it read each stage; what is still to be
 * compressed is compressed.
 * @param {any} model
 * @param {Trace} record
 * @returns {Record<string, Float64Array[]>}
 */
export function logitLens(model, { ids, residual }) {
  const [T, blocks] = [ids.length, new Set(model.blocks())];
  const stages = Object.keys(residual);
  return Object.fromEntries(stages.map((stage, index) => {
    const ahead = stages.slice(index + 1).filter((later) => !blocks.has(later));
    const x = ahead.reduce(
      (rows, later) => model.compress(later, rows, { T, start: 0, cache: null, seen: null }),
      residual[stage]);
    const logits = model.head(x, T);
    return [stage, ids.map((_, t) => softmax(logits.subarray(t * model.V, (t + 1) * model.V)))];
  }));
}
