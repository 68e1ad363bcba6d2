// The models beside the page: in a worker, or in the page itself where no worker can be had.
import { LOOKS } from "./index.js";
import { Model } from "./model.js";
import { readSafetensors } from "./safetensors.js";

/** @typedef {{ model: any, parameters: number }} Held */
/** @typedef {{ task: string, number: number, [detail: string]: any }} Job */

const MOST = 64; // windows of a sample
const LEAST = 8;
const FIT = {
  branches: [["p-gpt"], "p-gpt"],
  dimensions: [["gpt", "lc-gpt", "cc-gpt"], "gpt, lc-gpt or cc-gpt"],
};

/**
 * Base64 as bytes.
 * @param {string} text
 * @returns {ArrayBuffer}
 */
export function bytesOf(text) {
  const signs = atob(text);
  const bytes = new Uint8Array(signs.length);
  for (let at = 0; at < signs.length; at += 1) bytes[at] = signs.charCodeAt(at);
  return bytes.buffer;
}

/**
 * Read a model's file and count its parameters: what several names share counts once.
 * @param {ArrayBuffer} buffer
 * @returns {Held}
 */
function held(buffer) {
  const contents = readSafetensors(buffer);
  const tensors = [...new Set(Object.values(contents.weights))];
  const parameters = tensors.reduce((sum, values) => sum + values.length, 0);
  return { model: new Model(contents), parameters };
}

/**
 * A text without what a vocabulary lacks, where no sign stands for that; never empty.
 * @param {string} text
 * @param {{ tokens: string[], unknown: string | null }} tokenizer
 */
function readable(text, { tokens, unknown }) {
  const known = new Set(tokens);
  const characters = Array.from(text);
  const kept = unknown ? characters : characters.filter((one) => known.has(one));
  return kept.length ? kept.join("") : tokens.slice(0, 40).join("");
}

/**
 * Windows of a sample for another model: of its length, of characters that it knows.
 * @param {string[]} windows
 * @param {any} model
 */
function cut(windows, { tokenizer, config: { context_length: size } }) {
  const known = new Set(tokenizer.tokens);
  const characters = Array.from(windows.join("")).filter((one) => known.has(one));
  const count = Math.min(MOST, Math.floor(characters.length / size));
  if (count < LEAST) {
    throw new Error(`the sample has ${characters.length} characters that the model knows, and the `
      + `view needs ${LEAST * size}: the model was trained on another kind of text`);
  }
  return Array.from({ length: count }, (_, at) =>
    characters.slice(at * size, (at + 1) * size).join(""));
}

/**
 * Answer what is asked through a port: one job at a time, in order; a request to a view is skipped
 * if a newer one waits already.
 * @param {any} port
 * @param {(call: () => void) => void} later
 */
export function serve(port, later = (call) => setTimeout(call)) {
  /** @type {Map<string, Held>} */
  const models = new Map();
  /** @type {Map<string, any>} */
  const looks = new Map();
  /** @type {Job[]} */
  const queue = [];

  /** @type {Record<string, (job: Job) => any>} */
  const tasks = {
    /** Take a model's bytes, once, and say what it is. */
    model: ({ key, content }) => {
      const buffer = typeof content === "string" ? bytesOf(content) : content;
      const { model, parameters } = held(buffer);
      models.set(key, { model, parameters });
      const { name, config, tokenizer } = model;
      return { name, config, parameters, characters: tokenizer.tokens.length };
    },
    forget: ({ key }) => { models.delete(key); },
    close: ({ view }) => { looks.delete(view); },
    /** Make a view of models; with a `first` request for a model that is new to it, answer that. */
    open: ({ view, kind, names, options, first }) => {
      const shown = Object.fromEntries(
        Object.entries(names).map(([name, key]) => [name, models.get(key).model]));
      const [one] = Object.values(shown);
      if (!first) {
        looks.set(view, LOOKS[kind](shown, options));
        return {};
      }
      const [kinds, words] = FIT[kind] ?? [];
      if (kinds && !kinds.includes(one.name)) {
        throw new Error(`this view shows ${words}, and the file holds ${one.name}: choose another `
          + "file, or give this one to another view");
      }
      const sample = options.sample && cut(options.sample, one);
      const look = LOOKS[kind](shown, { ...options, sample });
      const text = readable(first.text, one.tokenizer);
      const answer = look.look({ ...first, text });
      const fixed = look.fixed();
      looks.set(view, look);
      return { fixed, answer, text, left: text !== first.text };
    },
    ask: ({ view, request }) => looks.get(view).look(request),
  };

  /** @param {Job} job */
  const overtaken = ({ task, view }) => task === "ask"
    && queue.some((other) => other.task === "ask" && other.view === view);

  function work() {
    const job = queue.shift();
    /** @type {{ number: number, value?: any, words?: string }} */
    const reply = { number: job.number };
    try {
      reply.value = overtaken(job) ? null : tasks[job.task](job);
    } catch (error) {
      reply.words = error.message;
    }
    port.postMessage(reply);
    if (queue.length) later(work);
  }

  port.onmessage = ({ data }) => {
    if (queue.push(data) === 1) later(work);
  };
  port.postMessage({ ready: true });
}

const PATIENCE = 10000; // ms for a worker to start
const FRAME = 20; // ms, in the page itself: what is waited for is painted before it is computed

/** A port to the models in the page itself. */
function inPage() {
  const { port1, port2 } = new MessageChannel();
  serve(port2, (call) => setTimeout(call, FRAME));
  return port1;
}

/**
 * A port to the models: a worker that runs the same script, or the page itself.
 * @param {string} source
 * @param {(words: string) => void} broken what to do when a worker ends that had started
 * @returns {Promise<any>}
 */
function connected(source, broken) {
  return new Promise((resolve) => {
    /** @type {Worker} */
    let worker;
    try {
      const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      worker = new Worker(address);
    } catch {
      resolve(inPage());
      return;
    }
    let started = false;
    const refused = () => {
      if (started) return;
      started = true;
      worker.terminate();
      resolve(inPage());
    };
    worker.onmessage = () => { // it is ready
      clearTimeout(timer);
      if (started) return;
      started = true;
      worker.onerror = () => broken("what computes the answers has stopped: load the page again");
      resolve(worker);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      clearTimeout(timer);
      refused();
    };
    const timer = setTimeout(refused, PATIENCE);
  });
}

/** What the page asks, and who waits for it. */
export class Engine {
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();

  /** @type {Promise<any>} */
  #port;

  #number = 0;

  /** @param {string} source the script that a worker runs */
  constructor(source) {
    this.#port = connected(source, (words) => {
      for (const number of this.#waiting.keys()) this.#settle({ number, words });
    }).then((port) => {
      port.onmessage = ({ data }) => this.#settle(data);
      return port;
    });
  }

  /** @param {{ number: number, value?: any, words?: string }} reply */
  #settle({ number, value, words }) {
    const waiting = this.#waiting.get(number);
    if (!waiting) return;
    this.#waiting.delete(number);
    if (words === undefined) waiting.resolve(value);
    else waiting.reject(new Error(words));
  }

  /**
   * Do a task of `serve`, and return what it gives; raises what it says went wrong.
   * @param {string} task
   * @param {Record<string, any>} details
   * @param {Transferable[]} given away, not copied
   * @returns {Promise<any>}
   */
  async call(task, details, given = []) {
    const port = await this.#port;
    this.#number += 1;
    const number = this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      port.postMessage({ task, number, ...details }, given);
    });
  }
}
