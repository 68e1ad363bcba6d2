// Sampling one character at a time over a cache, as generation.py does it: the same seed writes the
// same text.
import { MersenneTwister } from "./random.js";
import { short } from "./tokenizer.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {{ max_new: number, temperature: number, top_k: number | null, top_p: number | null,
 *    seed: number | bigint | null }} Sampling */

const PROBLEMS = "the model's scores are not finite: its training diverged; train it anew with a "
  + "lower learning_rate or gradient_clip=1.0";

/**
 * How a text is continued, each value checked.
 * @param {{ [name: string]: any }} given
 * @returns {Sampling}
 */
export function samplingOf(given) {
  const { max_new: most = 200, temperature = 1, seed = null } = given;
  const { top_k: k = null, top_p: p = null } = given;
  const number = (/** @type {string} */ name, /** @type {any} */ value) => {
    if (typeof value !== "number") throw new Error(`${name} must be a number, got ${short(value)}`);
    if (!Number.isFinite(value)) throw new Error(`${name} must be a finite number, got ${value}`);
    return value;
  };
  // As Python writes a float.
  const float = (/** @type {number} */ value) =>
    (Number.isInteger(value) ? value.toFixed(1) : String(value));
  const whole = (/** @type {string} */ name, /** @type {any} */ value, least = 0) => {
    if (typeof value !== "bigint" && !Number.isInteger(value)) {
      throw new Error(`${name} must be a whole number, got ${short(value)}`);
    }
    if (value < least) {
      throw new Error(`${name} must be ${least ? "positive" : "0 or more"}, got ${value}`);
    }
  };
  whole("max_new", most);
  if (number("temperature", temperature) < 0) {
    throw new Error(`temperature must be at least 0, got ${float(temperature)}`);
  }
  if (k !== null) whole("top_k", k, 1);
  if (p !== null && !(number("top_p", p) > 0 && p <= 1)) {
    throw new Error(`top_p must be above 0 and at most 1, got ${float(p)}`);
  }
  if (seed !== null) {
    whole("seed", seed);
    if (seed >= 2 ** 64) throw new Error(`seed must be at most ${2n ** 64n - 1n}, got ${seed}`);
  }
  return { max_new: most, temperature, top_k: k, top_p: p, seed };
}

/**
 * The probabilities of scores, in double precision.
 * @param {Float32Array} logits
 * @param {number} temperature
 */
export function softmax(logits, temperature = 1) {
  const best = largest(logits);
  const p = new Float64Array(logits.length);
  let sum = 0;
  for (let i = 0; i < p.length; i += 1) {
    p[i] = Math.exp(Math.fround(logits[i] - best) / temperature);
    sum += p[i];
  }
  for (let i = 0; i < p.length; i += 1) p[i] /= sum;
  return p;
}

/**
 * The largest score, or NaN, if one is.
 * @param {Float32Array} logits
 */
function largest(logits) {
  let best = -Infinity;
  for (const value of logits) if (!(value <= best)) best = value;
  return best;
}

/**
 * Ids by their numbers, the largest first; of equal ones the lower id.
 * @param {ArrayLike<number>} values
 */
export const ranked = (values) => Array.from({ length: values.length }, (_, id) => id)
  .sort((a, b) => values[b] - values[a] || a - b);

/**
 * Draw one id from logits; throws an Error for logits that are not numbers.
 * @param {Float32Array} logits
 * @param {Sampling} sampling
 * @param {MersenneTwister} generator
 * @returns {number}
 */
export function choose(logits, { temperature, top_k: topK, top_p: topP }, generator) {
  const best = largest(logits);
  if (!Number.isFinite(best)) throw new Error(PROBLEMS);
  if (temperature === 0) return logits.indexOf(best);
  const p = softmax(logits, temperature);
  if (topK !== null || topP !== null) {
    const order = ranked(p);
    for (const id of order.slice(topK ?? p.length)) p[id] = 0;
    const least = (topP ?? 2) * order.reduce((sum, id) => sum + p[id], 0);
    let before = 0;
    for (const id of order) {
      const share = p[id];
      if (before >= least) p[id] = 0;
      before += share;
    }
  }
  // A race: of waiting times with rates p the shortest is i's with probability p_i.
  let [first, shortest] = [0, Infinity];
  for (let id = 0; id < p.length; id += 1) {
    const wait = generator.exponential() / p[id];
    if (wait < shortest) [first, shortest] = [id, wait];
  }
  return first;
}

/**
 * Each id that continues ids, with the logits (V) it was drawn from. Once the context is full, its
 * later half is read in anew and goes on from there; without `cached` the same is computed from the
 * whole window at every character.
 * @param {Model} model
 * @param {number[]} ids
 * @param {Sampling} sampling
 * @param {boolean} cached
 * @returns {Generator<[number, Float32Array], void, void>}
 */
export function* generate(model, ids, sampling, cached = true) {
  const generator = new MersenneTwister(sampling.seed ?? Math.floor(Math.random() * 2 ** 32));
  const { context_length: most } = model.config;
  let window = ids.slice(-most); // what the model sees
  let unread = window;
  let cache = model.cache();
  for (let written = 0; written < sampling.max_new; written += 1) {
    const all = cached ? model.forward(unread, { cache }) : model.forward(window);
    const logits = all.slice(-model.V);
    const drawn = choose(logits, sampling, generator);
    yield [drawn, logits];
    if (window.length === most) {
      window = window.slice(most - Math.floor(most / 2));
      cache = model.cache();
    }
    unread = [drawn];
    window = [...window, drawn];
    if (!cache.length) unread = window;
  }
}
