// A page's live views: each takes the place of its picture when it comes near.
import attention from "../attention.js";
import branches from "../branches.js";
import { el } from "../common.js";
import dimensions from "../dimensions.js";
import forward from "../forward.js";
import playground from "../playground.js";
import { PageModel } from "./stand_in.js";
import { offerTour } from "./tour.js";
import { bytesOf, Engine } from "./worker.js";

const VIEWS = { attention, branches, dimensions, forward, playground };
const NEAR = "400px";
const MOST = 64; // MB of a reader's file
const KEPT = ["temperature", "top_p", "seed"]; // of what is asked, when the model changes
const OFFER = "Show a model of your own: drop its .safetensors file here or choose it. It stays in "
  + "this browser: nothing is sent.";

/**
 * What a page holds as JSON, with its bytes as bytes.
 * @param {any} value
 * @returns {any}
 */
export function revived(value) {
  if (Array.isArray(value)) return value.map(revived);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string") return new DataView(bytesOf(value.base64));
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, revived(part)]));
}

/** The models that a page has or fetches: each goes into the engine once. */
class Shelf {
  /** @type {Map<string, Promise<any>>} */
  #models = new Map();

  /** @type {Engine} */
  #engine;

  #address;

  /**
   * @param {Engine} engine
   * @param {string} address of the page's script: the weights lie beside it
   */
  constructor(engine, address) {
    this.#engine = engine;
    this.#address = address;
  }

