/** The self-test that every bundle contains; bounds are those of Python's `runtimes/selftest.py`. */

import type { Bundle } from "./bundle.js";
import type { Variant } from "./manifest.js";
import { apply, type Channel, statistics, undo } from "./normalize.js";
import type { FloatArray } from "./npy.js";
import { type NetworkInput, runPlan, sessionPlan } from "./pipeline.js";
import type { Session } from "./session.js";
import { WHOLE } from "./tiling.js";
import type { DeviceName, VariantSelfTest } from "./types.js";

const FLOAT_BOUND_DB = 80;
const FP16_BOUND_DB = 50;
const W8A16_BOUND_DB = 30;
const TILED_BOUND_DB = 90;
const TILED_ROUNDED_BOUND_DB = 60;
const MIN_INT8_BOUND_DB = 15;
const INT8_SLACK_DB = 1;

/** Result of one variant, and its output (3, H, W). */
export interface TestedVariant {
  readonly result: VariantSelfTest;
  readonly output: Float32Array | null;
}

/** Run the self-test of a variant on an opened session. */
export async function runSelfTest(bundle: Bundle, variant: Variant, device: DeviceName, session: Session): Promise<TestedVariant> {
  const { image, answer } = await bundle.selfTestPair();
  const { tiling } = bundle.manifest;
  const [, height, width] = image.shape as [number, number, number];
  const whole = await runFloats(bundle, session, image, WHOLE);
  const half = Math.max(tiling.multipleOf, Math.floor(Math.max(height, width) / 2));
  const tiled = await runFloats(bundle, session, image, half);
  const psnrDb = psnrUnit(whole, answer.data);
  const tiledPsnrDb = psnrUnit(tiled, whole);
  const maxErrorLsb = 255 * whole.reduce((most, value, i) => Math.max(most, Math.abs(value - answer.data[i]!)), 0);
  const bounds = boundsOf(variant);
  let reason: string | null = null;
  if (!(psnrDb >= bounds.boundDb)) {
    reason =
      `expected at least ${bounds.boundDb.toFixed(1)} dB to the float output, got ${psnrDb.toFixed(1)} dB; maximum` +
      ` absolute error ${maxErrorLsb.toFixed(1)} 8-bit levels`;
  } else if (!(tiledPsnrDb >= bounds.tiledBoundDb)) {
    reason =
      `tiles change the output: expected at least ${bounds.tiledBoundDb.toFixed(1)} dB to the whole image, got` +
      ` ${tiledPsnrDb.toFixed(1)} dB`;
  }
  const { name, precision } = variant;
  return {
    result: { variant: name, precision, device, passed: reason === null, reason, psnrDb, maxErrorLsb, tiledPsnrDb, ...bounds },
    output: whole,
  };
}

/** Return the result of a variant that could not run. */
export function failedSelfTest(variant: Variant, device: DeviceName, reason: string): TestedVariant {
  const { name, precision } = variant;
  const missing = { psnrDb: null, maxErrorLsb: null, tiledPsnrDb: null };
  return { result: { variant: name, precision, device, passed: false, reason, ...missing, ...boundsOf(variant) }, output: null };
}

function boundsOf(variant: Variant): { boundDb: number; tiledBoundDb: number } {
  const tiledBoundDb = variant.precision === "fp32" ? TILED_BOUND_DB : TILED_ROUNDED_BOUND_DB;
  if (variant.precision === "int8" && variant.fidelityDb !== null) {
    return { boundDb: Math.max(variant.fidelityDb - INT8_SLACK_DB, MIN_INT8_BOUND_DB), tiledBoundDb };
  }
  const boundDb = { fp16: FP16_BOUND_DB, w8a16: W8A16_BOUND_DB, fp32: FLOAT_BOUND_DB, int8: FLOAT_BOUND_DB }[variant.precision];
  return { boundDb, tiledBoundDb };
}

/** Denoise floats (C, H, W) in [0, 1], the fourth plane being the noise level, and return (3, H, W), not clipped. */
export async function runFloats(bundle: Bundle, session: Session, image: FloatArray, tile: number): Promise<Float32Array> {
  const { normalization, normalizationLimit, tiling } = bundle.manifest;
  const [channels, height, width] = image.shape as [number, number, number];
  const size = height * width;
  const planes = [0, 1, 2].map((c): Channel => ({ count: size, white: 1, isInteger: false, at: (i) => image.data[c * size + i]! }));
  const stats = statistics(planes, normalization, normalizationLimit);
  const input: NetworkInput = {
    height,
    width,
    channels,
    at: (c, y, x) => {
      const value = image.data[c * size + y * width + x]!;
      return c < 3 ? apply(stats, c, value) : value;
    },
  };
  const result = new Float32Array(3 * size);
  await runPlan(session, sessionPlan(session, height, width, tiling, tile), input, (y, x, values) => {
    for (let c = 0; c < 3; c++) result[c * size + y * width + x] = undo(stats, c, values[c]!);
  });
  return result;
}

/** Return the PSNR in dB of two float arrays, peak 1, neither rounded nor clipped; equal arrays give infinity. */
export function psnrUnit(a: Float32Array, b: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < a.length; i++) squares += (a[i]! - b[i]!) ** 2;
  return -10 * Math.log10(squares / a.length);
}
