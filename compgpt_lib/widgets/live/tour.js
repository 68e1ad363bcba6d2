// A guided tour over the forward view: eight steps, from a character to the next one.
import { clear, el, glyph, percent, unpack } from "../common.js";

const HERE = "compgpt-here"; // the part that a step is about
const LOOK = "compgpt-look"; // what to look at in it
const TYPING = "input, textarea, select, [role=slider]"; // there the arrow keys have their own use

/** @param {any} bytes */
const floats = (bytes) => unpack(bytes, Float32Array);

/** The largest weight and the place that it is given to. */
function strongest(answer) {
  const weights = floats(answer.weights);
  const at = weights.indexOf(Math.max(...weights));
  return { weight: weights[at].toFixed(2), at, sign: answer.signs[at] };
}

/**
 * A step: its title, the part of the view (counted from 0), what to look at there, and what to say
 * of the answer that is shown.
 * @typedef {{ title: string, part: number, look: string,
 *   say: (answer: any, fixed: any) => (string | HTMLElement)[] }} Step
 */

/** @type {Step[]} */
const STEPS = [
  {
    title: "A character becomes numbers", part: 0, look: ".cg-step",
    say: (answer) => ["The model reads ", glyph(answer.signs[answer.at]), " as a number, its id: "
      + `${answer.id}. Row ${answer.id} of a learned table stands for the character, row `
      + `${answer.at} of a second one for its place. Their sum is what the model works on: `
      + `${floats(answer.token).length} numbers, each a small coloured cell.`],
  },
  {
    title: "The residual stream", part: 1, look: ".cg-step:has(canvas)",
    say: (_, { stages }) => [`These numbers pass through the model: ${stages.length} strips, one `
      + "at the start and one after each part. A block reads the stream, works on it, and "
      + "hands it on. Where a strip is shorter, the stream has fewer numbers."],
  },
  {
    title: "Query and keys", part: 2, look: ".cg-look > :nth-child(2), .cg-look > :nth-child(3)",
    say: (answer) => ["Inside a block a head asks. The query of ", glyph(answer.signs[answer.at]),
      " is compared with the key of each character up to it: multiplied number by number and "
      + "summed. That, divided by a constant, is the score. Alike strips make a high score."],
  },
  {
    title: "Weights", part: 2, look: ".cg-look > :nth-child(4)",
    say: (answer) => {
      const { weight, at, sign } = strongest(answer);
      return ["Softmax makes weights of the scores: all above 0, and together 1. The largest here "
        + `is ${weight}: it goes to `, glyph(sign), ` at ${at}. This is where the head looks.`];
    },
  },
  {
    title: "Values", part: 2, look: ".cg-look > :nth-child(5), .cg-look > :nth-child(6)",
    say: () => ["Each character also has a value: what it has to tell. Each value is multiplied by "
      + "its weight, and their sum (the topmost strip) is what this head brings to the character."],
  },
  {
    title: "Feed-forward", part: 3, look: "[data-step=feed-forward], [data-step=out]",
    say: () => ["What all heads brought is added to the stream. Then a small network of two "
      + "layers, the feed-forward, works on this character alone, and its result is added, too. A "
      + "norm after each sum keeps the numbers in a fixed range."],
  },
  {
    title: "Logits", part: 4, look: "[data-step=final], .cg-next > :nth-child(2)",
    say: (_, { vocabulary }) => ["At the end a last layer, the model's head, reads the stream and "
      + `gives a number to each of the ${vocabulary.length} characters that may come next: its `
      + "logit. The higher, the likelier."],
  },
  {
    title: "The next character", part: 4, look: ".cg-next > :nth-child(3)",
    say: (answer, { vocabulary }) => ["Softmax makes probabilities of the logits. The highest is ",
      percent(answer.p[0]), ", of ", glyph(vocabulary[answer.candidates[0]]),
      ". Click a character: it is added to the text, and all begins anew. This is how a model "
      + "writes."],
  },
];

/** @type {(() => void) | null} */
let closeOpen = null; // a page has one tour open at most

/**
 * Put a button over a forward view that starts the tour, and return how to take all away again.
 * @param {HTMLElement} place where the view is
 * @param {any} model what the view shows
 * @returns {() => void}
 */
export function offerTour(place, model) {
  const button = el("button", {
    type: "button", class: "compgpt-start", click: () => open(),
  }, `Take the tour (${STEPS.length} steps)`);
  place.prepend(button);
  let close = () => {};

  function open() {
    closeOpen?.();
    let at = 0;
    const title = el("b");
    const words = el("p");
    const back = el("button", { type: "button", click: () => go(at - 1) }, "Back");
    const next = el("button", { type: "button", class: "compgpt-next", click: () => go(at + 1) });
    const end = el("button", { type: "button", click: () => close() }, "Close");
    const bar = el("div", { class: "compgpt-tour", role: "dialog", "aria-label": "guided tour" },
      el("div", { "aria-live": "polite" }, title, words),
      el("div", { class: "compgpt-row" }, back, next, end,
        el("span", { class: "compgpt-keys" }, "or the arrow keys; Escape closes")));

    const unmark = () => {
      for (const name of [HERE, LOOK]) {
        place.querySelectorAll(`.${name}`).forEach((node) => node.classList.remove(name));
      }
    };
    /** Mark what the step is about; the view draws its parts anew with each answer. */
    const mark = () => {
      unmark();
      const step = STEPS[at];
      const part = place.querySelectorAll(".cg-part")[step.part];
      part.classList.add(HERE);
      part.querySelectorAll(step.look).forEach((node) => node.classList.add(LOOK));
      title.textContent = `${at + 1} of ${STEPS.length}: ${step.title}`;
      clear(words, ...step.say(model.get("answer"), model.get("fixed")));
      return part;
    };
    function go(to) {
      if (to < 0) return;
      if (to >= STEPS.length) {
        close();
        return;
      }
      at = to;
      back.disabled = at === 0;
      next.textContent = at === STEPS.length - 1 ? "Done" : "Next";
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      mark().scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
    }
    const keys = (event) => {
      if (event.target.closest?.(TYPING) || event.ctrlKey || event.altKey || event.metaKey) return;
      const moves = {
        ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1), Escape: () => close(),
      };
      if (!moves[event.key]) return;
      event.preventDefault();
      event.stopPropagation(); // a book may turn its pages by the same keys
      moves[event.key]();
    };
    const drawn = new MutationObserver(mark);
    close = closeOpen = () => {
      drawn.disconnect();
      document.removeEventListener("keydown", keys, true);
      unmark();
      bar.remove();
      place.classList.remove("compgpt-touring");
      closeOpen = null;
      close = () => {};
      button.focus();
    };
    document.addEventListener("keydown", keys, true);
    drawn.observe(place.querySelector(".cg-flow"), { childList: true });
    place.append(bar);
    place.classList.add("compgpt-touring");
    go(0);
    next.focus({ preventScroll: true });
  }
  return () => { close(); button.remove(); };
}
