// What the dimension explorer's Python side answers: compgpt_lib/widgets/dimensions.py.
import { CLASSES, classesOf, logitLens, trace } from "./measures.js";
import { PROBES, stageTable } from "./stages.js";
import { floats, read, signs } from "./tokenizer.js";

const EACH = 60; // characters of each class on the map
const FEWEST = 8; // windows of a sample
const MARKERS = ["o", "s", "^", "D", "P", "v", "<", "X"];

/**
 * The ids (W, T) of the windows of a sample.
 * @param {any} model
 * @param {string[]} sample
 * @returns {number[][]}
 */
function windows(model, sample) {
  const limit = model.config.context_length;
  const lengths = sample.map((window) => Array.from(window).length);
  const [T = 0] = lengths;
  if (sample.length < FEWEST || T < 1 || T > limit || lengths.some((length) => length !== T)) {
    throw new Error(`sample must be ${FEWEST} windows or more, all of the same length, of at most `
      + `${limit} (context_length) characters, got ${sample.length} of ${T}`);
  }
  return sample.map((window) => model.idsOf(window, "sample"));
}

/**
 * The places of up to EACH characters of every class, evenly spread, in order.
 * @param {number[]} kinds
 */
function someOfEach(kinds) {
  const chosen = CLASSES.flatMap((_, kind) => {
    const places = [...kinds.keys()].filter((place) => kinds[place] === kind);
    const count = Math.min(EACH, places.length);
    const step = (places.length - 1) / (count - 1);
    return Array.from({ length: count }, (__, at) =>
      places[at < count - 1 ? Math.floor(at * step) : places.length - 1]);
  });
  return chosen.sort((a, b) => a - b);
}

/**
 * The dimension explorer of a gpt, lc-gpt or cc-gpt: what no request changes, and what it answers.
 * @param {Record<string, any>} models
 * @param {{ sample?: string[] }} options windows for maps, spectra and probes
 */
export function look(models, { sample = [] } = {}) {
  const [model] = Object.values(models);
  if (model.name.startsWith("p-gpt")) {
    throw new Error("model must be a gpt, lc-gpt or cc-gpt: p-gpt has no single depth to read");
  }
  const { tokenizer, config: { context_length: limit } } = model;
  return {
    fixed() {
      const ids = windows(model, sample);
      const names = model.partNames();
      const T = ids[0].length;
      const { table, commonest, planes, place } = stageTable(model, ids);
      const texts = ids.map((window) => window.map((id) => tokenizer.tokens[id]));
      const kinds = texts.flatMap(classesOf).map((name) => CLASSES.indexOf(name));
      const places = someOfEach(kinds).map((at) => [Math.floor(at / T), at % T]);
      return {
        stages: table.map((row) => ({ ...row, name: names[row.stage] })),
        commonest,
        probes: PROBES,
        maps: floats(planes.flatMap(({ x, y }) => places.flatMap(([window, t]) => {
          const at = place(window, t);
          return [x[at], y[at]];
        }))),
        points: places.map(([window, t]) => {
          const shown = signs(texts[window].slice(Math.max(0, t - 16), t + 1));
          return { sign: shown.at(-1), before: shown.slice(0, -1).join("") };
        }),
        kinds: places.map(([window, t]) => kinds[window * T + t]),
        classes: CLASSES.map((name, at) => ({ name, marker: MARKERS[at] })),
        vocabulary: signs(tokenizer.tokens),
        characters: ids.length * T,
        limit,
      };
    },
    /** @param {any} request */
    look(request) {
      const reading = read(request, tokenizer, limit);
      const record = trace(model, reading.text);
      const p = Object.values(logitLens(model, record)); // (S, T) of (V,)
      const top = p.map((rows) => rows.map((row) => row.reduce((a, b) => Math.max(a, b))));
      const { ids } = record;
      return {
        ...reading,
        ids,
        top: new DataView(Uint32Array.from(
          p.flatMap((rows, stage) => rows.map((row, t) => row.indexOf(top[stage][t])))).buffer),
        p: floats(top.flat()),
        came: floats(p.flatMap((rows) => ids.slice(1).map((id, t) => rows[t][id]))),
      };
    },
  };
}
