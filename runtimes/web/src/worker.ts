/** The worker that runs the network, so that the page stays responsive. */

import { Engine, type EngineOptions } from "./engine.js";
import { InferenceError } from "./errors.js";
import { type Opened, type Request, type Response, sent } from "./messages.js";
import type { BenchOptions, DenoiseOptions, InputImage, SelfTestOptions } from "./types.js";

interface Scope {
  onmessage: ((event: MessageEvent<Request>) => void) | null;
  postMessage(message: Response, transfer?: Transferable[]): void;
}

const scope = globalThis as unknown as Scope;
const running = new Map<number, AbortController>();
let engine: Engine | null = null;

scope.onmessage = ({ data }) => {
  if ("abort" in data) running.get(data.abort)?.abort();
  else void answer(data.id, data.call, data.args);
};

async function answer(id: number, call: string, args: readonly unknown[]): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const { result, transfer } = await run(id, call, args, controller.signal);
    scope.postMessage({ id, result }, transfer);
  } catch (error) {
    scope.postMessage({ id, error: sent(error) });
  } finally {
    running.delete(id);
  }
}

async function run(
  id: number,
  call: string,
  args: readonly unknown[],
  signal: AbortSignal,
): Promise<{ result: unknown; transfer: Transferable[] }> {
  const onProgress = (...progress: unknown[]): void => scope.postMessage({ id, progress });
  if (call === "open") {
    const [data, source, options] = args as [ArrayBuffer, string, EngineOptions];
    engine = await Engine.open(new Uint8Array(data), source, { ...options, signal });
    const opened: Opened = { manifest: engine.manifest, choice: engine.choice, device: engine.device };
    return { result: opened, transfer: [] };
  }
  if (engine === null) throw new InferenceError("the worker has no open bundle");
  if (call === "denoise") {
    const [image, options] = args as [InputImage, DenoiseOptions];
    const result = await engine.denoise(image, { ...options, onProgress, signal });
    return { result, transfer: [result.image.data.buffer as ArrayBuffer] };
  }
  if (call === "selfTest") {
    return { result: await engine.selfTest({ ...(args[0] as SelfTestOptions), onProgress, signal }), transfer: [] };
  }
  if (call === "bench") {
    return { result: await engine.bench({ ...(args[0] as BenchOptions), onProgress, signal }), transfer: [] };
  }
  return { result: await engine.close(), transfer: [] };
}
