/** Builds the library into dist/lib, and runs the tests; the app has a configuration of its own. */

import { defineConfig } from "vitest/config";

import { ONNXRUNTIME_CONDITION, onnxRuntimeFiles } from "./onnxruntime_files.js";

export default defineConfig({
  base: "./",
  publicDir: false,
  plugins: [onnxRuntimeFiles()],
  resolve: { conditions: [ONNXRUNTIME_CONDITION, "module", "browser", "development|production"] },
  worker: { format: "es", rolldownOptions: { output: { entryFileNames: "worker.js", chunkFileNames: "chunks/worker-[name]-[hash].js" } } },
  build: {
    outDir: "dist/lib",
    target: "es2022",
    lib: { entry: { edgedenoise: "src/index.ts" }, formats: ["es"] },
    rolldownOptions: { output: { chunkFileNames: "chunks/[name]-[hash].js" } },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node", testTimeout: 60_000 },
});
