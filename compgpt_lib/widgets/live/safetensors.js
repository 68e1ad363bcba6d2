// A model's file, as support/tensors.py writes it, from whoever gives it: nothing in it is believed
// before it is checked, and nothing takes more room than the file's own length allows.
import { Sha256 } from "./hashes.js";
import { Tokenizer, short } from "./tokenizer.js";

/** @typedef {{ dtype: string, shape: number[], data_offsets: [number, number] }} Entry */
/** @typedef {{ vocab_size: number, context_length: number, d_model: number, n_heads: number,
 *    n_layers: number, dropout: number, kernel_size: number }} Config */
/** @typedef {{ model: string, config: Config, tokenizer: string, changed?: string,
 *    weights: Record<string, Float32Array>, shapes: Record<string, number[]> }} Contents */

const HEADER = 2 ** 24; // bytes: the longest vocabulary there can be fits in
const MEMBERS = 100_000; // of a JSON object
const DEPTH = 32; // of JSON in JSON
const OPTIMIZER = "optimizer."; // what a checkpoint holds beside the weights
const KINDS = ["gpt", "p-gpt", "lc-gpt", "cc-gpt", "p-gpt-1"];
/** The largest sizes that the page shows: an honest model that is larger would be too slow. */
const MOST = { context_length: 4096, n_layers: 256, d_model: 16384, vocab_size: 0x110000 };
const MAPS = 2 ** 27; // weights of all attention maps of one text: half a gigabyte
/**
 * A kind of number: its bytes, and what torch calls it.
 * @type {Map<any, [number, string]>}
 */
const DTYPES = new Map([
  ["F64", [8, "float64"]], ["F32", [4, "float32"]], ["F16", [2, "float16"]],
  ["BF16", [2, "bfloat16"]], ["I64", [8, "int64"]], ["I32", [4, "int32"]], ["I16", [2, "int16"]],
  ["I8", [1, "int8"]], ["U8", [1, "uint8"]], ["BOOL", [1, "bool"]],
]);

/** What each of the 65,536 half-precision numbers is. */
const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : mantissa * 2 ** -24);
});

/**
 * @param {string} reason
 * @returns {never}
 */
function refuse(reason) {
  throw new Error(reason);
}

const damaged = (/** @type {string} */ reason) => refuse(`the file is damaged or was not written `
  + `by compgpt (${reason}): choose another one, or save the model again`);
const whole = (/** @type {any} */ value, least = 0) => Number.isSafeInteger(value)
  && value >= least;
const plain = (/** @type {any} */ value) => typeof value === "object" && value !== null
  && !Array.isArray(value);

/**
 * A JSON text's value, once it is known to be neither deep nor of too many members.
 * @param {string} text
 * @param {string} name
 */
function parse(text, name) {
  let depth = 0;
  let members = 0;
  let inside = false; // a string
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (inside) {
      if (unit === 0x5c) at += 1; // a backslash, and what it escapes
      else if (unit === 0x22) inside = false;
    } else if (unit === 0x22) inside = true;
    else if (unit === 0x7b || unit === 0x5b) depth += 1;
    else if (unit === 0x7d || unit === 0x5d) depth -= 1;
    else if (unit === 0x2c) members += 1;
    if (depth > DEPTH || members > MEMBERS) damaged(`${name} is too large`);
  }
  try {
    return JSON.parse(text);
  } catch {
    return damaged(`${name} is no JSON`);
  }
}

/**
 * A part of the file as text.
 * @param {Uint8Array} bytes
 */
function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return damaged("its header is no text");
  }
}

/**
 * The tensors of a header: each of a known kind, in `length` bytes without a gap or an overlap.
 * @param {Record<string, any>} header
 * @param {number} length
 * @returns {[string, Entry][]}
 */
function tensorsOf(header, length) {
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  for (const [name, entry] of entries) {
    const who = short(name);
    if (!plain(entry)) damaged(`${who} has no description`);
    const { dtype, shape, data_offsets: offsets } = entry;
    if (typeof dtype !== "string") damaged(`${who} says no kind of number`);
    const [size] = DTYPES.get(dtype) ?? [];
    if (!size) refuse(`the file holds ${who} as ${short(dtype)}, and this page reads F16, BF16 and `
      + "F32: save the model in one of these");
    if (!Array.isArray(shape) || shape.length > 8 || !shape.every((one) => whole(one))) {
      damaged(`${who} has an impossible shape`);
    }
    if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((one) => whole(one))) {
      damaged(`${who} has an impossible place`);
    }
    const [start, end] = offsets;
    if (start > end || end > length) damaged(`${who} lies outside of the file`);
    let bytes = size;
    for (const one of shape) {
      bytes *= one;
      if (bytes > length) damaged(`${who} is larger than the file`);
    }
    if (bytes !== end - start) damaged(`${who} does not fit in its place`);
  }
  const order = entries.slice().sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0]
    || a.data_offsets[1] - b.data_offsets[1]);
  let reached = 0;
  for (const [name, { data_offsets: [start, end] }] of order) {
    if (start !== reached) damaged(`${short(name)} does not begin where another ends`);
    reached = end;
  }
  if (reached !== length) damaged("its length is not what its header says");
  return entries;
}

