// What the forward pass explorer's Python side answers: compgpt_lib/widgets/forward.py.
import { ranked, softmax } from "./generation.js";
import { headNames } from "./measures.js";
import { called, norm } from "./model.js";
import { floats, read, requireOneOf, short, signs } from "./tokenizer.js";

/** @typedef {import("./model.js").Model} Model */

const CANDIDATES = 10;

/**
 * The forward pass explorer of a model: what no request changes, and what it answers.
 * @param {Record<string, Model>} models
 */
export function look(models) {
  const [model] = Object.values(models);
  const { tokenizer, config: { context_length: limit, n_heads: heads }, weights, V } = model;
  const names = model.partNames();
  const within = (/** @type {string} */ block) =>
    Array.from({ length: heads }, (_, head) => `${block}.heads.${head}`);
  const parts = model.blocks().flatMap(within);

  /** @param {any} request */
  function answer(request) {
    const reading = read(request, tokenizer, limit);
    const ids = model.idsOf(reading.text);
    const T = ids.length;
    /** @type {import("./model.js").Seen} */
    const seen = {};
    const all = model.forward(ids, { seen });
    /** @type {any} */
    const record = { ...seen, characters: Array.from(reading.text), ids, logits: all };
    const patterns = headNames(record);
    const { at: place = T - 1 } = request;
    if (!Number.isInteger(place)) {
      throw new Error(`at must be the place of a character, got ${short(place)}`);
    }
    const at = Math.min(Math.max(place, 0), T - 1);
    const part = request.head || (parts.find((one) => patterns[one]) ?? parts[0]);
    requireOneOf("head", part, parts);
    const [block, number] = part.split(".heads.");
    const head = Number(number);
    const steps = model.traceBlock(ids, block, seen);
    const d = steps.x.length / T;
    const size = d / heads;
    const row = (/** @type {Float32Array} */ values, width = d, from = at) =>
      values.subarray(from * width, (from + 1) * width);
    const ofHead = (/** @type {Float32Array} */ values) =>
      floats(values.subarray(head * T * size, (head * T + at + 1) * size));
    const toHead = (/** @type {Float32Array} */ maps) =>
      floats(row(maps, T, head * T + at).subarray(0, at + 1));
    const logits = row(all, V);
    const p = softmax(logits);
    const top = ranked(logits).slice(0, CANDIDATES);
    const { width } = model;
    return {
      ...reading,
      at,
      head: part,
      patterns,
      id: ids[at],
      token: floats(row(weights["embedding.token.weight"], width, ids[at])),
      position: floats(row(weights["embedding.position.weight"], width)),
      stream: model.stages().map((stage) => floats(row(seen.residual[stage], seen.widths[stage]))),
      given: floats(row(steps.x)),
      query: floats(row(steps.q, size, head * T + at)),
      keys: ofHead(steps.k),
      values: ofHead(steps.v),
      scores: toHead(steps.scores),
      weights: toHead(steps.weights),
      carried: toHead(steps.carried),
      mixed: floats(row(steps.mixed, size, head * T + at)),
      adds: floats(row(steps.adds, d, head * T + at)),
      lengths: floats(within(block).map((_, h) => norm(row(steps.adds, d, h * T + at)))),
      attention: floats(row(steps.attention)),
      a: floats(row(steps.a)),
      feed_forward: floats(row(steps.feed_forward)),
      out: floats(row(steps.out)),
      final: floats(row(seen.final, seen.final.length / T)),
      candidates: top,
      logits: top.map((id) => logits[id]),
      p: top.map((id) => p[id]),
      total: logits.reduce((sum, logit) => sum + Math.exp(logit), 0),
    };
  }

  return {
    fixed: () => ({
      stages: model.stages().map((stage) => ({
        ...called(names, stage),
        heads: (model.isBlock(stage) ? within(stage) : []).map((part) => called(names, part)),
      })),
      reads: Object.keys(model.branchWeights()).length > 1 ? "the mixture of both branches"
        : "what the model's head reads",
      vocabulary: signs(tokenizer.tokens),
      tokens: tokenizer.tokens,
      limit,
    }),
    look: answer,
  };
}
