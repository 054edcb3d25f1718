/** ONNX Runtime: load it, open a model, run tiles. */

import type * as Ort from "onnxruntime-web/wasm";

import { DeviceMemoryError, EdgeDenoiseError, InferenceError, NotFiniteError, RuntimeUnavailableError, UsageError } from "./errors.js";
import type { InputShapes } from "./manifest.js";
import { acceptedSide } from "./tiling.js";
import type { DeviceName, RuntimeFiles } from "./types.js";

const INPUT = "image";
const OUTPUT = "denoised";
const MAX_THREADS = 64;
const AUTO_THREADS = 4;
const CHANNELS = 3;

/** What a session is opened with. */
export interface RuntimeOptions {
  readonly threads: number;
  readonly files: RuntimeFiles;
}

/** An input or output of the network: (1, C, height, width) in row-major order. */
export interface Tile {
  readonly height: number;
  readonly width: number;
  readonly data: Float32Array;
}

/** Return whether WebAssembly may use threads here: a page must be cross-origin isolated for that. */
export function isIsolated(): boolean {
  return typeof SharedArrayBuffer !== "undefined" && globalThis.crossOriginIsolated !== false;
}

/**
 * Return the number of threads to use.
 *
 * @throws UsageError it is out of range
 */
export function threadCount(asked: number | undefined): number {
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1 && asked <= MAX_THREADS)) {
    throw new UsageError(`threads is ${String(asked)}; expected 1 to ${MAX_THREADS}`);
  }
  if (!isIsolated()) return 1;
  return asked ?? Math.min(globalThis.navigator?.hardwareConcurrency ?? 1, AUTO_THREADS);
}

const loaded = new Map<DeviceName, Promise<typeof Ort>>();

/**
 * Load ONNX Runtime for a device. A page loads it once: files and threads of the first call stay.
 *
 * @throws RuntimeUnavailableError it cannot be loaded
 */
async function runtime(device: DeviceName, options: RuntimeOptions): Promise<typeof Ort> {
  const found = loaded.get(device) ?? configured(device, options);
  loaded.set(device, found);
  try {
    return await found;
  } catch (error) {
    loaded.delete(device);
    throw new RuntimeUnavailableError(`ONNX Runtime for ${device} cannot be loaded: ${reasonOf(error)}`, { cause: error });
  }
}

async function configured(device: DeviceName, { threads, files }: RuntimeOptions): Promise<typeof Ort> {
  const ort = device === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("#onnxruntime");
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  if (isNode()) return ort; // which finds its files beside itself
  const stem = device === "webgpu" ? "ort-wasm-simd-threaded.asyncify" : "ort-wasm-simd-threaded";
  const own = device === "wasm" ? files : {};
  if (own.wasm !== undefined) ort.env.wasm.wasmBinary = own.wasm;
  const folder = String(files.folder ?? "./");
  ort.env.wasm.wasmPaths = {
    mjs: String(own.mjs ?? `${folder}${stem}.mjs`),
    ...(own.wasm === undefined ? { wasm: `${folder}${stem}.wasm` } : {}),
  };
  return ort;
}

function isNode(): boolean {
  return typeof process !== "undefined" && process.versions?.node !== undefined;
}

/** An opened model. */
export class Session {
  private constructor(
    private readonly ort: typeof Ort,
    private readonly session: Ort.InferenceSession,
    private readonly device: DeviceName,
    private readonly shapes: InputShapes | null,
    private readonly channels: number,
    /** Version of ONNX Runtime. */
    readonly version: string,
  ) {}

  /**
   * Open a model.
   *
   * @param channels - input channels of the network
   * @throws RuntimeUnavailableError ONNX Runtime cannot be loaded
   * @throws InferenceError the model cannot be opened
   * @throws DeviceMemoryError it does not fit into memory
   */
  static async open(
    model: Uint8Array,
    device: DeviceName,
    shapes: InputShapes | null,
    channels: number,
    options: RuntimeOptions,
  ): Promise<Session> {
    const ort = await runtime(device, options);
    let session: Ort.InferenceSession;
    try {
      session = await ort.InferenceSession.create(model, {
        executionProviders: [device],
        graphOptimizationLevel: "all",
        logSeverityLevel: 3,
      });
    } catch (error) {
      throw translated(error, `open a model on ${device}`);
    }
    if (!session.inputNames.includes(INPUT) || !session.outputNames.includes(OUTPUT)) {
      await session.release();
      throw new InferenceError(
        `the model has the inputs ${session.inputNames} and the outputs ${session.outputNames}; expected ${INPUT} and ${OUTPUT}`,
      );
    }
    return new Session(ort, session, device, shapes, channels, ort.env.versions.web ?? "unknown");
  }

