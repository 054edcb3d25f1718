/** Builds the library into dist/lib; the app has a configuration of its own. */

import { defineConfig } from "vite";

export default defineConfig({
  publicDir: false,
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "development|production"] },
  build: {
    outDir: "dist/lib",
    target: "es2022",
    lib: { entry: { edgedenoise: "src/index.ts" }, formats: ["es"] },
  },
});
