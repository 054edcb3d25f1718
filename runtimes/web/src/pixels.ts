/** An image as it is stored, and the conversion between its samples and floats in [0, 1]; as in Python. */

import { ImageError } from "./errors.js";
import { HiddenColours } from "./hidden.js";
import type { NormalizationKind } from "./manifest.js";
import { type Channel, type Statistics, statistics } from "./normalize.js";
import type { InputImage, Planes } from "./types.js";

type Samples = Uint8Array | Uint8ClampedArray | Uint16Array | Float32Array;

const MAX_PIXELS = 1 << 28;

/** The colours of an image in memory: planes, or pixels of a canvas. */
export class StoredImage {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  /** Bits per sample: 8, 16, or 32 for floats. */
  readonly bits: number;
  /** Colours of hidden pixels; null where there are none. */
  readonly hidden: HiddenColours | null;
  /** Whether the visible pixels have one channel, or three equal ones. */
  readonly isGray: boolean;
  private readonly data: Samples;
  private readonly white: number;
  /** Place of a sample: `offset[channel] + index * step`. */
  private readonly offset: readonly number[];
  private readonly step: number;
  private readonly visible: Uint8Array | null;

  /**
   * Take an image; it is not copied.
   *
   * @throws ImageError it is of no accepted kind
   */
  constructor(private readonly image: InputImage) {
    const { width, height, data } = image;
    const pixels = width * height;
    if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1 || pixels > MAX_PIXELS) {
      throw new ImageError(`the image has ${width}x${height} pixels; expected 1x1 to ${MAX_PIXELS} in all`);
    }
    const isCanvas = !("channels" in image);
    if (!isCanvas && image.channels !== 1 && image.channels !== 3) {
      throw new ImageError(`the image has ${String(image.channels)} channels; expected 1 or 3`, {
        hint: "Pass alpha apart from the colours: { channels: 3, data, alpha }.",
      });
    }
    this.width = width;
    this.height = height;
    this.channels = isCanvas ? 3 : image.channels;
    this.data = samples(data);
    this.bits = 8 * this.data.BYTES_PER_ELEMENT;
    this.white = this.bits === 8 ? 255 : this.bits === 16 ? 65535 : 1;
    this.step = isCanvas ? 4 : 1;
    this.offset = isCanvas ? [0, 1, 2] : this.channels === 1 ? [0, 0, 0] : [0, pixels, 2 * pixels];
    const wanted = pixels * (isCanvas ? 4 : this.channels);
    if (this.data.length !== wanted) {
      throw new ImageError(`the image of ${width}x${height} pixels has ${this.data.length} samples; expected ${wanted}`);
    }
    if (this.bits === 32) checkFloats(this.data);
    this.visible = visiblePixels(image, this.data);
    this.hidden = this.visible && HiddenColours.of(this.visible, height, width, (c, index) => this.plain(c, index));
    this.isGray = this.channels === 1 || this.hasEqualChannels();
  }

  /** Return the pixel at a row and column in [0, 1]; floats may be beyond. */
  unit(channel: number, y: number, x: number): number {
    const pixel = this.plain(channel, y * this.width + x);
    return this.hidden === null ? pixel : this.hidden.fill(channel, y, x, pixel);
  }

  /** Return the statistics that a normalization needs. */
  statistics(kind: NormalizationKind, limit: number | null): Statistics {
    const count = this.width * this.height;
    const exact = this.bits < 32 && this.hidden === null;
    const channels = [0, 1, 2].map((c): Channel => {
      const offset = this.offset[c]!;
      const at = exact
        ? (index: number) => this.data[offset + index * this.step]!
        : (index: number) => this.unit(c, Math.floor(index / this.width), index % this.width);
      return { count, white: exact ? this.white : 1, isInteger: exact, at };
    });
    return statistics(this.channels === 1 ? [channels[0]!, channels[0]!, channels[0]!] : channels, kind, limit);
  }

  /** Return a copy to be filled by `store`; alpha, and what is not stored, are those of this image. */
  copy(): StoredCopy {
    const data = this.data.slice();
    return {
      store: (y, x, unit) => this.store(data, y * this.width + x, unit),
      image: () => this.imageOf(data),
    };
  }

  private plain(channel: number, index: number): number {
    const value = this.data[this.offset[channel]! + index * this.step]!;
    return this.bits === 32 ? value : Math.min(Math.fround(value * Math.fround(1 / this.white)), 1);
  }

  private hasEqualChannels(): boolean {
    const [red, green, blue] = this.offset as [number, number, number];
    for (let index = 0; index < this.width * this.height; index++) {
      if (this.visible !== null && this.visible[index] === 0) continue;
      const at = index * this.step;
      const value = this.data[red + at];
      if (this.data[green + at] !== value || this.data[blue + at] !== value) return false;
    }
    return true;
  }

  /** Write three floats as a stored pixel: clipped, of a gray image their mean, integers rounded half up. */
  private store(data: Samples, index: number, unit: readonly [number, number, number]): void {
    if (this.visible !== null && this.visible[index] === 0) return;
    const at = index * this.step;
    if (this.isGray) {
      const sum = Math.fround(Math.fround(clip(unit[0]) + clip(unit[1])) + clip(unit[2]));
      const gray = this.stored(Math.fround(sum / 3));
      for (const offset of this.offset) data[offset + at] = gray;
      return;
    }
    for (let c = 0; c < 3; c++) data[this.offset[c]! + at] = this.stored(clip(unit[c]!));
  }

  private stored(value: number): number {
    return this.bits === 32 ? value : Math.trunc(Math.fround(Math.fround(value * this.white) + 0.5));
  }

  private imageOf(data: Samples): InputImage {
    if ("channels" in this.image) return { ...this.image, data: data as Planes["data"] };
    const { width, height } = this;
    const pixels = data as Uint8ClampedArray<ArrayBuffer>;
    if (typeof ImageData === "undefined") return { width, height, data: pixels } as unknown as ImageData;
    return new ImageData(pixels, width, height, { colorSpace: this.image.colorSpace });
  }
}

