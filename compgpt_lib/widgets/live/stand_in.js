// What a view's module sees of a kernel: anywidget's model, answered by the page itself.

/**
 * anywidget's model over the traits of a view (`fixed`, `request`, `controls`, `answer`, `error`).
 * A view puts a `request` and saves it; what `reply` makes of it is its `answer`, or its `error`,
 * with the request's number. As in Python an answer that comes after a newer one is dropped, and
 * a request for which `reply` gives null (a newer one is on its way) is never answered.
 */
export class PageModel {
  /** @type {Record<string, any>} */
  #traits;

  /** @type {(request: any) => Promise<any>} */
  #reply;

  /** @type {[string, () => void][]} */
  #calls = [];

  #saved;

  /** What a view says when an answer is long in coming. */
  late = "No answer for 5 seconds: the model is still on its way, or this device is busy. "
    + "The answer comes as soon as it is there.";

  /**
   * @param {Record<string, any>} traits
   * @param {(request: any) => Promise<any>} reply
   */
  constructor(traits, reply) {
    this.#traits = { fixed: {}, controls: {}, error: {}, ...traits };
    this.#saved = this.#traits.request;
    this.#reply = reply;
  }

  /** @param {string} name */
  get(name) {
    return this.#traits[name];
  }

  /**
   * @param {string} name
   * @param {any} value
   */
  set(name, value) {
    this.#traits[name] = value;
    this.#emit(`change:${name}`);
  }

  /**
   * @param {string} event
   * @param {() => void} call
   */
  on(event, call) {
    this.#calls.push([event, call]);
  }

  /**
   * @param {string} event
   * @param {(() => void) | null} call
   */
  off(event, call = null) {
    this.#calls = this.#calls.filter(([name, one]) => name !== event || (call && one !== call));
  }

  /** Ask, if what is asked has changed. */
  save_changes() {
    const { request } = this.#traits;
    if (request === this.#saved) return;
    this.#saved = request;
    this.#answer(request, request.number ?? 0);
  }

  /**
   * @param {any} request
   * @param {number} number
   */
  async #answer(request, number) {
    let name = "answer";
    let value;
    try {
      value = await this.#reply(request);
    } catch (error) {
      name = "error";
      value = { words: error.message };
    }
    const { answer, error } = this.#traits;
    if (value === null || number < Math.max(answer.number ?? 0, error.number ?? 0)) return;
    this.set(name, { ...value, number });
  }

  /** @param {string} event */
  #emit(event) {
    for (const [name, call] of this.#calls.slice()) if (name === event) call();
  }
}
