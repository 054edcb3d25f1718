/** Normalization by the statistics of the whole image, or none; as Python's `edgedenoise/imaging/normalize.py`. */

import type { NormalizationKind } from "./manifest.js";

/** Offset and scale per channel between pixels in [0, 1] and the values that the graph takes. */
export interface Statistics {
  /** Three float32, in units of the [0, 1] range. */
  readonly mean: Float32Array;
  /** Three float32, at least 1 / sqrt(H W). */
  readonly std: Float32Array;
  /** Whether normalized values are the pixels themselves. */
  readonly isIdentity: boolean;
}

export const IDENTITY: Statistics = { mean: new Float32Array(3), std: new Float32Array(3).fill(1), isIdentity: true };

/** Samples of one channel: stored integers, of which `white` stands for 1, or floats. */
export interface Channel {
  readonly count: number;
  readonly white: number;
  /** Whether samples are integers, whose moments are computed without rounding. */
  readonly isInteger: boolean;
  at(index: number): number;
}

/**
 * Return the statistics of an image.
 *
 * @param channels - three channels; the same one three times for grayscale
 * @param limit - largest absolute value that `whole-image-bounded` gives
 */
export function statistics(channels: readonly Channel[], kind: NormalizationKind, limit: number | null): Statistics {
  if (kind === "unit") return IDENTITY;
  const known = new Map<Channel, [number, number]>();
  const found = channels.map((channel) => {
    const values = known.get(channel) ?? momentsOf(channel, limit);
    known.set(channel, values);
    return values;
  });
  const mean = Float32Array.from(found, ([value]) => value);
  const std = Float32Array.from(found, ([, value]) => value);
  return { mean, std, isIdentity: mean.every((one) => one === 0) && std.every((one) => one === 1) };
}

function momentsOf(channel: Channel, limit: number | null): [number, number] {
  const { count, white } = channel;
  let low = Infinity;
  let high = -Infinity;
  let sum = 0;
  let squares = 0n;
  let part = 0; // exact below 2 ** 53
  for (let i = 0; i < count; i++) {
    const value = channel.at(i);
    if (value < low) low = value;
    if (value > high) high = value;
    sum += value;
    if (!channel.isInteger) continue;
    part += value * value;
    if (part > 2 ** 52) {
      squares += BigInt(part);
      part = 0;
    }
  }
  const mean = sum / count;
  let variance: number;
  if (channel.isInteger) {
    const many = BigInt(count);
    variance = Number(many * (squares + BigInt(part)) - BigInt(sum) ** 2n) / Number(many * many);
  } else {
    let centred = 0;
    for (let i = 0; i < count; i++) centred += (channel.at(i) - mean) ** 2;
    variance = centred / count;
  }
  let std = Math.max(Math.sqrt(variance) / white, 1 / Math.sqrt(count));
  if (limit !== null) std = Math.max(std, Math.max(high - mean, mean - low) / white / limit);
  return [mean / white, std];
}

/** Return a pixel in [0, 1] as the value that the graph takes. */
export function apply(stats: Statistics, channel: number, pixel: number): number {
  return stats.isIdentity ? pixel : Math.fround(Math.fround(pixel - stats.mean[channel]!) / stats.std[channel]!);
}

/** Return a value of the graph as a pixel, not clipped. */
export function undo(stats: Statistics, channel: number, value: number): number {
  return stats.isIdentity ? value : Math.fround(Math.fround(value * stats.std[channel]!) + stats.mean[channel]!);
}
