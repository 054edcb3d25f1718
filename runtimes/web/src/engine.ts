/** A bundle that is open in this thread: chooses device and variant, holds one session, runs one call at a time. */

import { Bundle } from "./bundle.js";
import { choose, floatReason, runnable, variantNamed } from "./choosing.js";
import { DeviceMemoryError, DeviceNotFoundError, EdgeDenoiseError, IncompatibleError, InferenceError, Interrupted, ParityError, UsageError } from "./errors.js";
import { runBench } from "./bench.js";
import type { Manifest, Variant } from "./manifest.js";
import { checkNoiseLevel, checkSettings, ImageNoise } from "./noise_plane.js";
import { apply, undo } from "./normalize.js";
import { runPlan, sessionPlan } from "./pipeline.js";
import { StoredImage } from "./pixels.js";
import { failedSelfTest, psnrUnit, runSelfTest, type TestedVariant } from "./selftest.js";
import { isIsolated, reasonOf, Session, threadCount } from "./session.js";
import { firstTile, nextTile } from "./tiling.js";
import type {
  BenchOptions, BenchReport, Choice, Denoised, Denoiser, DenoiseOptions, DeviceName, EffectiveDevice, InputImage, LoadOptions,
  SelfTestOptions, SelfTestReport,
} from "./types.js";

const DEFAULT_TILE_BYTES = 96 << 20;

/** Options of `load` that the thread of the network needs. */
export type EngineOptions = Omit<LoadOptions, "worker">;

interface Adapter {
  readonly name: string;
  readonly isFallback: boolean;
}

export class Engine implements Denoiser {
  private session: Session | null = null;
  private opened: Variant | null = null;
  private queue: Promise<unknown> = Promise.resolve();
  private isClosed = false;
  private version = "";
  private adapter: string | null = null;
  private reason = "";

  private constructor(
    private readonly bundle: Bundle,
    private readonly options: EngineOptions,
    private readonly threads: number,
    private deviceName: DeviceName,
    private chosen: Choice,
  ) {}

  /**
   * Open the archive of a bundle; see `load`.
   *
   * @param data - the archive; it must not change afterwards
   * @param source - what messages call it
   */
  static async open(data: Uint8Array, source: string, options: EngineOptions): Promise<Engine> {
    const threads = threadCount(options.threads);
    if (options.tileBytes !== undefined && !(options.tileBytes >= 1)) {
      throw new UsageError(`tileBytes is ${options.tileBytes}; expected a number of bytes above 0`);
    }
    const bundle = await Bundle.open(data, source);
    checkNoiseLevel(bundle.manifest, source);
    if (options.signal?.aborted) throw new Interrupted("the bundle was not opened, because the caller ended it");
    const engine = new Engine(bundle, options, threads, "wasm", requested(bundle, options, "wasm"));
    try {
      await engine.start();
    } catch (error) {
      await engine.close();
      throw error;
    }
    if (options.signal?.aborted) {
      await engine.close();
      throw new Interrupted("the bundle was not opened, because the caller ended it");
    }
    return engine;
  }

  get manifest(): Manifest {
    return this.bundle.manifest;
  }

  get choice(): Choice {
    return this.chosen;
  }

  get device(): EffectiveDevice {
    const isCpu = this.deviceName === "wasm";
    return {
      device: this.deviceName,
      reason: this.reason,
      runtime: "onnxruntime-web",
      version: this.version,
      threads: isCpu ? this.threads : 1,
      isolated: isIsolated(),
      adapter: isCpu ? null : this.adapter,
    };
  }

  denoise<T extends InputImage>(image: T, options: DenoiseOptions = {}): Promise<Denoised<T>> {
    return this.alone(() => this.denoiseNow(image, options));
  }

  selfTest(options: SelfTestOptions = {}): Promise<SelfTestReport> {
    return this.alone(() => this.selfTestNow(options));
  }

  bench(options: BenchOptions = {}): Promise<BenchReport> {
    return this.alone(async () => {
      const { variants, skipped } = this.runnable(options.variants);
      await this.release();
      return runBench(this.bundle, variants, skipped, this.device, (variant) => this.newSession(variant), options);
    });
  }

