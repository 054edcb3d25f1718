/** Builds the app: for a host into dist/app, and with `--mode single` as one script and one style into dist/single. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

import { ONNXRUNTIME_CONDITION } from "../onnxruntime_files.js";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const { version } = JSON.parse(readFileSync(here("../package.json"), "utf8")) as { version: string };

export default defineConfig(({ mode }) => {
  const isSingle = mode === "single";
  return {
    root: here("."),
    base: "./",
    define: { __VERSION__: JSON.stringify(version) },
    publicDir: isSingle ? false : "public",
    resolve: { conditions: [ONNXRUNTIME_CONDITION, "module", "browser", "development|production"] },
    worker: { format: isSingle ? "iife" : "es" },
    plugins: [
      {
        name: "body",
        transformIndexHtml: { order: "pre", handler: (html) => html.replace("<!--#body-->", readFileSync(here("body.html"), "utf8")) },
      },
    ],
    build: {
      outDir: here(isSingle ? "../dist/single" : "../dist/app"),
      emptyOutDir: true,
      target: "es2022",
      modulePreload: { polyfill: false },
      rollupOptions: isSingle
        ? { input: here("single.html"), output: { entryFileNames: "app.js", assetFileNames: "app.[ext]", format: "es", codeSplitting: false } }
        : { input: { index: here("index.html"), lab: here("test.html") } },
    },
  };
});