/**
 * Refuse a file of which as much as one bit is not as it was written.
 * @param {Record<string, any>} metadata
 * @param {[string, Entry][]} entries
 * @param {Uint8Array} data
 */
function checkDigest(metadata, entries, data) {
  const digest = new Sha256().add(metadata.compgpt);
  const order = entries.slice().sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of order) {
    const sizes = `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`; // a tuple of Python's
    digest.add(`${name} torch.${DTYPES.get(dtype)[1]} ${sizes}`).add(data.subarray(start, end));
  }
  if (digest.hex() !== metadata.sha256) damaged("its content does not match its sha256");
}

/**
 * Check a configuration as ModelConfig does.
 * @param {string} model
 * @param {any} given
 * @returns {Config}
 */
function configOf(model, given) {
  if (!plain(given)) damaged("it says no configuration");
  const config = { kernel_size: 1, ...given };
  const sizes = ["vocab_size", "context_length", "d_model", "n_heads", "n_layers", "kernel_size"];
  for (const name of Object.keys(config)) {
    if (name !== "dropout" && !sizes.includes(name)) damaged(`a model has no ${short(name)}`);
  }
  for (const name of sizes) {
    if (!whole(config[name], 1)) {
      damaged(`${name} must be a positive whole number, got ${short(config[name])}`);
    }
  }
  const { dropout, d_model: d, n_heads: heads, n_layers: layers } = config;
  if (typeof dropout !== "number" || !(dropout >= 0 && dropout < 1)) {
    damaged(`dropout must be a number at least 0 and below 1, got ${short(dropout)}`);
  }
  for (const [name, most] of Object.entries(MOST)) {
    if (config[name] > most) {
      refuse(`the model has ${name} ${config[name]}, and this page shows models of at most `
        + `${most}: look at it in the notebook`);
    }
  }
  const { context_length: T } = config;
  if (heads * layers * T * T > MAPS) {
    refuse(`the model's ${layers} layers of ${heads} heads have more attention maps over ${T} `
      + "characters than this page has room for: look at it in the notebook");
  }
  if (d % heads) damaged(`d_model ${d} is not a multiple of n_heads ${heads}`);
  if (model !== "gpt" && layers % 2) damaged(`a ${model} needs an even n_layers, got ${layers}`);
  if (model === "lc-gpt" || model === "cc-gpt") {
    for (let stage = 0, width = d; stage < layers / 2; stage += 1, width /= 2) {
      if (width % heads || width % 2) {
        damaged(`a ${model} of ${layers} layers cannot halve d_model ${d} that often and keep `
          + `${heads} heads`);
      }
    }
  }
  return config;
}

/**
 * The shapes of all weights of a model, by their names in code.
 * @param {string} model
 * @param {Config} config
 * @param {string[]} branches
 * @returns {Map<string, number[]>}
 */
function shapesOf(model, config, branches) {
  const { vocab_size: V, context_length: T, d_model: d, n_layers: layers, kernel_size: k } = config;
  /** @type {Map<string, number[]>} */
  const shapes = new Map();
  const add = (/** @type {string} */ path, /** @type {number[]} */ shape) => {
    shapes.set(`${path}.weight`, shape);
    shapes.set(`${path}.bias`, shape.slice(0, 1));
  };
  const block = (/** @type {string} */ path, /** @type {number} */ width) => {
    add(`${path}.attention.qkv`, [3 * width, width]);
    add(`${path}.attention.output`, [width, width]);
    add(`${path}.norm1`, [width]);
    add(`${path}.feed_forward.up`, [4 * width, width]);
    add(`${path}.feed_forward.down`, [width, 4 * width]);
    add(`${path}.norm2`, [width]);
  };
  const parallel = model.startsWith("p-gpt");
  const embedded = parallel ? 2 * d : d;
  let width = d;
  shapes.set("embedding.token.weight", [V, embedded]);
  shapes.set("embedding.position.weight", [T, embedded]);
  if (model === "gpt") {
    for (let i = 0; i < layers; i += 1) block(`blocks.${i}`, d);
  } else if (parallel) {
    shapes.set("w", []);
    for (const branch of branches) {
      for (let i = 0; i < layers / 2; i += 1) block(`branches.${branch}.${i}`, d);
    }
  } else {
    for (let stage = 0; stage < layers / 2; stage += 1, width /= 2) {
      block(`stages.${stage}.0`, width);
      block(`stages.${stage}.1`, width);
      add(`stages.${stage}.2`, [width / 2, width, ...(model === "cc-gpt" ? [k] : [])]);
    }
  }
  add("head", [V, width]);
  return shapes;
}

/**
 * A tensor's numbers in single precision.
 * @param {string} name
 * @param {Entry} entry
 * @param {ArrayBuffer} buffer
 * @param {number} from where the tensors begin
 */