  close(): Promise<void> {
    this.isClosed = true;
    const closed = this.queue.then(() => this.release());
    this.queue = closed.catch(() => undefined);
    return closed;
  }

  /** Choose the device, open the session, and run the self-test. */
  private async start(): Promise<void> {
    const asked = this.options.device ?? "auto";
    if (asked !== "auto" && asked !== "wasm" && asked !== "webgpu") {
      throw new UsageError(`there is no device ${JSON.stringify(asked)}; expected auto, wasm, webgpu`);
    }
    if (asked === "webgpu") {
      const adapter = await findAdapter();
      if (typeof adapter === "string") throw new DeviceNotFoundError(`WebGPU cannot be used: ${adapter}`, { hint: "Use the device wasm." });
      await this.startWebGpu(adapter, "WebGPU was asked for", this.options.selfTest ?? true);
      return;
    }
    this.reason = asked === "wasm" ? "WebAssembly was asked for" : `WebGPU is not used: ${await this.tryWebGpu()}`;
    if (this.deviceName === "webgpu") return;
    const session = await this.sessionOf(this.variant);
    this.version = session.version;
    if (this.options.selfTest ?? true) await this.requireSelfTest();
  }

  /** Switch to WebGPU if it can be used and passes the self-test; otherwise return why not. */
  private async tryWebGpu(): Promise<string> {
    const asked = this.options.variant === undefined ? this.options.precision : this.variant.precision;
    if (asked === "int8") return "it has no integer convolutions";
    const adapter = await findAdapter();
    if (typeof adapter === "string") return adapter;
    if (adapter.isFallback) return `its only adapter is a software one (${adapter.name})`;
    try {
      await this.startWebGpu(adapter, "WebGPU is here and passed the self-test", true);
      return "";
    } catch (error) {
      if (!(error instanceof EdgeDenoiseError)) throw error;
      await this.release();
      this.deviceName = "wasm";
      this.chosen = requested(this.bundle, this.options, "wasm");
      return error.message;
    }
  }

  private async startWebGpu(adapter: Adapter, reason: string, selfTest: boolean): Promise<void> {
    this.deviceName = "webgpu";
    this.adapter = adapter.name;
    this.chosen = requested(this.bundle, this.options, "webgpu");
    const session = await this.sessionOf(this.variant);
    this.version = session.version;
    if (selfTest) await this.requireSelfTest();
    this.reason = reason;
  }

  /** @throws ParityError the variant fails its self-test */
  private async requireSelfTest(): Promise<void> {
    const session = await this.sessionOf(this.variant);
    const { result } = await runSelfTest(this.bundle, this.variant, this.deviceName, session);
    if (result.passed) return;
    throw new ParityError(
      `${this.bundle.source}: ${this.variant.name} fails its self-test on ${this.deviceName} (ONNX Runtime ${this.version}): ${result.reason}`,
      { hint: "Choose another precision or device." },
    );
  }

  private get variant(): Variant {
    return variantNamed(this.manifest, this.bundle.source, this.chosen.variant);
  }

