/** The files of ONNX Runtime that the library loads when it needs them; they are copied beside its script, into `ort/`. */

import { readFileSync } from "node:fs";

import type { Plugin } from "vite";

/** Condition of onnxruntime-web's package: scripts that load their WebAssembly from a file. */
export const ONNXRUNTIME_CONDITION = "onnxruntime-web-use-extern-wasm";

const NAMES = [
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
];

/** Return a plugin that copies the files into the folder `ort` of a build. */
export function onnxRuntimeFiles(): Plugin {
  return {
    name: "onnxruntime-files",
    apply: "build",
    generateBundle() {
      for (const name of NAMES) {
        const source = readFileSync(new URL(`./node_modules/onnxruntime-web/dist/${name}`, import.meta.url));
        this.emitFile({ type: "asset", fileName: `ort/${name}`, source });
      }
    },
  };
}
