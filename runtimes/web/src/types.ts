/** The public types of the library. */

import type { Manifest, Precision } from "./manifest.js";

export type { Manifest, Precision, Variant } from "./manifest.js";

/**
 * Pixels that a canvas cannot hold, such as 16 bits per sample: one plane after the other.
 *
 * Colour values are sRGB or whatever the image's profile says; the library does not convert them.
 */
export interface Planes {
  /** Columns, at least 1. */
  readonly width: number;
  /** Rows, at least 1. */
  readonly height: number;
  /** 3 for red, green and blue; 1 for grayscale. */
  readonly channels: 1 | 3;
  /**
   * `channels * height * width` samples, row by row within each plane: 0 to 255, 0 to 65535, or floats in [0, 1].
   * Floats from -2 to 3 are accepted, because noise reaches beyond [0, 1].
   */
  readonly data: Uint8Array | Uint16Array | Float32Array;
  /**
   * `height * width` values of the same type, or left out for an opaque image. Alpha itself is not changed; colours of
   * pixels that are fully transparent neither influence their neighbours nor change.
   */
  readonly alpha?: Uint8Array | Uint16Array | Float32Array;
}

/** What `denoise` takes: pixels of a canvas, or planes. `ImageData` is 8-bit RGBA; its alpha is kept. */
export type InputImage = ImageData | Planes;

/** `wasm`: WebAssembly on the processor. `webgpu`: the graphics card. */
export type DeviceName = "wasm" | "webgpu";

/** Files of ONNX Runtime, where they are not beside the library. */
export interface RuntimeFiles {
  /**
   * Folder that holds `ort-wasm-simd-threaded.{mjs,wasm}` and, for WebGPU, the `asyncify` ones; ends with `/`. Default:
   * the folder `ort` beside the library's script.
   */
  readonly folder?: string | URL;
  /** Content of `ort-wasm-simd-threaded.wasm`, for a page that carries it in itself. */
  readonly wasm?: ArrayBuffer;
  /** Address of `ort-wasm-simd-threaded.mjs`, for example of a Blob. */
  readonly mjs?: string | URL;
}

/** Options of `load`. */
export interface LoadOptions {
  /** `auto` (default) takes INT8 where it loses little against float and is faster; otherwise as named. */
  readonly precision?: Precision | "auto";
  /** Name of a variant; overrules `precision`. */
  readonly variant?: string;
  /**
   * `auto` (default) takes WebGPU where the browser has it, float is to be run, and the self-test passes on it;
   * otherwise WebAssembly. A named device never falls back.
   */
  readonly device?: DeviceName | "auto";
  /** Threads of WebAssembly, 1 to 64. Default: one for each core, at most 4; 1 where the page is not isolated. */
  readonly threads?: number;
  /** Bytes that a tile may take; default 96 MiB, which fits phones. */
  readonly tileBytes?: number;
  /** Whether to run the self-test before the first image. Default true. */
  readonly selfTest?: boolean;
  /**
   * Where the network runs. Default: a worker where the browser has them, so that the page stays responsive. `false`
   * runs it in the caller's thread (Node). A function returns the worker, for a page that carries its script in itself.
   */
  readonly worker?: boolean | (() => Worker);
  /** Files of ONNX Runtime; default: beside the library. */
  readonly runtime?: RuntimeFiles;
  /** Ends the loading with `Interrupted`. */
  readonly signal?: AbortSignal;
}

/** How far an image is. */
export interface Progress {
  /** Tiles that are finished. */
  readonly done: number;
  /** Tiles of the image. */
  readonly total: number;
  /** Milliseconds since the first tile began. */
  readonly elapsedMs: number;
  /** Estimate of the milliseconds that are left; null before the first tile is finished. */
  readonly remainingMs: number | null;
}

