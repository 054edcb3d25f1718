/** Messages between a page and the worker that runs the network. */

import { EdgeDenoiseError, ERRORS } from "./errors.js";
import type { Manifest } from "./manifest.js";
import type { Choice, EffectiveDevice } from "./types.js";

/** Calls that the worker takes. */
export type CallName = "open" | "denoise" | "selfTest" | "bench" | "close";

/** From the page: a call, or the end of one. */
export type Request =
  | { readonly id: number; readonly call: CallName; readonly args: readonly unknown[] }
  | { readonly abort: number };

/** From the worker: progress, the result, or the error of a call. */
export type Response =
  | { readonly id: number; readonly progress: readonly unknown[] }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: SentError };

/** What the page is given of an opened bundle. */
export interface Opened {
  readonly manifest: Manifest;
  readonly choice: Choice;
  readonly device: EffectiveDevice;
}

export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly hint: string | null;
}

export function sent(error: unknown): SentError {
  if (error instanceof EdgeDenoiseError) return { name: error.name, message: error.message, hint: error.hint };
  if (error instanceof Error) return { name: error.name, message: error.message, hint: null };
  return { name: "Error", message: String(error), hint: null };
}

export function received(error: SentError): Error {
  const kind = ERRORS[error.name];
  return kind === undefined ? new Error(`${error.name}: ${error.message}`) : new kind(error.message, { hint: error.hint });
}
