// The four models, and a lone branch: what layers.py, models.py and introspection.py compute, on
// typed arrays. A matrix of T rows of d numbers is one Float32Array (T * d), row by row.
import { Tokenizer, requireOneOf } from "./tokenizer.js";

/** @typedef {import("./safetensors.js").Contents} Contents */
/** @typedef {{ [part: string]: Float32Array }} Arrays */
/**
 * What a pass is asked to write down, by the names in code and in Python's order: `attention` of a
 * block (heads * T * T), `residual` of a stage (T * width), `widths`, `inputs` of a block (T * d),
 * `branches` (T * d), weighted, and what the head reads, `final`.
 * @typedef {{ attention?: Arrays, residual?: Arrays, widths?: Record<string, number>,
 *    inputs?: Arrays, branches?: Arrays, final?: Float32Array }} Seen
 */
/** @typedef {{ T: number, start?: number, cache?: Cache, seen?: Seen,
 *    knocked?: Set<string> }} Pass */
/**
 * As introspection.BlockTrace has it: x, attention, a, feed_forward, out (T * d); q, k, v, mixed
 * (h * T * d / h); scores, weights, carried (h * T * T); adds (h * T * d).
 * @typedef {{ x: Float32Array, q: Float32Array, k: Float32Array, v: Float32Array,
 *    scores: Float32Array, weights: Float32Array, carried: Float32Array, mixed: Float32Array,
 *    adds: Float32Array, attention: Float32Array, a: Float32Array, feed_forward: Float32Array,
 *    out: Float32Array }} BlockTrace
 */

const ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split(" ");

/**
 * y = x W^T + b for T rows (T * n), W (m * n) and b (m); the sums are in double precision.
 *
 * Two rows by four outputs at a time, in variables of their own, so that the sums stay in
 * registers: several times as quick as the plain loops.
 * @param {Float32Array} x
 * @param {Float32Array} W
 * @param {Float32Array} b
 * @param {number} T
 */
export function linear(x, W, b, T) {
  const m = b.length;
  const n = W.length / m;
  const y = new Float32Array(T * m);
  const fours = m - (m % 4);
  const pairs = T - (T % 2);
  for (let t = 0; t < pairs; t += 2) {
    const x0 = t * n;
    const x1 = x0 + n;
    for (let o = 0; o < fours; o += 4) {
      const w0 = o * n;
      const w1 = w0 + n;
      const w2 = w1 + n;
      const w3 = w2 + n;
      let a0 = b[o];
      let a1 = b[o + 1];
      let a2 = b[o + 2];
      let a3 = b[o + 3];
      let c0 = a0;
      let c1 = a1;
      let c2 = a2;
      let c3 = a3;
      for (let i = 0; i < n; i += 1) {
        const p = x[x0 + i];
        const q = x[x1 + i];
        const u0 = W[w0 + i];
        const u1 = W[w1 + i];
        const u2 = W[w2 + i];
        const u3 = W[w3 + i];
        a0 += p * u0;
        a1 += p * u1;
        a2 += p * u2;
        a3 += p * u3;
        c0 += q * u0;
        c1 += q * u1;
        c2 += q * u2;
        c3 += q * u3;
      }
      const k = t * m + o;
      y[k] = a0;
      y[k + 1] = a1;
      y[k + 2] = a2;
      y[k + 3] = a3;
      y[k + m] = c0;
      y[k + m + 1] = c1;
      y[k + m + 2] = c2;
      y[k + m + 3] = c3;
    }
  }
  for (let t = pairs; t < T; t += 1) lastRow(x, W, b, y, t * n, t * m, n, fours);
  for (let t = 0; t < T; t += 1) { // the outputs that make no four
    for (let o = fours; o < m; o += 1) {
      let a = b[o];
      for (let i = 0; i < n; i += 1) a += x[t * n + i] * W[o * n + i];
      y[t * m + o] = a;
    }
  }
  return y;
}

/**
 * One row of `linear`: all that a generated character needs.
 * @param {Float32Array} x
 * @param {Float32Array} W
 * @param {Float32Array} b
 * @param {Float32Array} y
 * @param {number} from
 * @param {number} to
 * @param {number} n
 * @param {number} fours
 */