function numbers(name, { dtype, data_offsets: [start, end] }, buffer, from) {
  const bytes = buffer.slice(from + start, from + end);
  let values;
  if (dtype === "F32") values = new Float32Array(bytes);
  else if (dtype === "F16") {
    const halves = new Uint16Array(bytes);
    values = new Float32Array(halves.length);
    for (let i = 0; i < halves.length; i += 1) values[i] = HALF[halves[i]];
  } else if (dtype === "BF16") { // the upper half of a single-precision number
    const halves = new Uint16Array(bytes);
    values = new Float32Array(Uint32Array.from(halves, (bits) => bits << 16).buffer);
  } else {
    return refuse(`the file holds ${name} as ${dtype}, and this page reads F16, BF16 and F32: save `
      + "the model in one of these");
  }
  for (let i = 0; i < values.length; i += 1) {
    if (!Number.isFinite(values[i])) {
      refuse(`the weights in ${name} are not all finite numbers: the model's training diverged; `
        + "train it anew with a lower learning_rate or gradient_clip=1.0");
    }
  }
  return values;
}

/**
 * Read what compgpt_lib's `save` or a training run wrote. Throws an Error, in words for a reader,
 * for a file that is damaged, or of a model that this page cannot compute.
 * @param {ArrayBuffer} buffer
 * @returns {Contents}
 */
export function readSafetensors(buffer) {
  if (buffer.byteLength < 8) damaged("it is too short");
  const view = new DataView(buffer);
  const size = view.getUint32(0, true) + 2 ** 32 * view.getUint32(4, true);
  if (size > buffer.byteLength - 8) damaged("it is cut, or its header's length is wrong");
  if (size > HEADER) damaged("its header is too large");
  const header = parse(decoded(new Uint8Array(buffer, 8, size)), "its header");
  if (!plain(header)) damaged("its header is no description");
  const data = new Uint8Array(buffer, 8 + size);
  const entries = tensorsOf(header, data.length);
  const metadata = header.__metadata__;
  if (!plain(metadata) || typeof metadata.compgpt !== "string") {
    refuse("the file holds weights, but not of a model that compgpt saved: save one by "
      + "compgpt_lib.weights.save(model, path)");
  }
  checkDigest(metadata, entries, data);
  const about = parse(metadata.compgpt, "its description");
  if (!plain(about)) damaged("its description is empty");
  if (Object.hasOwn(about, "changed")) {
    refuse(`the file holds ${short(about.changed)}, a model with code of your own, which this page `
      + "does not know: it computes gpt, p-gpt, lc-gpt and cc-gpt as the kit has them. Look at "
      + "yours in the notebook");
  }
  const { model, ties = {} } = about;
  if (!KINDS.includes(model)) damaged(`it holds ${short(model)}, which is none of the models`);
  const config = configOf(model, about.config);
  if (!plain(ties)) damaged("its ties are no names");

  const own = new Map(entries.filter(([name]) => !name.startsWith(OPTIMIZER)));
  const names = [...own.keys(), ...Object.keys(ties)];
  const first = names.some((name) => name.includes(".first."));
  const alone = first ? ["first"] : ["second"];
  const shapes = shapesOf(model, config, model === "p-gpt-1" ? alone : ["first", "second"]);
  for (const name of names) {
    if (!shapes.has(name)) damaged(`it holds ${short(name)}, which this ${model} has not`);
  }
  /** @type {Contents} */
  const contents = {
    model, config, tokenizer: about.tokenizer, weights: Object.create(null),
    shapes: Object.create(null),
  };
  for (const [name, shape] of shapes) {
    const source = own.has(name) || !Object.hasOwn(ties, name) ? name : ties[name];
    const entry = own.get(source);
    if (!entry) damaged(`it lacks ${name}`);
    if (entry.shape.length !== shape.length || entry.shape.some((n, at) => n !== shape[at])) {
      damaged(`${name} has the shape (${entry.shape.join(", ")}), but in this ${model} `
        + `(${shape.join(", ")})`);
    }
    contents.weights[name] = contents.weights[source] ?? numbers(name, entry, buffer, 8 + size);
    contents.shapes[name] = shape;
  }
  contents.tokenizer = vocabularyOf(about.tokenizer, config);
  return contents;
}

/**
 * The text of a vocabulary that this page can read, and that is of the model's size.
 * @param {any} text
 * @param {Config} config
 * @returns {string}
 */
function vocabularyOf(text, { vocab_size: V }) {
  if (typeof text !== "string") {
    refuse("the file holds no vocabulary, so this page cannot tell which characters the model "
      + "reads: set model.tokenizer = corpus.tokenizer and save it again");
  }
  let count;
  try {
    count = Tokenizer.fromJSON(text).tokens.length;
  } catch (error) {
    refuse(`the model's vocabulary cannot be read: ${error.message}`);
  }
  if (count !== V) damaged(`its vocabulary has ${count} characters, its model ${V}`);
  return text;
}