  private async denoiseNow<T extends InputImage>(image: T, options: DenoiseOptions): Promise<Denoised<T>> {
    const start = performance.now();
    const strength = options.strength ?? 1;
    checkSettings(this.manifest, strength, options.noise);
    const stored = new StoredImage(image);
    const { height, width } = stored;
    const noise = this.manifest.noiseLevel === null || strength === 0 ? null : this.noiseOf(stored, options.noise);
    const unchanged = strength === 0 || noise?.isNegligible === true;
    const noiseLsb = noise === null ? null : noise.rmsLsb;
    const result = stored.copy();
    const info = { variant: this.variant.name, floatReason: null as string | null, tile: 0, tiles: 0 };
    if (unchanged) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) result.store(y, x, [stored.unit(0, y, x), stored.unit(1, y, x), stored.unit(2, y, x)]);
      }
    } else {
      const isAuto = (this.options.precision ?? "auto") === "auto" && this.options.variant === undefined;
      const callsForFloat =
        isAuto && this.variant.precision === "int8" ? floatReason(this.variant, stored.bits, noiseLsb === null ? null : noiseLsb * strength) : null;
      const variant = callsForFloat === null ? this.variant : this.floatVariant();
      if (variant !== this.variant && variant.name !== this.variant.name) info.floatReason = callsForFloat;
      info.variant = variant.name;
      const session = await this.sessionOf(variant);
      const { normalization, normalizationLimit } = this.manifest;
      const stats = stored.statistics(normalization, normalizationLimit);
      const input = {
        height,
        width,
        channels: this.bundle.inputChannels,
        at: (c: number, y: number, x: number): number =>
          c < 3 ? apply(stats, c, stored.unit(c, y, x)) : noise!.level(y, x, strength),
      };
      const blend = noise === null && strength !== 1 ? Math.fround(strength) : null;
      const output = (y: number, x: number, values: [number, number, number]): void => {
        for (let c = 0; c < 3; c++) {
          const value = undo(stats, c, values[c]!);
          if (blend === null) values[c] = value;
          else {
            const given = stored.unit(c, y, x);
            values[c] = Math.fround(given + Math.fround(blend * Math.fround(value - given)));
          }
        }
        result.store(y, x, values);
      };
      Object.assign(info, await this.runTiles(session, variant, input, output, options));
    }
    return {
      ...info,
      image: result.image() as T,
      noiseLsb: noiseLsb === null ? null : Math.round(noiseLsb * 100) / 100,
      unchanged,
      milliseconds: performance.now() - start,
    };
  }

  /** Run all tiles of an image; after running out of memory, smaller ones from the row where it stopped. */
  private async runTiles(
    session: Session,
    variant: Variant,
    input: Parameters<typeof runPlan>[2],
    output: Parameters<typeof runPlan>[3],
    options: DenoiseOptions,
  ): Promise<{ tile: number; tiles: number }> {
    const { height, width } = input;
    const { tiling } = this.manifest;
    const { shapes } = variant;
    let tile = options.tile ?? firstTile(height, width, tiling, shapes, this.options.tileBytes ?? DEFAULT_TILE_BYTES);
    let top = 0;
    let before = 0;
    const begin = performance.now();
    for (;;) {
      const plan = sessionPlan(session, height, width, tiling, tile, top);
      const total = before + plan.rows * plan.columns;
      let row = top;
      let finished = before;
      const onTile = (done: number, nextRow: number): void => {
        row = nextRow;
        if (nextRow > plan.top && done % plan.columns === 0) finished = before + done;
        const elapsedMs = performance.now() - begin;
        const count = before + done;
        options.onProgress?.({ done: count, total, elapsedMs, remainingMs: (elapsedMs / count) * (total - count) });
      };
      try {
        options.onProgress?.({ done: before, total, elapsedMs: performance.now() - begin, remainingMs: null });
        await runPlan(session, plan, input, output, onTile, options.signal);
        return { tile, tiles: total };
      } catch (error) {
        if (!(error instanceof DeviceMemoryError) || options.tile !== undefined) throw error;
        tile = nextTile(height - top, width, tiling, shapes, tile);
        top = Math.floor(row / tiling.multipleOf) * tiling.multipleOf;
        before = finished;
      }
    }
  }

  private noiseOf(image: StoredImage, stated: number | undefined): ImageNoise {
    return stated === undefined ? ImageNoise.estimated(image) : ImageNoise.stated(stated, image.height, image.width);
  }

  /** Return the float variant, or the chosen one where there is none. */
  private floatVariant(): Variant {
    try {
      const { variant } = choose(this.manifest, this.bundle.source, "fp32", this.deviceName);
      return variantNamed(this.manifest, this.bundle.source, variant);
    } catch (error) {
      if (error instanceof IncompatibleError) return this.variant;
      throw error;
    }
  }

  private async selfTestNow(options: SelfTestOptions): Promise<SelfTestReport> {
    const { variants, skipped } = this.runnable(options.variants);
    await this.bundle.selfTestPair(); // a damaged self-test is an error, not a failure of a variant
    await this.release();
    const tested: TestedVariant[] = [];
    for (const variant of variants) {
      options.onProgress?.(tested.length, variants.length, variant.name);
      if (options.signal?.aborted) throw new Interrupted("the self-test was not finished, because the caller ended it");
      tested.push(await this.testVariant(variant));
    }
    const outputOf = (precision: string): Float32Array | null =>
      tested.find(({ result, output }) => result.precision === precision && output !== null)?.output ?? null;
    const float = outputOf("fp32");
    const int8 = outputOf("int8");
    return {
      bundle: this.manifest.name,
      digest: this.manifest.digest,
      device: this.device,
      variants: tested.map(({ result }) => result),
      skipped,
      int8ToFloatDb: float === null || int8 === null ? null : psnrUnit(int8, float),
      passed: tested.length > 0 && tested.every(({ result }) => result.passed),
    };
  }

  private async testVariant(variant: Variant): Promise<TestedVariant> {
    let session: Session;
    try {
      session = await this.newSession(variant);
    } catch (error) {
      if (error instanceof EdgeDenoiseError) return failedSelfTest(variant, this.deviceName, error.message);
      throw error;
    }
    try {
      return await runSelfTest(this.bundle, variant, this.deviceName, session);
    } catch (error) {
      if (error instanceof EdgeDenoiseError) return failedSelfTest(variant, this.deviceName, error.message);
      throw error;
    } finally {
      await session.release();
    }
  }

  private runnable(names: readonly string[] | undefined): ReturnType<typeof runnable> {
    if (names === undefined) return runnable(this.manifest);
    return { variants: names.map((name) => variantNamed(this.manifest, this.bundle.source, name)), skipped: [] };
  }

  /** Return the session of a variant; the session of another one is closed. */
  private async sessionOf(variant: Variant): Promise<Session> {
    if (this.session !== null && this.opened?.name === variant.name) return this.session;
    await this.release();
    const session = await this.newSession(variant);
    this.session = session;
    this.opened = variant;
    return session;
  }

  private async newSession(variant: Variant): Promise<Session> {
    const model = await this.bundle.model(variant);
    const options = { threads: this.threads, files: this.options.runtime ?? {} };
    return Session.open(model, this.deviceName, variant.shapes, this.bundle.inputChannels, options);
  }

  private async release(): Promise<void> {
    const { session } = this;
    this.session = null;
    this.opened = null;
    await session?.release();
  }

  /** Run a call after the ones before it. */
  private alone<T>(call: () => Promise<T>): Promise<T> {
    if (this.isClosed) return Promise.reject(new InferenceError("the Denoiser is closed", { hint: "Open the bundle again with load." }));
    const result = this.queue.then(call);
    this.queue = result.catch(() => undefined);
    return result;
  }
}