/** Options of `Denoiser.denoise`. */
export interface DenoiseOptions {
  /**
   * How much noise to remove; default 1. 0 returns the input. Networks that take the noise level remove noise of the
   * estimated level times the strength, up to 2; others blend input and output, up to 1.
   */
  readonly strength?: number;
  /** Noise in 8-bit levels, for networks that take the noise level; default: estimated. */
  readonly noise?: number;
  /** Largest side of a tile in pixels; 0 for the whole image; default: one that fits into `tileBytes`. */
  readonly tile?: number;
  /** Called after each tile. */
  readonly onProgress?: (progress: Progress) => void;
  /** Ends the work with `Interrupted` after the tile that is being computed. */
  readonly signal?: AbortSignal;
}

/** An image and how it was made. */
export interface Denoised<T extends InputImage> {
  /** The denoised image, of the kind, size and depth of the input; integers are rounded half up. */
  readonly image: T;
  /** Name of the variant that ran. */
  readonly variant: string;
  /** Why this image ran in float although INT8 was chosen; null otherwise. */
  readonly floatReason: string | null;
  /** Noise in 8-bit levels (RMS), estimated or stated; null for networks that do not take it. */
  readonly noiseLsb: number | null;
  /** Whether the image was returned unchanged: strength 0, or noise below one 8-bit level. */
  readonly unchanged: boolean;
  /** Tile side that was used in pixels; 0 for the whole image. */
  readonly tile: number;
  /** Number of tiles. */
  readonly tiles: number;
  /** Milliseconds of the whole call, without the transfer to the worker. */
  readonly milliseconds: number;
}

/** A variant that was not chosen. */
export interface PassedOver {
  readonly variant: string;
  readonly precision: string;
  readonly reason: string;
}

/** The variant that fits a request best, and why the others were passed over. */
export interface Choice {
  readonly variant: string;
  readonly precision: Precision;
  readonly passedOver: readonly PassedOver[];
}

/** What really runs. */
export interface EffectiveDevice {
  readonly device: DeviceName;
  /** Why this device: for example `WebGPU is not used: this browser has no WebGPU`. */
  readonly reason: string;
  readonly runtime: "onnxruntime-web";
  /** Version of ONNX Runtime, such as `1.30.0`. */
  readonly version: string;
  /** Threads of WebAssembly; 1 for WebGPU. */
  readonly threads: number;
  /** Whether the page is cross-origin isolated, without which WebAssembly has one thread. */
  readonly isolated: boolean;
  /** Graphics adapter as the browser names it; null for WebAssembly. */
  readonly adapter: string | null;
}

/** Self-test of one variant. */
export interface VariantSelfTest {
  readonly variant: string;
  readonly precision: Precision;
  readonly device: DeviceName;
  readonly passed: boolean;
  /** What the variant fails at, or why it could not run; null when it has passed. */
  readonly reason: string | null;
  /** PSNR to the float output that the bundle holds, unit range; null where it could not run. */
  readonly psnrDb: number | null;
  /** Maximum absolute error in 8-bit levels; null where it could not run. */
  readonly maxErrorLsb: number | null;
  /** PSNR that the precision must reach. */
  readonly boundDb: number;
  /** PSNR of the image run in tiles to the image run whole; Infinity where they are equal. */
  readonly tiledPsnrDb: number | null;
  readonly tiledBoundDb: number;
}

/** Result of `Denoiser.selfTest`: every variant of the bundle that this browser can run. */
export interface SelfTestReport {
  readonly bundle: string;
  /** Digest of the bundle's manifest. */
  readonly digest: string;
  readonly device: EffectiveDevice;
  readonly variants: readonly VariantSelfTest[];
  /** Variants that no browser runs, with the reasons. */
  readonly skipped: readonly PassedOver[];
  /** PSNR of the INT8 output to the float output, both computed here; null where one of them did not run. */
  readonly int8ToFloatDb: number | null;
  /** Whether all variants passed. */
  readonly passed: boolean;
}