/** The output of an image while it is made. */
export interface StoredCopy {
  /** Write the pixel at a row and column from floats in [0, 1]; hidden pixels stay as they were. */
  store(y: number, x: number, unit: readonly [number, number, number]): void;
  /** Return the image of the kind of the input. */
  image(): InputImage;
}

function clip(value: number): number {
  return value < 0 ? 0 : value > 1 ? 1 : value;
}

function samples(data: unknown): Samples {
  const kinds = [Uint8Array, Uint8ClampedArray, Uint16Array, Float32Array];
  if (kinds.some((kind) => data instanceof kind)) return data as Samples;
  throw new ImageError("the image has the wrong type of pixels: expected Uint8Array, Uint16Array or Float32Array");
}

function checkFloats(data: Samples): void {
  let low = Infinity;
  let high = -Infinity;
  for (const value of data) {
    if (!Number.isFinite(value)) throw new ImageError("the image has invalid values: expected finite numbers");
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low < -2 || high > 3) {
    throw new ImageError(`the values of the float image are out of range: expected [0, 1], got ${low} to ${high}`, {
      hint: "Divide the image by the largest value that it can hold first (255 or 65535).",
    });
  }
}

/** Return which pixels are not fully transparent; null where all are. */
function visiblePixels(image: InputImage, data: Samples): Uint8Array | null {
  const count = image.width * image.height;
  let alpha: (index: number) => number;
  if ("channels" in image) {
    const plane = image.alpha;
    if (plane === undefined) return null;
    if (plane.length !== count || plane.BYTES_PER_ELEMENT !== data.BYTES_PER_ELEMENT) {
      throw new ImageError(`alpha does not match the pixels: expected ${count} samples of their type, got ${plane.length}`);
    }
    alpha = (index) => plane[index]!;
  } else {
    alpha = (index) => data[4 * index + 3]!;
  }
  const visible = new Uint8Array(count);
  for (let index = 0; index < count; index++) visible[index] = alpha(index) > 0 ? 1 : 0;
  return visible.includes(0) ? visible : null;
}
