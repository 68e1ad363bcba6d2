// Characters to whole numbers and back, and a reader's text as the views show it.
import { Sha256 } from "./hashes.js";

const FORMAT = "compgpt-characters-2";
const PAIRS = "compgpt-pairs-1";
/** @type {Record<string, string>} */
const SIGNS = { "\n": "⏎", "\t": "⇥", " ": "␣" };
const MARK = /^\p{M}$/u;
const HIDDEN = /^[\p{C}\p{Z}]$/u;
const LONE = /[\ud800-\udfff]/gu; // with u a surrogate matches only where it has no partner

/**
 * A character so that it can be seen, and never joins its neighbours.
 * @param {string} character
 */
export function sign(character) {
  if (SIGNS[character]) return SIGNS[character];
  if (HIDDEN.test(character)) {
    return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  }
  return MARK.test(character) ? `◌${character}` : character;
}

/**
 * Each character of a text so that it can be seen.
 * @param {Iterable<string>} text
 */
export const signs = (text) => Array.from(text, sign);

/**
 * A value as Python writes it in its messages, a long one cut.
 * @param {any} value
 */
export function short(value) {
  if (value === undefined || value === null) return "None";
  if (typeof value === "number") return String(value);
  if (typeof value !== "string") return String(JSON.stringify(value)).slice(0, 60);
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  /** @type {Record<string, string>} */
  const named = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "'": "\\'" };
  if (quote === '"') delete named["'"];
  const hex = (/** @type {number} */ code) => {
    if (code < 256) return `\\x${code.toString(16).padStart(2, "0")}`;
    return code < 65536 ? `\\u${code.toString(16).padStart(4, "0")}`
      : `\\U${code.toString(16).padStart(8, "0")}`;
  };
  const inner = Array.from(value.slice(0, 200), (one) => named[one]
    ?? (one !== " " && HIDDEN.test(one) ? hex(one.codePointAt(0)) : one)).join("");
  const text = quote + inner + quote;
  return text.length <= 60 ? text : `str ${text.slice(0, 50)}...`;
}

/**
 * A text that is among those allowed.
 * @param {string} name
 * @param {any} value
 * @param {readonly string[]} allowed
 */
export function requireOneOf(name, value, allowed) {
  if (typeof value !== "string" || !allowed.includes(value)) {
    throw new Error(`${name} must be one of ${allowed.join(", ")}, got ${short(value)}`);
  }
  return value;
}

/** One id per character: its place in the sorted vocabulary. */
export class Tokenizer {
  /**
   * @param {string} vocabulary
   * @param {string | null} unknown the character that stands for all the vocabulary lacks
   */
  constructor(vocabulary, unknown = null) {
    const characters = Array.from(vocabulary);
    const known = new Set(characters);
    if (!characters.length) throw new Error("the vocabulary is empty");
    if (known.size < characters.length) throw new Error("the vocabulary names a character twice");
    if (unknown !== null && Array.from(unknown).length !== 1) {
      throw new Error(`unknown must be one character, got ${short(unknown)}`);
    }
    if (unknown !== null) known.add(unknown);
    /** @type {string[]} */
    this.tokens = [...known].sort((a, b) => a.codePointAt(0) - b.codePointAt(0));
    /** @type {string | null} */
    this.unknown = unknown;
    /** @type {Map<string, number>} */
    this.ids = new Map(this.tokens.map((token, id) => [token, id]));
    /** Equal for equal tokenizers. */
    this.key = JSON.stringify([unknown, this.tokens]);
  }

  /**
   * The tokenizer that CharTokenizer.to_json described.
   * @param {string} text
   */
  static fromJSON(text) {
    let about;
    try {
      about = JSON.parse(text);
    } catch {
      throw new Error("not the text of a vocabulary written by compgpt");
    }
    if (about?.format === PAIRS) {
      throw new Error("its tokens are pairs of characters, and this page reads single characters "
        + "only: look at the model in the notebook");
    }
    const { format, unknown, vocabulary, sha256 } = about ?? {};
    if (format !== FORMAT || typeof vocabulary !== "string"
      || (unknown !== null && typeof unknown !== "string")) {
      throw new Error("not the text of a vocabulary written by compgpt");
    }
    // As Python's json.dumps(about, sort_keys=True) writes it: in ASCII.
    const ascii = (/** @type {any} */ value) => JSON.stringify(value).replace(/[\x7f-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const written = `{"format": ${ascii(format)}, "unknown": ${ascii(unknown)}, "vocabulary": `
      + `${ascii(vocabulary)}}`;
    if (new Sha256().add(written).hex() !== sha256) {
      throw new Error("the vocabulary was changed since it was written");
    }
    return new Tokenizer(vocabulary, unknown);
  }

  /**
   * The ids of a text.
   * @param {string} text
   * @returns {number[]}
   */
  encode(text) {
    const missing = this.unknown === null ? -1 : this.ids.get(this.unknown);
    const characters = Array.from(text);
    const ids = characters.map((character) => this.ids.get(character) ?? missing);
    if (ids.includes(-1)) {
      const strangers = [...new Set(characters.filter((_, at) => ids[at] < 0))]
        .sort((a, b) => a.codePointAt(0) - b.codePointAt(0));
      throw new Error(`the text has characters that the vocabulary of ${this.tokens.length} lacks: `
        + `${strangers.slice(0, 5).map(short).join(", ")}${strangers.length > 5 ? ", ..." : ""}; `
        + "leave them out, or build the tokenizer with min_count=2 or more, which adds an unknown "
        + "sign");
    }
    return ids;
  }

  /**
   * The text of ids.
   * @param {Iterable<number>} ids
   */
  decode(ids) {
    return Array.from(ids, (id) => this.tokens[id]).join("");
  }
}

/**
 * The text of a request as a model reads it, its signs, and what to say about it: of more than
 * `limit` characters the first are taken, or the last, if its `end` is what counts.
 * @param {{ text?: any, length?: number }} request
 * @param {Tokenizer} tokenizer
 * @param {number} limit
 * @param {boolean} end
 * @returns {{ text: string, signs: string[], unknown: number[], notice: string }}
 */
export function read(request, tokenizer, limit, end = false) {
  const given = request.text ?? "";
  if (typeof given !== "string") throw new Error(`text must be a text, got ${short(given)}`);
  if (!given) throw new Error("text must have at least one character: type something");
  const length = Math.max(Array.from(given).length, Math.trunc(Number(request.length ?? 0)) || 0);
  const whole = Array.from(given.replace(LONE, "?").replaceAll("\r\n", "\n"));
  const characters = end ? whole.slice(-limit) : whole.slice(0, limit);
  const unknown = [...characters.keys()].filter((place) => !tokenizer.ids.has(characters[place]));
  const notices = [];
  if (length > limit) {
    notices.push(`${length.toLocaleString("en-US")} characters were given; a model sees ${limit} at`
      + ` a time: the ${end ? "last" : "first"} ${characters.length} are shown`);
  }
  if (unknown.length) {
    notices.push("framed characters are not in the vocabulary: a model reads "
      + `${tokenizer.unknown ?? "None"} there`);
  }
  return {
    text: characters.join(""), signs: signs(characters), unknown, notice: notices.join("; "),
  };
}

/**
 * Numbers as little-endian float32 in bytes of their own: what is sent elsewhere is only these.
 * @param {ArrayLike<number>} values
 */
export const floats = (values) => new DataView(Float32Array.from(values).buffer);