/** Options of `Denoiser.selfTest`. */
export interface SelfTestOptions {
  /** Names of the variants; default: all that this browser can run. */
  readonly variants?: readonly string[];
  /** Called before each variant. */
  readonly onProgress?: (done: number, total: number, variant: string) => void;
  readonly signal?: AbortSignal;
}

/** Options of `Denoiser.bench`. */
export interface BenchOptions {
  /** Names of the variants; default: all that this browser can run. */
  readonly variants?: readonly string[];
  /** Sides of the image in pixels, the input of one tile, margins included; default 256. */
  readonly size?: number;
  /** Timed runs of each variant, at least 5; default 20. Variants take turns, so that a change of the load hits all. */
  readonly rounds?: number;
  /** Runs before the timed ones; default 3. */
  readonly warmUp?: number;
  /** Seconds for which the fastest variant then runs without a pause, to see throttling; default 0. */
  readonly sustainedSeconds?: number;
  readonly onProgress?: (done: number, total: number, variant: string) => void;
  readonly signal?: AbortSignal;
}

/** Latency of one variant. Times are of a whole inference of one tile, in milliseconds. */
export interface BenchResult {
  readonly variant: string;
  readonly precision: Precision;
  readonly device: DeviceName;
  readonly threads: number;
  /** Milliseconds to open the model. */
  readonly openMs: number;
  /** Milliseconds of the first run. */
  readonly firstMs: number;
  /** Every timed run, in order. */
  readonly timesMs: readonly number[];
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
}

/** What happened while one variant ran without a pause. */
export interface Sustained {
  readonly variant: string;
  readonly seconds: number;
  /** Median of the first tenth of the runs. */
  readonly firstMs: number;
  /** Median of the last tenth of the runs. */
  readonly lastMs: number;
  /** `lastMs / firstMs`: 1 where nothing slowed down. */
  readonly slowdown: number;
  /** Every run, in order. */
  readonly timesMs: readonly number[];
}

/** Result of `Denoiser.bench`. */
export interface BenchReport {
  readonly bundle: string;
  readonly digest: string;
  readonly device: EffectiveDevice;
  /** Sides of the input of one inference in pixels. */
  readonly width: number;
  readonly height: number;
  readonly warmUp: number;
  readonly results: readonly BenchResult[];
  /** Variants that could not be measured, with the reasons. */
  readonly skipped: readonly PassedOver[];
  /** Null unless `sustainedSeconds` was given. */
  readonly sustained: Sustained | null;
}

/** A bundle that is open for denoising. Calls wait for the ones before them. */
export interface Denoiser {
  /** The bundle's manifest. */
  readonly manifest: Manifest;
  /** The variant that was chosen, and those that were passed over. */
  readonly choice: Choice;
  /** What really runs. */
  readonly device: EffectiveDevice;

  /**
   * Denoise one image.
   *
   * An image whose three channels are equal is treated as grayscale. An image with less than one 8-bit level of
   * estimated noise is returned unchanged by networks that take the noise level. The input is not changed.
   *
   * @throws UsageError an option is out of range
   * @throws ImageError the image is of no accepted kind
   * @throws DeviceMemoryError even the smallest tile does not fit
   * @throws Interrupted `signal` was aborted
   */
  denoise<T extends InputImage>(image: T, options?: DenoiseOptions): Promise<Denoised<T>>;

  /**
   * Run the bundle's self-test on every variant: distance to the stored output, and tiles against the whole image.
   *
   * Failures are in the report. The session of the page is closed meanwhile and opened again afterwards.
   *
   * @throws IntegrityError the bundle's self-test is damaged
   */
  selfTest(options?: SelfTestOptions): Promise<SelfTestReport>;

  /**
   * Measure the latency of every variant.
   *
   * @throws MeasurementError no variant could be measured
   */
  bench(options?: BenchOptions): Promise<BenchReport>;

  /** Release the session and the worker; closing twice is allowed. */
  close(): Promise<void>;
}
