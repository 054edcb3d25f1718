/** The noise level that some networks take as a fourth input channel; as Python's `runtimes/noise_plane.py`. */

import { IncompatibleError, UsageError } from "./errors.js";
import { estimatedCurve } from "./level_estimator.js";
import type { Manifest } from "./manifest.js";
import { Brightness, levelOf, NoiseCurve } from "./noise_level.js";
import type { StoredImage } from "./pixels.js";

/** Largest strength of networks that take the noise level. */
export const MAX_STRENGTH = 2;
/** Images with less estimated noise than this (RMS, in 8-bit levels) are returned unchanged. */
export const LEAST_LSB = 1;
const LSB = 255;
const ESTIMATOR = "edgedenoise-level";
const VERSION = 1;
const GAIN = 10;

/** The noise of one image. */
export class ImageNoise {
  /** Root mean square over the image, in 8-bit levels. */
  readonly rmsLsb: number;

  private constructor(
    height: number,
    width: number,
    private readonly curve: NoiseCurve,
    /** Null where the user stated the noise, which then is the same everywhere. */
    private readonly brightness: Brightness | null,
  ) {
    let squares = 0;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) squares += this.sigma(y, x) ** 2;
    this.rmsLsb = Math.sqrt(squares / (height * width)) * LSB;
  }

  static estimated(image: StoredImage): ImageNoise {
    const unit = (c: number, y: number, x: number): number => image.unit(c, y, x);
    const { height, width } = image;
    return new ImageNoise(height, width, estimatedCurve(height, width, unit), new Brightness(height, width, unit));
  }

  static stated(lsb: number, height: number, width: number): ImageNoise {
    return new ImageNoise(height, width, NoiseCurve.constant(lsb / LSB), null);
  }

  /** Whether the image is to be returned unchanged. */
  get isNegligible(): boolean {
    return this.brightness === null ? this.rmsLsb === 0 : this.rmsLsb < LEAST_LSB;
  }

  /** Return the value of the fourth input channel at a pixel. */
  level(y: number, x: number, strength: number): number {
    return levelOf(this.sigma(y, x), strength);
  }

  private sigma(y: number, x: number): number {
    return this.curve.at(this.brightness === null ? 0 : this.brightness.at(y, x));
  }
}

/**
 * Check that this version computes the noise level that a bundle asks for.
 *
 * @throws IncompatibleError it does not
 */
export function checkNoiseLevel(manifest: Manifest, source: string): void {
  const level = manifest.noiseLevel;
  if (level === null || (level.estimator === ESTIMATOR && level.version <= VERSION && level.gain === GAIN)) return;
  throw new IncompatibleError(
    `${source} needs a noise level that this version does not compute: expected ${ESTIMATOR} up to version ${VERSION}` +
      ` with gain ${GAIN}, got ${level.estimator} ${level.version} with gain ${level.gain}`,
    { hint: "Reload the page to get a newer version of the library." },
  );
}

/**
 * Check the options that depend on whether a network takes the noise level.
 *
 * @throws UsageError one of them is not accepted
 */
export function checkSettings(manifest: Manifest, strength: number, noise: number | undefined): void {
  const takesLevel = manifest.noiseLevel !== null;
  const most = takesLevel ? MAX_STRENGTH : 1;
  if (!(strength >= 0 && strength <= most)) {
    const meaning = takesLevel ? "twice the estimated noise" : "the network's output";
    throw new UsageError(`strength is ${String(strength)}; expected 0 (the input) to ${most} (${meaning})`, {
      hint: "Take 1, the default, to remove all noise, or 0.7 to keep some of it.",
    });
  }
  if (noise === undefined) return;
  if (!takesLevel) {
    throw new UsageError(`${manifest.name} has a network that does not take the noise level; expected no noise, got ${noise}`, {
      hint: "Leave it out; the strength (0 to 1) blends the input and the output.",
    });
  }
  if (!(noise >= 0 && noise <= 255)) throw new UsageError(`noise is ${noise}; expected 0 to 255, in 8-bit levels`);
}