  /** @param {string} name */
  get(name) {
    if (!this.#models.has(name)) {
      const model = this.#content(name).then((content) =>
        this.#engine.call("model", { key: name, content }));
      model.catch(() => this.#models.delete(name)); // the next view may have more luck
      this.#models.set(name, model);
    }
    return this.#models.get(name);
  }

  /**
   * A model's file in base64. It comes as a script: a page in a folder may run that, not fetch.
   * @param {string} name
   * @returns {Promise<string>}
   */
  async #content(name) {
    /** @type {any} */
    const page = globalThis;
    if (!page.compgptWeights?.[name]) {
      await new Promise((resolve, reject) => {
        document.head.append(el("script", {
          src: new URL(`weights/${name}.js`, this.#address).href, load: resolve,
          error: () => reject(new Error(`the weights of ${name} did not arrive`)),
        }));
      });
    }
    const content = page.compgptWeights?.[name];
    if (!content) throw new Error(`the weights of ${name} are damaged`);
    delete page.compgptWeights[name]; // the engine has it from now on
    return content;
  }
}

/**
 * A control to take a reader's own file by: a place to drop it on, and a button.
 * @param {HTMLElement} figure
 * @param {(file: File) => void} take
 */
function fileTaker(figure, take) {
  const input = el("input", {
    type: "file", accept: ".safetensors",
    change: () => {
      if (input.files.length) take(input.files[0]);
      input.value = ""; // the same file may be chosen again
    },
  });
  const over = (event) => event.dataTransfer?.types.includes("Files");
  figure.addEventListener("dragover", (event) => {
    if (over(event)) figure.toggleAttribute("data-over", true);
  });
  figure.addEventListener("dragleave", (event) => {
    const into = /** @type {Node | null} */ (event.relatedTarget);
    if (!figure.contains(into)) figure.removeAttribute("data-over");
  });
  figure.addEventListener("drop", (event) => {
    figure.removeAttribute("data-over");
    const [file] = event.dataTransfer?.files ?? [];
    if (file) take(file);
  });
  return el("label", { class: "compgpt-offer" }, el("span", {}, OFFER), input);
}

/**
 * Bring a view to life in the place of its picture.
 * @param {HTMLElement} figure
 * @param {Engine} engine
 * @param {Shelf} shelf
 * @param {string} view its name on this page
 */
function bring(figure, engine, shelf, view) {
  const word = figure.querySelector(".compgpt-word");
  /** @param {Error} error */
  const failed = (error) => {
    stop();
    figure.removeAttribute("data-live");
    figure.querySelectorAll(".compgpt-holder, .compgpt-foot").forEach((node) => node.remove());
    word.textContent = `This is a picture: the live view could not start (${error.message}). `
      + "Loading the page again may help.";
  };
  let stop = () => {};
  /** @type {PageModel | null} */
  let model = null;
  let turn = 0; // counts what was put here: what comes late for an earlier one is left
  let own = null; // the engine's name of the reader's model
  let about = ""; // what is said of it

  const holder = el("div", { class: "compgpt-holder" });
  const status = el("span", { class: "compgpt-status", role: "status" });
  const problem = el("p", { class: "compgpt-problem", role: "alert", hidden: true });
  const back = el("button", {
    type: "button", hidden: true, click: () => { shipped(model.get("request")); input.focus(); },
  }, "Back to the models of this page");

  const say = (words, wrong = "") => {
    status.textContent = words;
    problem.textContent = wrong;
    problem.hidden = !wrong;
  };
  /** Show a view; the engine has it by the name of its turn. */
  const put = (name, traits, ready = Promise.resolve()) => {
    stop();
    const node = el("div");
    holder.replaceChildren(node);
    model = new PageModel(traits, (request) =>
      ready.then(() => engine.call("ask", { view: name, request })));
    const end = VIEWS[kind].render({ model, el: node });
    const endTour = kind === "forward" ? offerTour(node, model) : () => {};
    stop = () => {
      endTour();
      end();
      engine.call("close", { view: name });
      stop = () => {};
    };
  };

  const text = figure.querySelector("script[type='application/json']").textContent;
  const { kind, models, sample, max_new, note } = JSON.parse(text);
  const options = { sample, max_new };

  /** The view as the page has it; what it is asked is answered when its models are there. */
  const shipped = (before = null) => {
    turn += 1;
    const mine = turn;
    const name = `${view} ${mine}`;
    const { fixed, request, answer } = revived(JSON.parse(text));
    const opened = Promise.all(Object.values(models).map((one) => shelf.get(one)))
      .then(() => engine.call("open", { view: name, kind, names: models, options }));
    put(name, { fixed, request, answer }, opened);
    say("the models are on their way");
    figure.setAttribute("aria-busy", "true");
    back.hidden = true;
    about = "";
    opened.then(() => {
      if (mine !== turn) return;
      say("");
      if (own) engine.call("forget", { key: own });
      own = null;
    }, (error) => { if (mine === turn) failed(error); })
      .finally(() => figure.removeAttribute("aria-busy"));
    if (before && before.text !== request.text) { // the reader's text stays
      model.set("request", { ...request, text: before.text, number: 1 });
      model.save_changes();
    }
  };

  /** The view of a reader's own model, alone, on the text that was there. */
  const take = async (file) => {
    turn += 1;
    const mine = turn;
    const asked = { ...model.get("request"), ...model.get("controls") };
    const first = { text: asked.text };
    for (const name of KEPT) if (name in asked) first[name] = asked[name];
    // The playground begins to write at once.
    if (kind === "playground") Object.assign(first, { run: `${mine} ${Math.random()}`, have: 0 });
    const key = `${view} ${mine}`;
    say(`reading ${file.name}`);
    try {
      if (file.size > MOST * 2 ** 20) {
        throw new Error(`it has ${Math.ceil(file.size / 2 ** 20)} MB, and ${MOST} are the most: `
          + "write the model alone with compgpt_lib.weights.save, and choose that file");
      }
      const content = await file.arrayBuffer();
      const read = await engine.call("model", { key, content }, [content]);
      const opened = await engine.call("open", {
        view: key, kind, names: { [read.name]: key }, options, first,
      });
      if (mine !== turn) throw new Error("another one came meanwhile");
      const request = { ...first, text: opened.answer.text ?? opened.text, number: 0 };
      const answer = { ...opened.answer, number: 0 };
      put(key, { fixed: opened.fixed, request, answer });
      if (own) engine.call("forget", { key: own });
      own = key;
      back.hidden = false;
      const left = opened.left ? " Of the text, what its vocabulary lacks was left out." : "";
      about = `Shown alone is your ${read.name} from ${file.name}: width ${read.config.d_model}, `
        + `${read.parameters.toLocaleString("en")} parameters, a vocabulary of `
        + `${read.characters}.${left}`;
      say(about);
    } catch (error) {
      engine.call("close", { view: key });
      engine.call("forget", { key });
      if (mine === turn) say(about, `${file.name}: ${error.message}.`);
    }
  };

  const taker = fileTaker(figure, take);
  const input = taker.querySelector("input");
  const foot = el("div", { class: "compgpt-foot" },
    note ? el("p", { class: "compgpt-note" }, note) : null,
    problem, el("div", { class: "compgpt-row" }, taker, back, status));
  try {
    if (!VIEWS[kind]) throw new Error(`this page knows no view called ${kind}`);
    shipped();
    figure.append(holder, foot);
    figure.toggleAttribute("data-live", true);
  } catch (error) {
    failed(error);
  }
}

/**
 * Bring all views of the page to life, each when it comes near.
 * @param {string} source the script of the page, for a worker
 */
export function start(source) {
  const { currentScript, baseURI } = document;
  const address = /** @type {HTMLScriptElement | null} */ (currentScript)?.src || baseURI;
  const begin = () => {
    const figures = [...document.querySelectorAll(".compgpt-live")];
    if (!figures.length) return;
    const engine = new Engine(source);
    const shelf = new Shelf(engine, address);
    const bringOne = (figure) => bring(figure, engine, shelf, `view ${figures.indexOf(figure)}`);
    const near = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        bringOne(target);
      }
    }, { rootMargin: NEAR });
    figures.forEach((figure) => near.observe(figure));
    // A file that is dropped beside a view would take the place of the page.
    for (const event of ["dragover", "drop"]) {
      document.addEventListener(event, (/** @type {DragEvent} */ dropped) => {
        if (dropped.dataTransfer?.types.includes("Files")) dropped.preventDefault();
      });
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
}
