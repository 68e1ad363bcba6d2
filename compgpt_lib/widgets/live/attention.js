// What the attention explorer's Python side answers: compgpt_lib/widgets/attention.py.
import { CLEAR, LEAST, PATTERNS, headNames, headPatterns, trace } from "./measures.js";
import { called, named } from "./model.js";
import { read } from "./tokenizer.js";

const ONE = 65535; // a weight of 1, as it is sent
const RULE = "A head has the name of a pattern if it clearly gives it more than even attention "
  + `would: by ${CLEAR} of its attention or more, with the whole 95 % interval, over ${LEAST} or `
  + "more characters that have such a target. The number is the share of its attention. "
  + "Induction: the head looks at what came after the last three characters when they last "
  + "occurred.";

/**
 * The maps (h, T, T) without what lies ahead, 16 bits a weight, one map after the other.
 * @param {Float32Array[]} maps
 * @param {number} T
 */
function lower(maps, T) {
  const heads = maps.reduce((sum, { length }) => sum + length / (T * T), 0);
  const weights = new Uint16Array(heads * T * (T + 1) / 2);
  let at = 0;
  for (const map of maps) {
    for (let row = 0; row < map.length; row += T) {
      const end = row + row / T % T;
      for (let s = row; s <= end; s += 1) {
        weights[at] = Math.round(map[s] * ONE);
        at += 1;
      }
    }
  }
  return new DataView(weights.buffer);
}

/**
 * The attention explorer of one or two models: what no request changes, and what it answers.
 * @param {Record<string, any>} models
 */
export function look(models) {
  const all = Object.entries(named(models, 2));
  const limit = Math.min(...all.map(([, model]) => model.config.context_length));
  const [[, { tokenizer }]] = all;

  /**
   * @param {any} model
   * @param {string} text
   */
  function panel(model, text) {
    const record = trace(model, text);
    const { heads, even } = headPatterns(record);
    const names = headNames(record);
    const scores = Object.values(heads).map((shares) => shares.map((share) => share || 0));
    return {
      weights: lower(Object.values(record.attention), record.ids.length),
      scores,
      even: even.map((share) => share || 0),
      captions: Object.values(names).map((name, head) => (name
        ? `${name} ${scores[head][PATTERNS.indexOf(name)].toFixed(2)}` : "no clear pattern")),
    };
  }

  return {
    fixed() {
      const about = all.map(([name, model]) => {
        const names = model.partNames();
        const seen = /** @type {any} */ ({});
        model.forward([0], { seen }); // one character: a head's map is one number
        const blocks = model.blocks().map((block) => ({
          ...called(names, block),
          branch: names[block.slice(0, block.lastIndexOf("."))] ?? "",
          width: seen.widths[block],
          heads: Array.from(seen.attention[block],
            (_, head) => called(names, `${block}.heads.${head}`)),
        }));
        return { name, blocks };
      });
      return { models: about, patterns: PATTERNS, rule: RULE, limit };
    },
    /** @param {any} request */
    look(request) {
      const reading = read(request, tokenizer, limit);
      return { ...reading, models: all.map(([, model]) => panel(model, reading.text)) };
    },
  };
}
