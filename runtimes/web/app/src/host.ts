/** Where the app finds its bundles and ONNX Runtime: beside it on a host, or inside one file. */

import type { LoadOptions } from "../../src/types.js";
import { UsageError } from "../../src/errors.js";

/** A bundle that the page offers. */
export interface BundleEntry {
  readonly name: string;
  /** File name, relative to the list. */
  readonly file: string;
  readonly bytes: number;
  /** Largest strength: 2 for networks that take the noise level, otherwise 1. */
  readonly max_strength: number;
  /** Precisions that a browser can run. */
  readonly precisions: readonly string[];
}

/** What differs between a hosted page and a single file. */
export interface Host {
  bundles(): Promise<readonly BundleEntry[]>;
  /** Return what `load` opens. */
  source(bundle: BundleEntry): Promise<string | ArrayBuffer>;
  /** Files and worker for `load`. */
  readonly options: Pick<LoadOptions, "runtime" | "worker">;
  /** Whether the page can work offline later, by its service worker. */
  readonly canInstall: boolean;
}

/** A page with its files beside it. */
export const hosted: Host = {
  async bundles() {
    const answer = await fetch("bundles/index.json");
    if (!answer.ok) throw new UsageError(`the list of networks cannot be read: expected bundles/index.json, got ${answer.status}`);
    return ((await answer.json()) as { bundles: BundleEntry[] }).bundles;
  },
  source: async (bundle) => new URL(`bundles/${bundle.file}`, document.baseURI).href,
  options: { runtime: { folder: new URL("ort/", document.baseURI).href } },
  canInstall: "serviceWorker" in navigator && location.protocol !== "file:",
};
