/** Read the conformance vectors, and the bundles of the repository as archives. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { zipSync } from "fflate";

const ROOT = new URL("../../../", import.meta.url);
const FOLDER = new URL("runtimes/conformance/", ROOT);

/** Where an array is in arrays.bin. */
export interface Placed {
  readonly offset: number;
  readonly type: "u8" | "u16" | "f32";
  readonly shape: readonly number[];
}

export function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf8")) as T;
}

const content = readFileSync(new URL("arrays.bin", FOLDER));

export function array(placed: Placed): Uint8Array | Uint16Array | Float32Array {
  const kind = { u8: Uint8Array, u16: Uint16Array, f32: Float32Array }[placed.type];
  const count = placed.shape.reduce((product, side) => product * side, 1);
  const bytes = Uint8Array.from(content.subarray(placed.offset, placed.offset + count * kind.BYTES_PER_ELEMENT));
  return new kind(bytes.buffer);
}

export function base64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(text, "base64"));
}

/** Return a bundle folder of the repository as an archive. */
export function packed(folder: string, change: (files: Record<string, Uint8Array>) => void = () => undefined): ArrayBuffer {
  const root = new URL(`${folder}/`, ROOT);
  const files: Record<string, Uint8Array> = {};
  for (const name of readdirSync(root, { recursive: true }) as string[]) {
    const path = fileURLToPath(new URL(name, root));
    if (statSync(path).isFile()) files[name] = Uint8Array.from(readFileSync(path));
  }
  change(files);
  return zipSync(files, { level: 0 }).buffer as ArrayBuffer;
}

/** Return the largest distance between two lists of numbers. */
export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= most)) most = difference;
  }
  return most;
}
