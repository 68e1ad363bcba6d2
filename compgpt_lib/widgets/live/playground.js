// What the playground's Python side answers: compgpt_lib/widgets/playground.py.
import { generate, ranked, samplingOf, softmax } from "./generation.js";
import { named } from "./model.js";
import { read, short, signs } from "./tokenizer.js";

/** @typedef {import("./model.js").Model} Model */
/** @typedef {import("./generation.js").Sampling} Sampling */
/** @typedef {[drawn: number, p: number, ids: number[], shares: number[], kept: number]} Told */

const CANDIDATES = 5;
const TURN = 40; // ms of writing between two answers: the page moves, and Stop is heard
const SETTINGS = ["temperature", "top_p", "seed"];
const OF_ONE_ANSWER = ["number", "have", "write"]; // of a request: all else is of a whole run

const round = (/** @type {number} */ value, /** @type {number} */ digits) =>
  Number(value.toFixed(digits));

/** @param {number[]} values */
function median(values) {
  const order = values.slice().sort((a, b) => a - b);
  const half = order.length >> 1;
  return order.length % 2 ? order[half] : (order[half - 1] + order[half]) / 2;
}

/**
 * A drawn id, its probability, the likeliest and how many of them top-p keeps.
 * @param {number} drawn
 * @param {Float32Array} logits
 * @param {Sampling} sampling
 * @returns {Told}
 */
function told(drawn, logits, { temperature, top_p: topP }) {
  const p = Float32Array.from(softmax(logits, temperature || 1));
  const ids = ranked(p).slice(0, CANDIDATES);
  let kept = 0;
  let before = 0;
  for (const id of ids) {
    if (before < (topP ?? 1)) kept += 1;
    before = Math.fround(before + p[id]);
  }
  return [drawn, round(p[drawn], 5), ids, ids.map((id) => round(p[id], 5)), temperature ? kept : 1];
}

/** One prompt being completed by each of the models. */
class Writing {
  /**
   * @param {Record<string, Model>} models
   * @param {any} reading
   * @param {Sampling} sampling
   * @param {any} run
   */
  constructor(models, reading, sampling, run) {
    this.reading = reading;
    this.sampling = sampling;
    this.run = run;
    this.runs = Object.values(models).map((model) => ({
      steps: generate(model, model.idsOf(reading.text), sampling),
      /** @type {Told[]} */
      written: [],
      /** @type {number[]} */
      times: [],
    }));
  }

  get done() {
    return this.runs.every(({ written }) => written.length === this.sampling.max_new);
  }

  /**
   * Let the models write a character each in turn, until that time or the end.
   * @param {number} until
   */
  write(until) {
    while (!this.done) {
      for (const run of this.runs) {
        const began = performance.now();
        const [drawn, logits] = /** @type {[number, Float32Array]} */ (run.steps.next().value);
        run.times.push(performance.now() - began);
        run.written.push(told(drawn, logits, this.sampling));
      }
      if (performance.now() >= until) break;
    }
  }

  /**
   * What was written since a character; from the start on, also what was read.
   * @param {number} have
   */
  since(have) {
    const start = Math.min(have, ...this.runs.map(({ written }) => written.length));
    const answer = {
      run: this.run.run ?? "",
      from: start,
      runs: this.runs.map(({ written, times }) => ({
        written: written.slice(start), ms: round(median(times.length ? times : [0]), 3),
      })),
      done: this.done,
    };
    return start ? answer : { ...this.reading, ...answer };
  }
}

/**
 * The playground of one to four models: what no request changes, and what it answers. An answer
 * carries what was written since the character that the request says the page `have`s.
 * @param {Record<string, Model>} models
 * @param {{ max_new?: number }} options
 */
export function look(models, { max_new: most = 120 } = {}) {
  const all = Object.values(named(models, 4));
  const [{ tokenizer }] = all;
  const limit = Math.min(...all.map((model) => model.config.context_length));
  /** @type {Writing | null} */
  let writing = null;

  /** @param {any} run */
  function begin(run) {
    const missing = SETTINGS.find((name) => run[name] === undefined);
    if (missing) throw new Error(`${missing} must be a number, got nothing`);
    const given = SETTINGS.map((name) => [name, run[name]]);
    const sampling = samplingOf({ ...Object.fromEntries(given), max_new: most });
    try {
      return new Writing(models, read(run, tokenizer, limit, true), sampling, run);
    } catch (error) {
      throw new Error(`prompt: ${error.message}`);
    }
  }

  return {
    fixed: () => ({ models: Object.keys(models), vocabulary: signs(tokenizer.tokens), limit }),
    /** @param {any} request */
    look(request) {
      const { have = 0, write = false } = request;
      if (!Number.isInteger(have)) {
        throw new Error(`have must be a whole number, got ${short(have)}`);
      }
      const names = Object.keys(request).filter((name) => !OF_ONE_ANSWER.includes(name)).sort();
      const run = Object.fromEntries(names.map((name) => [name, request[name]]));
      if (!writing || JSON.stringify(run) !== JSON.stringify(writing.run)) writing = begin(run);
      if (write) writing.write(performance.now() + TURN);
      return writing.since(have);
    },
  };
}
