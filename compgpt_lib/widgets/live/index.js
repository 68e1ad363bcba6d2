// The views by their kind, each with what its Python side would answer.
import { look as attention } from "./attention.js";
import { look as branches } from "./branches.js";
import { look as dimensions } from "./dimensions.js";
import { look as forward } from "./forward.js";
import { look as playground } from "./playground.js";

/**
 * What no request changes, and the answer to a request: the same that a view's `_fix` and `_look`
 * return in Python.
 * @typedef {{ fixed: () => any, look: (request: any) => any }} Look
 */
/** @type {Record<string, (models: Record<string, any>, options: any) => Look>} */
export const LOOKS = { attention, branches, dimensions, forward, playground };