function requested(bundle: Bundle, options: EngineOptions, device: DeviceName): Choice {
  const { manifest, source } = bundle;
  if (options.variant === undefined) return choose(manifest, source, options.precision ?? "auto", device);
  const variant = variantNamed(manifest, source, options.variant);
  return { variant: variant.name, precision: variant.precision, passedOver: [] };
}

interface WebGpu {
  requestAdapter(options?: object): Promise<{
    readonly info?: { readonly vendor?: string; readonly architecture?: string; readonly description?: string; readonly isFallbackAdapter?: boolean };
    readonly isFallbackAdapter?: boolean;
  } | null>;
}

/** Return the graphics adapter of this browser, or why there is none. */
async function findAdapter(): Promise<Adapter | string> {
  const gpu = (globalThis.navigator as { gpu?: WebGpu } | undefined)?.gpu;
  if (gpu === undefined) return "this browser has no WebGPU, or the page did not come over https";
  try {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter === null) return "this browser found no graphics adapter";
    const { vendor, architecture, description, isFallbackAdapter } = adapter.info ?? {};
    const name = [vendor, architecture, description].filter(Boolean).join(" ") || "unnamed";
    return { name, isFallback: isFallbackAdapter ?? adapter.isFallbackAdapter ?? false };
  } catch (error) {
    return reasonOf(error);
  }
}
