// What the branch explorer's Python side answers: compgpt_lib/widgets/branches.py.
import { CLASSES, classesOf, contributions, losses, mean, trace } from "./measures.js";
import { called } from "./model.js";
import { floats, read, signs } from "./tokenizer.js";

/**
 * The branch explorer of a p-gpt: what no request changes, and what it answers.
 * @param {Record<string, any>} models
 */
export function look(models) {
  const [model] = Object.values(models);
  if (model.name !== "p-gpt") {
    throw new Error(`model must be a p-gpt with both branches, got ${model.name}`);
  }
  const { tokenizer, config: { context_length: limit } } = model;
  return {
    fixed() {
      const names = model.partNames();
      return {
        classes: CLASSES,
        vocabulary: signs(tokenizer.tokens),
        parts: model.parts().map((part) => called(names, part)),
        limit,
      };
    },
    /** @param {any} request */
    look(request) {
      const reading = read(request, tokenizer, limit);
      const knocked = [...request.knocked ?? []];
      const intact = trace(model, reading.text);
      const record = knocked.length ? trace(model, reading.text, knocked) : intact;
      const { first, second } = contributions(model, record);
      const { characters, ids } = record;
      return {
        ...reading,
        ids: Array.from(ids),
        classes: classesOf(characters).map((name) => CLASSES.indexOf(name)),
        first: floats(first),
        second: floats(second),
        bias: floats(model.weights["head.bias"]),
        w: model.weights.w[0],
        knocked,
        intact: ids.length > 1 ? mean(losses(intact.logits, ids)) : null,
      };
    },
  };
}
