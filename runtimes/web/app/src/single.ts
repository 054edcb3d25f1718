/** The app in one file, which opens without a network: everything it needs is in the page. */

import LibraryWorker from "../../src/worker.ts?worker&inline";
import { App } from "./app.js";
import { fromBase64, gunzip } from "./bytes.js";
import type { BundleEntry, Host } from "./host.js";
import { element } from "./ui/elements.js";

const dataOf = (id: string): Promise<ArrayBuffer> => gunzip(fromBase64(element(id).textContent?.trim() ?? ""));

async function embedded(): Promise<Host> {
  const bundles = JSON.parse(element("bundles").textContent ?? "[]") as BundleEntry[];
  // Not an address of a Blob: a page from a disk has no origin, so its worker may not load one.
  const script = `data:text/javascript;charset=utf-8,${encodeURIComponent(new TextDecoder().decode(await dataOf("ort-mjs")))}`;
  return {
    bundles: async () => bundles,
    source: (bundle) => dataOf(`bundle-${bundle.file}`),
    options: { runtime: { wasm: await dataOf("ort-wasm"), mjs: script }, worker: () => new LibraryWorker() },
    canInstall: false,
  };
}

void embedded().then((host) => new App(host).start());