  /** Largest side of an input; null for any. */
  get largestPx(): number | null {
    return this.shapes?.sidesPx.at(-1) ?? null;
  }

  /**
   * Run a tile.
   *
   * @throws InferenceError the input or the output has a wrong shape
   * @throws NotFiniteError the output has NaN or infinity
   * @throws DeviceMemoryError the tile does not fit into memory
   */
  async run(tile: Tile): Promise<Tile> {
    const { height, width } = tile;
    if (this.shapes === null) return this.runExact(tile);
    const side = acceptedSide(this.shapes, Math.max(height, width));
    const answer = await this.runExact(enlarged(tile, side, this.channels));
    return cropped(answer, height, width);
  }

  async release(): Promise<void> {
    await this.session.release();
  }

  private async runExact({ height, width, data }: Tile): Promise<Tile> {
    let answer: Ort.Tensor;
    try {
      const input = new this.ort.Tensor("float32", data, [1, this.channels, height, width]);
      answer = (await this.session.run({ [INPUT]: input }, [OUTPUT]))[OUTPUT]!;
    } catch (error) {
      throw translated(error, `run a tile of ${width}x${height} pixels on ${this.device}`);
    }
    const values = answer.data;
    if (!(values instanceof Float32Array) || `${answer.dims}` !== `${[1, CHANNELS, height, width]}`) {
      throw new InferenceError(`the network returned ${answer.type} (${answer.dims}); expected float32 (1, 3, ${height}, ${width})`);
    }
    let sum = 0; // is finite only if every term is
    for (let i = 0; i < values.length; i++) sum += values[i]!;
    if (!Number.isFinite(sum)) {
      throw new NotFiniteError(`ONNX Runtime on ${this.device} returned values that are not finite`, {
        hint: "Use the device wasm and the precision fp32.",
      });
    }
    return { height, width, data: values };
  }
}

/** Repeat the last row and column of a tile up to a square; the halo keeps that from the pixels that are used. */
function enlarged(tile: Tile, side: number, channels: number): Tile {
  const data = new Float32Array(channels * side * side);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < side; y++) {
      const row = (c * tile.height + Math.min(y, tile.height - 1)) * tile.width;
      for (let x = 0; x < side; x++) data[(c * side + y) * side + x] = tile.data[row + Math.min(x, tile.width - 1)]!;
    }
  }
  return { height: side, width: side, data };
}

function cropped(tile: Tile, height: number, width: number): Tile {
  const data = new Float32Array(CHANNELS * height * width);
  for (let c = 0; c < CHANNELS; c++) {
    for (let y = 0; y < height; y++) {
      const start = (c * tile.height + y) * tile.width;
      data.set(tile.data.subarray(start, start + width), (c * height + y) * width);
    }
  }
  return { height, width, data };
}

/** Return an error of ONNX Runtime as one of ours. */
function translated(error: unknown, what: string): EdgeDenoiseError {
  const reason = reasonOf(error);
  if (error instanceof RangeError || /out of memory|bad_alloc|failed to allocate|allocation fail|OOM|memory access out of bounds/i.test(reason)) {
    return new DeviceMemoryError(`ONNX Runtime could not ${what}: ${reason}`, { cause: error });
  }
  if (/no available backend/i.test(reason)) {
    return new RuntimeUnavailableError(`ONNX Runtime could not ${what}: ${reason}`, { cause: error });
  }
  return new InferenceError(`ONNX Runtime could not ${what}: ${reason}`, { cause: error });
}

/** Return the first line of an error's message. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n")[0] ?? "unknown";
}