function lastRow(x, W, b, y, from, to, n, fours) {
  for (let o = 0; o < fours; o += 4) {
    const w0 = o * n;
    const w1 = w0 + n;
    const w2 = w1 + n;
    const w3 = w2 + n;
    let a0 = b[o];
    let a1 = b[o + 1];
    let a2 = b[o + 2];
    let a3 = b[o + 3];
    for (let i = 0; i < n; i += 1) {
      const p = x[from + i];
      a0 += p * W[w0 + i];
      a1 += p * W[w1 + i];
      a2 += p * W[w2 + i];
      a3 += p * W[w3 + i];
    }
    y[to + o] = a0;
    y[to + o + 1] = a1;
    y[to + o + 2] = a2;
    y[to + o + 3] = a3;
  }
}

const REACH = 6; // beyond it the normal distribution is 0 or 1 to single precision
const STEPS = 64; // a unit, in the table
/** The normal distribution at every 1/64 from -6 to 6, by the series of erf about 0. */
const NORMAL = Float64Array.from({ length: 2 * REACH * STEPS + 1 }, (_, at) => {
  const x = at / STEPS - REACH;
  let term = x;
  let sum = x;
  for (let k = 3; Math.abs(term) > 1e-18; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return 0.5 + sum * density(x);
});

/** @param {number} x */
function density(x) {
  return Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
}

const SLOPE = NORMAL.map((_, at) => density(at / STEPS - REACH) / STEPS);

/**
 * Exact GELU, x times the normal distribution at x, in place: between two entries of the table
 * the cubic of their values and slopes, which is off by less than 1e-9.
 * @param {Float32Array} x
 */
function gelu(x) {
  for (let i = 0; i < x.length; i += 1) {
    const value = x[i];
    if (value <= -REACH) x[i] = 0;
    else if (value < REACH) {
      const place = (value + REACH) * STEPS;
      const at = Math.floor(place);
      const s = place - at;
      const rise = NORMAL[at + 1] - NORMAL[at];
      const bend = 3 * rise - 2 * SLOPE[at] - SLOPE[at + 1];
      const turn = SLOPE[at] + SLOPE[at + 1] - 2 * rise;
      x[i] = value * (NORMAL[at] + s * (SLOPE[at] + s * (bend + s * turn)));
    }
  }
  return x;
}

/**
 * LayerNorm of x + y, row by row.
 * @param {Float32Array} x
 * @param {Float32Array} y
 * @param {Float32Array} gain
 * @param {Float32Array} bias
 * @param {number} T
 */
function addAndNorm(x, y, gain, bias, T) {
  const d = gain.length;
  const out = new Float32Array(T * d);
  for (let t = 0; t < T; t += 1) {
    const from = t * d;
    let sum = 0;
    for (let i = 0; i < d; i += 1) {
      out[from + i] = x[from + i] + y[from + i];
      sum += out[from + i];
    }
    const mean = sum / d;
    let squares = 0;
    for (let i = 0; i < d; i += 1) squares += (out[from + i] - mean) ** 2;
    const scale = 1 / Math.sqrt(squares / d + 1e-5);
    for (let i = 0; i < d; i += 1) {
      out[from + i] = (out[from + i] - mean) * scale * gain[i] + bias[i];
    }
  }
  return out;
}

/**
 * Softmax of scores (T * S), each row times `scale`, in place: the last row sees all S positions,
 * each one before it one less, and the future is zero.
 * @param {Float32Array} scores
 * @param {number} T
 * @param {number} scale
 */
function causal(scores, T, scale) {
  const S = scores.length / T;
  for (let t = 0; t < T; t += 1) {
    const from = t * S;
    const end = from + S - T + t + 1;
    let top = -Infinity;
    for (let i = from; i < end; i += 1) if (!(scores[i] <= top)) top = scores[i];
    let sum = 0;
    for (let i = from; i < end; i += 1) {
      scores[i] = Math.exp((scores[i] - top) * scale);
      sum += scores[i];
    }
    for (let i = from; i < end; i += 1) scores[i] /= sum;
    scores.fill(0, end, from + S);
  }
}

/**
 * A matrix (T * width) as (width * T).
 * @param {Float32Array} x
 * @param {number} width
 */
function transposed(x, width) {
  const T = x.length / width;
  const out = new Float32Array(x.length);
  for (let t = 0; t < T; t += 1) {
    for (let i = 0; i < width; i += 1) out[i * T + t] = x[t * width + i];
  }
  return out;
}

/**
 * Columns of a matrix (T * width) from one on, `d` of them: (T * d).
 * @param {Float32Array} x
 * @param {number} width
 * @param {number} from
 * @param {number} d
 */
function columns(x, width, from, d) {
  const T = x.length / width;
  const out = new Float32Array(T * d);
  for (let t = 0; t < T; t += 1) {
    for (let i = 0; i < d; i += 1) out[t * d + i] = x[t * width + from + i];
  }
  return out;
}

/** What a model has computed for the characters before the ones it is given now. */
export class Cache {
  length = 0;

  /** @type {Map<string, Float32Array>} */
  #rows = new Map();

  /**
   * Add a layer's rows (T * d), and return all of them so far; there may be room after them.
   * @param {string} path
   * @param {Float32Array} rows
   * @param {number} d
   */
  append(path, rows, d) {
    const used = this.length * d;
    let all = this.#rows.get(path);
    if (!all || all.length < used + rows.length) { // twice the room: it is not copied each time
      const more = new Float32Array(2 * (used + rows.length));
      if (all) more.set(all.subarray(0, used));
      this.#rows.set(path, more);
      all = more;
    }
    all.set(rows, used);
    return all;
  }
}

/** A model of a file, ready to read. */
export class Model {
  /** @type {string[]} */
  #order = []; // of its layers, but for the branches

  /** @type {Record<string, string[]>} */
  #branches = {};

  /** @param {Contents} contents what readSafetensors returned */
  constructor({ model, config, tokenizer, weights }) {
    this.name = model;
    this.config = config;
    this.weights = weights;
    this.tokenizer = Tokenizer.fromJSON(tokenizer);
    this.V = config.vocab_size;
    this.width = weights["embedding.token.weight"].length / this.V;
    const range = (/** @type {string} */ path, /** @type {number} */ count) =>
      Array.from({ length: count }, (_, i) => `${path}.${i}`);
    const { n_layers: layers } = config;
    if (model === "gpt") this.#order = range("blocks", layers);
    else if (model.startsWith("p-gpt")) {
      for (const branch of ["first", "second"]) {
        const blocks = range(`branches.${branch}`, layers / 2);
        if (`${blocks[0]}.norm1.weight` in weights) this.#branches[branch] = blocks;
      }
    } else this.#order = range("stages", layers / 2).flatMap((stage) => range(stage, 3));
  }

  /** The scalar that each branch's output is multiplied by: p-gpt only. */
  branchWeights() {
    const [w] = this.weights.w ?? [NaN];
    return Object.fromEntries(Object.keys(this.#branches)
      .map((name) => [name, name === "first" ? w : 1 - w]));
  }

  /** The names in code of all blocks, in order. */
  blocks() {
    return this.#layers().filter((path) => this.isBlock(path));
  }

  /** The names in code of what passes something on: the embedding, blocks and compressions. */
  stages() {
    return ["embedding", ...this.#layers()];
  }

  #layers() {
    return [...this.#order, ...Object.values(this.#branches).flat()];
  }

  /** @param {string} path */
  isBlock(path) {
    return `${path}.norm1.weight` in this.weights;
  }

  /** What can be knocked out: p-gpt's branches, every block, every head. */
  parts() {
    const heads = [...Array(this.config.n_heads).keys()];
    return [
      ...Object.keys(this.#branches).map((branch) => `branches.${branch}`),
      ...this.blocks().flatMap((path) => [path, ...heads.map((head) => `${path}.heads.${head}`)]),
    ];
  }

  /**
   * What people call each part and each stage, by its name in code: counted from 1.
   * @returns {Record<string, string>}
   */
  partNames() {
    const ordinal = (/** @type {number} */ i) => ORDINALS[i] ?? `${i + 1}th`;
    /** @type {Record<string, string>} */
    const names = { embedding: "embedding" };
    this.stages().slice(1).filter((path) => !this.isBlock(path)).forEach((path, i) => {
      names[path] = `after the ${ordinal(i)} compression`;
    });
    for (const part of this.parts()) {
      const [path, head] = part.split(".heads.");
      const [kind, one, two] = path.split(".");
      const block = kind === "blocks" ? `block ${Number(one) + 1}`
        : `${kind === "stages" ? `stage ${Number(one) + 1}` : `${one} branch`}${
          two ? `, block ${Number(two) + 1}` : ""}`;
      names[part] = block + (head ? `, head ${Number(head) + 1}` : "");
    }
    return names;
  }

  /** A cache for one sequence. */
  cache() {
    return new Cache();
  }

  /**
   * The ids of a text; `name` is what messages call it.
   * @param {string} text
   * @param {string} name
   */
  idsOf(text, name = "text") {
    try {
      return this.tokenizer.encode(text);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`);
    }
  }

  /**
   * The logits (T * V) of ids, which continue what a cache holds. `seen`, if given, is filled with
   * what happened inside; `knocked` are parts that are silenced: a branch or a head gives zeros, a
   * block passes on what it was given. Throws an Error for what cannot be read.
   * @param {ArrayLike<number>} ids
   * @param {{ cache?: Cache | null, seen?: Seen | null, knocked?: readonly string[] }} options
   */
  forward(ids, { cache = null, seen = null, knocked = [] } = {}) {
    const T = ids.length;
    const start = cache ? cache.length : 0;
    this.#check(ids, start);
    const parts = knocked.length ? this.parts() : [];
    for (const part of knocked) requireOneOf("knocked", part, parts);
    if (seen) {
      Object.assign(seen, { attention: {}, residual: {}, widths: {}, inputs: {}, branches: {} });
    }
    const pass = { T, start, cache, seen, knocked: new Set(knocked) };
    /** @type {Float32Array} */
    let x = this.#embed(ids, pass);
    if (this.name.startsWith("p-gpt")) x = this.#mix(x, pass);
    else {
      for (const path of this.#order) {
        x = this.isBlock(path) ? this.block(path, x, pass) : this.compress(path, x, pass);
      }
    }
    if (seen) seen.final = x;
    if (cache) cache.length += T;
    return this.head(x, T);
  }

  /**
   * @param {ArrayLike<number>} ids
   * @param {number} start
   */
  #check(ids, start) {
    const { context_length: most } = this.config;
    if (!ids.length) throw new Error("a model must be given one character or more");
    if (start + ids.length > most) {
      throw new Error(`text must be at most context_length=${most} characters, got `
        + `${start + ids.length}: cut it`);
    }
    for (let t = 0; t < ids.length; t += 1) {
      if (!(Number.isInteger(ids[t]) && ids[t] >= 0 && ids[t] < this.V)) {
        throw new Error(`ids must lie in 0 to ${this.V - 1}, got ${ids[t]}`);
      }
    }
  }

  /**
   * @param {ArrayLike<number>} ids
   * @param {Pass} pass
   */
  #embed(ids, { T, start, seen }) {
    const { width } = this;
    const token = this.weights["embedding.token.weight"];
    const position = this.weights["embedding.position.weight"];
    const x = new Float32Array(T * width);
    for (let t = 0; t < T; t += 1) {
      for (let i = 0; i < width; i += 1) {
        x[t * width + i] = token[ids[t] * width + i] + position[(start + t) * width + i];
      }
    }
    passOn(seen, "embedding", x, T);
    return x;
  }

  /**
   * Each branch on its half, and their weighted sum.
   * @param {Float32Array} x
   * @param {Pass} pass
   */
  #mix(x, pass) {
    const { T, seen, knocked } = pass;
    const d = this.width / 2;
    const mixed = new Float32Array(T * d);
    for (const [name, weight] of Object.entries(this.branchWeights())) {
      const blocks = this.#branches[name];
      const last = blocks.length - 1;
      /** @type {Float32Array} */
      let half = columns(x, this.width, name === "first" ? 0 : d, d);
      blocks.forEach((path, index) => {
        const silent = index === last && knocked.has(`branches.${name}`);
        half = silent ? passOn(seen, path, new Float32Array(T * d), T)
          : this.block(path, half, pass);
      });
      const weighted = half.map((value) => weight * value);
      if (seen) seen.branches[name] = weighted;
      for (let i = 0; i < mixed.length; i += 1) mixed[i] += weighted[i];
    }
    return mixed;
  }

  /**
   * The logits (T * V) of what the head reads (T * width).
   * @param {Float32Array} x
   * @param {number} T
   * @param {Float32Array} bias
   */
  head(x, T, bias = this.weights["head.bias"]) {
    return linear(x, this.weights["head.weight"], bias, T);
  }

  /**
   * a = LN1(x + attention(x)); out = LN2(a + feed_forward(a)).
   * @param {string} path
   * @param {Float32Array} x
   * @param {Pass} pass
   */
  block(path, x, pass) {
    const { T, seen, knocked } = pass;
    if (seen?.inputs) seen.inputs[path] = x;
    if (knocked?.has(path)) return passOn(seen, path, x, T);
    const { weights } = this;
    const attention = this.#linear(`${path}.attention.output`, this.#attend(path, x, pass), T);
    const a = addAndNorm(x, attention, weights[`${path}.norm1.weight`],
      weights[`${path}.norm1.bias`], T);
    const out = addAndNorm(a, this.#feedForward(path, a, T), weights[`${path}.norm2.weight`],
      weights[`${path}.norm2.bias`], T);
    return passOn(seen, path, out, T);
  }

  /**
   * @param {string} path
   * @param {Float32Array} x
   * @param {number} T
   */
  #linear(path, x, T) {
    return linear(x, this.weights[`${path}.weight`], this.weights[`${path}.bias`], T);
  }

  /**
   * @param {string} path
   * @param {Float32Array} a
   * @param {number} T
   */
  #feedForward(path, a, T) {
    const hidden = gelu(this.#linear(`${path}.feed_forward.up`, a, T)); // (T * 4 d)
    return this.#linear(`${path}.feed_forward.down`, hidden, T);
  }

  /**
   * The mixed values of all heads side by side (T * d): softmax(q k^T / sqrt(d / h)) v.
   * @param {string} path
   * @param {Float32Array} x
   * @param {Pass} pass
   */
  #attend(path, x, { T, start = 0, cache, seen, knocked }) {
    const heads = this.config.n_heads;
    const d = x.length / T;
    const size = d / heads;
    const S = start + T;
    const qkv = this.#linear(`${path}.attention.qkv`, x, T); // (T * 3 d)
    const soFar = (/** @type {string} */ name, /** @type {Float32Array} */ rows) =>
      (cache ? cache.append(`${path}.${name}`, rows, size).subarray(0, S * size) : rows);
    const mixed = new Float32Array(T * d);
    const maps = seen?.attention ? new Float32Array(heads * T * S) : null;
    for (let h = 0; h < heads; h += 1) {
      const [q, k, v] = [0, d, 2 * d].map((from) => columns(qkv, 3 * d, from + h * size, size));
      const keys = soFar(`keys.${h}`, k); // (S * d / h)
      const values = soFar(`values.${h}`, v);
      const weights = linear(q, keys, new Float32Array(S), T); // (T * S), scores so far
      causal(weights, T, 1 / Math.sqrt(size));
      if (maps) maps.set(weights, h * T * S);
      if (knocked?.has(`${path}.heads.${h}`)) continue;
      const own = linear(weights, transposed(values, size), new Float32Array(size), T);
      for (let t = 0; t < T; t += 1) {
        mixed.set(own.subarray(t * size, (t + 1) * size), t * d + h * size);
      }
    }
    if (maps) seen.attention[path] = maps;
    return mixed;
  }

  /**
   * A linear layer to another width, or a causal convolution: k characters side by side, zeros
   * before the start.
   * @param {string} path
   * @param {Float32Array} x
   * @param {Pass} pass
   */
  compress(path, x, { T, start = 0, cache, seen }) {
    /** @type {Float32Array} */
    let W = this.weights[`${path}.weight`];
    const b = this.weights[`${path}.bias`];
    const d = x.length / T;
    const k = W.length / b.length / d;
    let sides = x;
    if (k > 1) { // W is (d' * d * k)
      const all = cache ? cache.append(path, x, d) : x;
      const first = cache ? start : 0;
      const reach = Math.min(k, first + T); // what lies before the start is zero: it is left out
      if (reach < k) {
        const whole = W;
        W = new Float32Array(b.length * d * reach);
        for (let row = 0; row < b.length * d; row += 1) {
          W.set(whole.subarray((row + 1) * k - reach, (row + 1) * k), row * reach);
        }
      }
      sides = new Float32Array(T * d * reach);
      for (let t = 0; t < T; t += 1) {
        for (let j = Math.max(0, reach - 1 - first - t); j < reach; j += 1) {
          const from = (first + t - reach + 1 + j) * d;
          for (let i = 0; i < d; i += 1) sides[(t * d + i) * reach + j] = all[from + i];
        }
      }
    }
    return passOn(seen, path, linear(sides, W, b, T), T);
  }

  /**
   * What one block computes for ids, step by step, as introspection.trace_block has it; `seen`
   * is what `forward` saw of them, nothing knocked out, if that was before.
   * @param {ArrayLike<number>} ids
   * @param {string} block
   * @param {Seen | null} seen
   * @returns {BlockTrace}
   */
  traceBlock(ids, block, seen = null) {
    requireOneOf("block", block, this.blocks());
    const T = ids.length;
    if (!seen) {
      seen = {};
      this.forward(ids, { seen });
    }
    const x = seen.inputs[block];
    const heads = this.config.n_heads;
    const d = x.length / T;
    const size = d / heads;
    const qkv = this.#linear(`${block}.attention.qkv`, x, T);
    const [q, k, v] = [0, d, 2 * d].map((from) => byHead(qkv, 3 * d, from, heads, size));
    /** @type {Seen} */
    const own = { attention: {} };
    const side = this.#attend(block, x, { T, seen: own }); // (T * d)
    const weights = own.attention[block];
    const scores = new Float32Array(heads * T * T);
    const carried = new Float32Array(heads * T * T);
    const adds = new Float32Array(heads * T * d);
    const output = this.weights[`${block}.attention.output.weight`];
    const none = new Float32Array(d);
    for (let h = 0; h < heads; h += 1) {
      const rows = (/** @type {Float32Array} */ all) => all.subarray(h * T * size,
        (h + 1) * T * size);
      const W = columns(output, d, h * size, size); // (d * d / h)
      adds.set(linear(columns(side, d, h * size, size), W, none, T), h * T * d);
      const through = linear(rows(v), W, none, T); // (T * d)
      const lengths = Array.from({ length: T }, (_, s) =>
        norm(through.subarray(s * d, (s + 1) * d)));
      const dots = linear(rows(q), rows(k), new Float32Array(T), T);
      for (let i = 0; i < T * T; i += 1) {
        scores[h * T * T + i] = dots[i] / Math.sqrt(size);
        carried[h * T * T + i] = weights[h * T * T + i] * lengths[i % T];
      }
    }
    const attention = this.#linear(`${block}.attention.output`, side, T);
    const a = addAndNorm(x, attention, this.weights[`${block}.norm1.weight`],
      this.weights[`${block}.norm1.bias`], T);
    return {
      x, q, k, v, scores, weights, carried, mixed: byHead(side, d, 0, heads, size), adds, attention,
      a, feed_forward: this.#feedForward(block, a, T), out: seen.residual[block],
    };
  }
}

/**
 * The length of a vector.
 * @param {Float32Array} values
 */
export function norm(values) {
  let squares = 0;
  for (let i = 0; i < values.length; i += 1) squares += values[i] * values[i];
  return Math.sqrt(squares);
}

/**
 * Heads that lie side by side from a column on (T * width), one after the other (h * T * d / h).
 * @param {Float32Array} x
 * @param {number} width
 * @param {number} from
 * @param {number} heads
 * @param {number} size
 */
function byHead(x, width, from, heads, size) {
  const each = x.length / width * size;
  const out = new Float32Array(heads * each);
  for (let h = 0; h < heads; h += 1) out.set(columns(x, width, from + h * size, size), h * each);
  return out;
}

/**
 * Write down what a stage passes on, and pass it on.
 * @param {Seen | null | undefined} seen
 * @param {string} path
 * @param {Float32Array} x
 * @param {number} T
 */
function passOn(seen, path, x, T) {
  if (seen?.residual) {
    seen.residual[path] = x;
    seen.widths[path] = x.length / T;
  }
  return x;
}

/**
 * Models by their shown names, at most `most`, all of one vocabulary.
 * @param {Record<string, Model>} models
 * @param {number} most
 */
export function named(models, most) {
  const names = Object.keys(models);
  if (!names.length || names.length > most) {
    throw new Error(`models must be 1 to ${most}, got ${names.length}`);
  }
  const [first, ...others] = names;
  for (const name of others) {
    if (models[name].tokenizer.key !== models[first].tokenizer.key) {
      throw new Error("models must have the same vocabulary, but those of "
        + `'${first}' and '${name}' differ: train both on one corpus, or look at each by itself`);
    }
  }
  return models;
}

/**
 * What the views send of a part: its name in code, what people call it, and that without what it
 * is a part of.
 * @param {Record<string, string>} names
 * @param {string} part
 */
export function called(names, part) {
  return { part, name: names[part], short: names[part].split(", ").at(-1) };
}
