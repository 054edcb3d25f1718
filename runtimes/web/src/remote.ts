/** A bundle that is open in a worker. */

import type { EngineOptions } from "./engine.js";
import { InferenceError, RuntimeUnavailableError } from "./errors.js";
import type { Manifest } from "./manifest.js";
import { type CallName, type Opened, received, type Request, type Response } from "./messages.js";
import type {
  BenchOptions, BenchReport, Choice, Denoised, Denoiser, DenoiseOptions, EffectiveDevice, InputImage, SelfTestOptions, SelfTestReport,
} from "./types.js";

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
  onProgress(...progress: unknown[]): void;
}

export class RemoteDenoiser implements Denoiser {
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;
  private opened!: Opened;
  private failure: Error | null = null;

  private constructor(private readonly worker: Worker) {
    worker.onmessage = (event: MessageEvent<Response>) => this.take(event.data);
    worker.onerror = (event) => this.fail(new RuntimeUnavailableError(`the worker failed: ${event.message || "its script cannot be loaded"}`));
    worker.onmessageerror = () => this.fail(new InferenceError("the worker sent a message that cannot be read"));
  }

  /** Open the archive of a bundle in a worker; `data` is given away. */
  static async open(worker: Worker, data: ArrayBuffer, source: string, options: EngineOptions): Promise<RemoteDenoiser> {
    const remote = new RemoteDenoiser(worker);
    const { signal, ...rest } = options;
    const runtime = rest.runtime && { ...rest.runtime, ...addresses(rest.runtime) };
    try {
      const args = [data, source, runtime === undefined ? rest : { ...rest, runtime }];
      remote.opened = (await remote.call("open", args, { signal }, [data])) as Opened;
    } catch (error) {
      worker.terminate();
      throw error;
    }
    return remote;
  }

  get manifest(): Manifest {
    return this.opened.manifest;
  }

  get choice(): Choice {
    return this.opened.choice;
  }

  get device(): EffectiveDevice {
    return this.opened.device;
  }

  async denoise<T extends InputImage>(image: T, options: DenoiseOptions = {}): Promise<Denoised<T>> {
    const { onProgress, signal, ...rest } = options;
    return (await this.call("denoise", [image, rest], { onProgress, signal })) as Denoised<T>;
  }

  async selfTest(options: SelfTestOptions = {}): Promise<SelfTestReport> {
    const { onProgress, signal, ...rest } = options;
    return (await this.call("selfTest", [rest], { onProgress, signal })) as SelfTestReport;
  }

  async bench(options: BenchOptions = {}): Promise<BenchReport> {
    const { onProgress, signal, ...rest } = options;
    return (await this.call("bench", [rest], { onProgress, signal })) as BenchReport;
  }

  async close(): Promise<void> {
    if (this.failure !== null) return;
    try {
      await this.call("close", [], {});
    } finally {
      this.fail(new InferenceError("the Denoiser is closed", { hint: "Open the bundle again with load." }));
    }
  }

  private call(
    name: CallName,
    args: readonly unknown[],
    options: { onProgress?: ((...progress: never[]) => void) | undefined; signal?: AbortSignal | undefined },
    transfer: Transferable[] = [],
  ): Promise<unknown> {
    if (this.failure !== null) return Promise.reject(this.failure);
    const id = this.next++;
    const abort = (): void => this.worker.postMessage({ abort: id } satisfies Request);
    const result = new Promise((resolve, reject) => {
      const onProgress = (options.onProgress ?? (() => undefined)) as (...progress: unknown[]) => void;
      this.waiting.set(id, { resolve, reject, onProgress });
      this.worker.postMessage({ id, call: name, args } satisfies Request, transfer);
      if (options.signal?.aborted) abort();
      options.signal?.addEventListener("abort", abort);
    });
    return result.finally(() => options.signal?.removeEventListener("abort", abort));
  }

  private take(message: Response): void {
    const waiting = this.waiting.get(message.id);
    if (waiting === undefined) return;
    if ("progress" in message) {
      waiting.onProgress(...message.progress);
      return;
    }
    this.waiting.delete(message.id);
    if ("error" in message) waiting.reject(received(message.error));
    else waiting.resolve(message.result);
  }

  private fail(error: Error): void {
    this.failure = error;
    this.worker.terminate();
    for (const waiting of this.waiting.values()) waiting.reject(error);
    this.waiting.clear();
  }
}

/** Return the addresses of a page as texts, relative to the page: a worker has another base, and takes no URL objects. */
function addresses(files: NonNullable<EngineOptions["runtime"]>): { folder?: string; mjs?: string } {
  const absolute = (address: string | URL): string => new URL(address, globalThis.location?.href).href;
  return {
    ...(files.folder === undefined ? {} : { folder: absolute(files.folder) }),
    ...(files.mjs === undefined ? {} : { mjs: absolute(files.mjs) }),
  };
}
