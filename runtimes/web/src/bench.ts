/** Measure latency: variants take turns in blocks, one session at a time. */

import type { Bundle } from "./bundle.js";
import { Interrupted, MeasurementError, UsageError } from "./errors.js";
import type { Variant } from "./manifest.js";
import { turn } from "./pipeline.js";
import type { Session, Tile } from "./session.js";
import { reasonOf } from "./session.js";
import { acceptedSide } from "./tiling.js";
import type { BenchOptions, BenchReport, BenchResult, EffectiveDevice, PassedOver, Sustained } from "./types.js";

const BLOCKS = 4;
const DEFAULT_SIZE = 256;
const DEFAULT_ROUNDS = 20;
const DEFAULT_WARM_UP = 3;
const LEAST_ROUNDS = 5;

interface Timed {
  readonly variant: Variant;
  readonly openMs: number[];
  readonly firstMs: number[];
  readonly times: number[];
}

/**
 * Measure variants.
 *
 * @param open - opens a variant
 * @throws MeasurementError none could be measured
 */
export async function runBench(
  bundle: Bundle,
  variants: readonly Variant[],
  skippedBefore: readonly PassedOver[],
  device: EffectiveDevice,
  open: (variant: Variant) => Promise<Session>,
  options: BenchOptions,
): Promise<BenchReport> {
  const { multipleOf } = bundle.manifest.tiling;
  const rounds = checked("rounds", options.rounds ?? DEFAULT_ROUNDS, LEAST_ROUNDS, 100_000);
  const warmUp = checked("warmUp", options.warmUp ?? DEFAULT_WARM_UP, 0, 1000);
  const seconds = options.sustainedSeconds ?? 0;
  const asked = checked("size", options.size ?? DEFAULT_SIZE, multipleOf, 4096);
  const side = Math.ceil(asked / multipleOf) * multipleOf;
  const timed = variants.map((variant): Timed => ({ variant, openMs: [], firstMs: [], times: [] }));
  const skipped = new Map<string, PassedOver>();
  let done = 0;
  for (let block = 0; block < BLOCKS; block++) {
    const count = Math.ceil((rounds - block) / BLOCKS);
    for (const one of timed) {
      const { variant } = one;
      if (skipped.has(variant.name)) continue;
      options.onProgress?.(done++, BLOCKS * timed.length, variant.name);
      try {
        await withSession(open, variant, one.openMs, async (session) => {
          const tile = noiseTile(variant, side, bundle.inputChannels);
          one.firstMs.push(await timeRun(session, tile));
          for (let i = 0; i < warmUp; i++) await session.run(tile);
          for (let i = 0; i < count; i++) {
            await pause(options.signal);
            one.times.push(await timeRun(session, tile));
          }
        });
      } catch (error) {
        if (error instanceof Interrupted) throw error;
        skipped.set(variant.name, { variant: variant.name, precision: variant.precision, reason: reasonOf(error) });
      }
    }
  }
  const measured = timed.filter(({ variant }) => !skipped.has(variant.name));
  if (measured.length === 0) {
    const why = [...skipped.values()].map((one) => `${one.variant}: ${one.reason}`).join("; ");
    throw new MeasurementError(`no variant of ${bundle.source} could be measured: ${why || "it has none for browsers"}`);
  }
  const results = measured.map((one) => resultOf(one, device));
  const fastest = results.reduce((best, one) => (one.p50Ms < best.p50Ms ? one : best));
  const fastestVariant = variants.find((variant) => variant.name === fastest.variant)!;
  return {
    bundle: bundle.manifest.name,
    digest: bundle.manifest.digest,
    device,
    width: side,
    height: side,
    warmUp,
    results,
    skipped: [...skippedBefore, ...skipped.values()],
    sustained: seconds > 0 ? await sustain(open, fastestVariant, noiseTile(fastestVariant, side, bundle.inputChannels), seconds, options) : null,
  };
}

async function sustain(
  open: (variant: Variant) => Promise<Session>,
  variant: Variant,
  tile: Tile,
  seconds: number,
  options: BenchOptions,
): Promise<Sustained> {
  const times: number[] = [];
  await withSession(open, variant, [], async (session) => {
    await session.run(tile);
    const end = performance.now() + 1000 * seconds;
    while (performance.now() < end) {
      await pause(options.signal);
      options.onProgress?.(Math.round(seconds - (end - performance.now()) / 1000), Math.round(seconds), variant.name);
      times.push(await timeRun(session, tile));
    }
  });
  const part = Math.max(1, Math.floor(times.length / 10));
  const firstMs = percentile(times.slice(0, part), 50);
  const lastMs = percentile(times.slice(-part), 50);
  return { variant: variant.name, seconds, firstMs, lastMs, slowdown: lastMs / firstMs, timesMs: times };
}

async function withSession(
  open: (variant: Variant) => Promise<Session>,
  variant: Variant,
  openMs: number[],
  use: (session: Session) => Promise<void>,
): Promise<void> {
  const start = performance.now();
  const session = await open(variant);
  openMs.push(performance.now() - start);
  try {
    await use(session);
  } finally {
    await session.release();
  }
}

async function timeRun(session: Session, tile: Tile): Promise<number> {
  const start = performance.now();
  await session.run(tile);
  return performance.now() - start;
}

async function pause(signal: AbortSignal | undefined): Promise<void> {
  await turn();
  if (signal?.aborted) throw new Interrupted("the measurement was not finished, because the caller ended it");
}

function resultOf({ variant, openMs, firstMs, times }: Timed, device: EffectiveDevice): BenchResult {
  return {
    variant: variant.name,
    precision: variant.precision,
    device: device.device,
    threads: device.threads,
    openMs: openMs[0] ?? NaN,
    firstMs: firstMs[0] ?? NaN,
    timesMs: times,
    p50Ms: percentile(times, 50),
    p90Ms: percentile(times, 90),
    p95Ms: percentile(times, 95),
    p99Ms: percentile(times, 99),
  };
}

/** Return a tile of noise around mid-gray, the same on every device. */
function noiseTile(variant: Variant, asked: number, channels: number): Tile {
  const side = variant.shapes === null ? asked : acceptedSide(variant.shapes, Math.min(asked, variant.shapes.sidesPx.at(-1)!));
  let state = 1;
  const data = Float32Array.from({ length: channels * side * side }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 0.25 + state / 2 ** 33;
  });
  return { height: side, width: side, data };
}

/** Return a percentile, linear between the samples around it, as NumPy computes it. */
export function percentile(samples: readonly number[], percent: number): number {
  const sorted = Float64Array.from(samples).sort();
  const place = ((sorted.length - 1) * percent) / 100;
  const low = Math.floor(place);
  const first = sorted[low]!;
  return first + ((sorted[low + 1] ?? first) - first) * (place - low);
}

function checked(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${name} is ${String(value)}; expected ${least} to ${most}`);
}
