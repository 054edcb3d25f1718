/**
 * One model on ONNX Runtime for the web, for benchmarks/web.py: each line of the input runs it once, and each line of
 * the output has the milliseconds on the wall and of processor time.
 *
 * node bench_driver.mjs MODEL TILE SIDES THREADS OUT
 */

import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

import * as ort from "onnxruntime-web";

const [model, tile, sides, threads, out] = process.argv.slice(2);
ort.env.logLevel = "error";
ort.env.wasm.numThreads = Number(threads);
const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
const content = readFileSync(tile);
const data = new Float32Array(content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength));
const image = new ort.Tensor("float32", data, sides.split(",").map(Number));

for await (const line of createInterface({ input: process.stdin })) {
  const start = performance.now();
  const before = process.cpuUsage();
  const { denoised } = await session.run({ image });
  const { user, system } = process.cpuUsage(before);
  const wall = performance.now() - start;
  if (line === "write") writeFileSync(out, new Uint8Array(denoised.data.buffer, denoised.data.byteOffset, denoised.data.byteLength));
  process.stdout.write(`${JSON.stringify({ wall, cpu: (user + system) / 1000 })}\n`);
}
process.exit(0);
