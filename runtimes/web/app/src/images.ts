/** Image files opened for the network and written again: same depth, alpha, orientation and metadata. */

import { decode as decodePng } from "fast-png";
import { ImageError } from "../../src/errors.js";
import type { InputImage, Planes } from "../../src/types.js";
import { latin1, startsWith, view } from "./bytes.js";
import { orientationOf } from "./exif.js";
import * as jpeg from "./jpeg.js";
import { type Metadata, NO_METADATA } from "./metadata.js";
import * as png from "./png.js";
import { withoutClaims } from "./xmp.js";

/** Format of a saved file: like the opened one where that can be written, or PNG. */
export type SaveFormat = "same" | "png";

/** An image file, decoded. */
export interface OpenedImage {
  readonly name: string;
  /** `JPEG`, `PNG`, or what the browser calls it, such as `WEBP`. */
  readonly format: string;
  readonly width: number;
  readonly height: number;
  readonly pixels: InputImage;
  /** Samples per pixel of a saved file: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. */
  readonly channels: 1 | 2 | 3 | 4;
  readonly bits: 8 | 16;
  readonly metadata: Metadata;
  /** Quality of JPEG, 1 to 100. */
  readonly quality: number;
  /** How a viewer turns the image, 1 to 8. */
  readonly orientation: number;
  /** Colours that the values stand for on the screen; files keep their own profile. */
  readonly colorSpace: PredefinedColorSpace;
  /** What a saved file lacks, each as a sentence. */
  readonly notes: readonly string[];
}

/** Rows that are decoded at a time: browsers on phones limit the size of a canvas. */
const STRIP_ROWS = 512;
/** Largest image, which keeps a tab of a phone alive. */
const MAX_PIXELS = 60_000_000;

/**
 * Decode an image file.
 *
 * @throws ImageError it is damaged, too large, or of a kind that this browser does not read
 */
export async function openImage(file: File): Promise<OpenedImage> {
  const data = new Uint8Array(await file.arrayBuffer());
  if (png.isPng(data)) return openPng(file.name, data);
  if (data[0] === 0xff && data[1] === 0xd8) return openJpeg(file.name, data);
  return openOther(file, data);
}

async function openJpeg(name: string, data: Uint8Array): Promise<OpenedImage> {
  const metadata = jpeg.readMetadata(data);
  const bare = new Blob([jpeg.withoutMetadata(data)], { type: "image/jpeg" });
  const pixels = await decodeInBrowser(bare, name);
  return {
    ...described(name, "JPEG", pixels, metadata),
    channels: 3,
    bits: 8,
    quality: jpeg.qualityOf(data),
    orientation: orientationOf(metadata.exif),
    colorSpace: colorSpaceOf(metadata.icc),
    notes: [],
  };
}

async function openPng(name: string, data: Uint8Array): Promise<OpenedImage> {
  const chunks = png.readChunks(data);
  const metadata = png.readMetadata(chunks);
  const header = chunks[0]?.body ?? new Uint8Array(13);
  checkSize(view(header).getUint32(0), view(header).getUint32(4));
  const [bits, type] = [header[8] === 16 ? 16 : 8, header[9] ?? 0] as const;
  const animated = chunks.some(({ kind }) => kind === "acTL");
  const common = {
    bits,
    quality: 95,
    orientation: orientationOf(metadata.exif),
    colorSpace: colorSpaceOf(png.profileOf(chunks)),
    notes: animated ? ["Only the first frame of the animation is kept."] : [],
  } as const;
  const bare = png.withoutMetadata(chunks);
  if ((header[8] ?? 8) < 8 && type === 0 && !chunks.some(({ kind }) => kind === "tRNS")) {
    const pixels = await decodeInBrowser(new Blob([bare], { type: "image/png" }), name);
    return { ...described(name, "PNG", pixels, metadata), ...common, channels: 1 };
  }
  const { pixels, channels } = samplesOf(bare, name);
  return { ...described(name, "PNG", pixels, metadata), ...common, channels };
}

async function openOther(file: File, data: Uint8Array): Promise<OpenedImage> {
  const isWebp = startsWith(data, "RIFF") && latin1(data.subarray(8, 12)) === "WEBP";
  const metadata = isWebp ? webpMetadata(data) : NO_METADATA;
  const format = isWebp ? "WEBP" : (file.type.split("/")[1] ?? "image").toUpperCase();
  const pixels = await decodeInBrowser(file, file.name);
  const opaque = isOpaque(pixels);
  return {
    ...described(file.name, format, pixels, metadata),
    channels: opaque ? 3 : 4,
    bits: 8,
    quality: 95,
    orientation: 1, // the browser has turned it
    colorSpace: "srgb",
    notes: [isWebp ? "Saved as PNG." : "Saved as PNG, without the metadata of the file."],
  };
}

function described(name: string, format: string, pixels: InputImage, metadata: Metadata) {
  return { name, format, width: pixels.width, height: pixels.height, pixels, metadata };
}

/** Decode with the browser, in strips. */
async function decodeInBrowser(blob: Blob, name: string): Promise<ImageData> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch (error) {
    throw new ImageError(`${name} cannot be opened: expected an image that this browser reads, got ${kindOf(blob)}`, {
      hint: "Convert it to JPEG or PNG first.",
      cause: error,
    });
  }
  try {
    const { width, height } = bitmap;
    checkSize(width, height);
    const pixels = new ImageData(width, height);
    const canvas = new OffscreenCanvas(width, Math.min(STRIP_ROWS, height));
    const context = canvas.getContext("2d", { willReadFrequently: true }) as OffscreenCanvasRenderingContext2D;
    for (let top = 0; top < height; top += STRIP_ROWS) {
      const rows = Math.min(STRIP_ROWS, height - top);
      context.clearRect(0, 0, width, canvas.height);
      context.drawImage(bitmap, 0, -top);
      pixels.data.set(context.getImageData(0, 0, width, rows).data, top * width * 4);
    }
    return pixels;
  } finally {
    bitmap.close();
  }
}

function kindOf(blob: Blob): string {
  return blob.type === "" ? "an unknown kind of file" : blob.type;
}

function checkSize(width: number, height: number): void {
  if (width * height > MAX_PIXELS) {
    throw new ImageError(`the image is too large for a browser: expected at most 60 MP, got ${width} x ${height}`, {
      hint: "Denoise it with Python: edgedenoise denoise reads images of any size.",
    });
  }
}

/** Return the exact samples of a PNG file without metadata. */
function samplesOf(bare: Uint8Array, name: string): { pixels: InputImage; channels: 1 | 2 | 3 | 4 } {
  let decoded: ReturnType<typeof decodePng>;
  try {
    decoded = decodePng(bare);
  } catch (error) {
    throw new ImageError(`the PNG file ${name} is damaged: ${error instanceof Error ? error.message : String(error)}`);
  }
  const { width, height, depth, palette, data } = decoded;
  const count = width * height;
  const key = decoded.transparency?.length ? decoded.transparency : null;
  const stored = palette === undefined ? decoded.channels : 1;
  const hasAlpha = palette === undefined ? stored % 2 === 0 || key !== null : palette.some((entry) => (entry[3] ?? 255) < 255);
  const isGray = palette === undefined && stored < 3;
  const channels = ((isGray ? 1 : 3) + (hasAlpha ? 1 : 0)) as 1 | 2 | 3 | 4;
  if (depth === 16) {
    const planes = isGray ? 1 : 3;
    const samples = new Uint16Array(count * planes);
    const alpha = hasAlpha ? new Uint16Array(count).fill(65535) : null;
    for (let at = 0; at < count; at++) {
      for (let plane = 0; plane < planes; plane++) samples[plane * count + at] = data[at * stored + plane] as number;
      if (alpha && key) alpha[at] = isKey(data, at * stored, key) ? 0 : 65535;
      else if (alpha) alpha[at] = data[at * stored + stored - 1] as number;
    }
    const image: Planes = { width, height, channels: planes, data: samples, ...(alpha ? { alpha } : {}) };
    return { pixels: image, channels };
  }
  const image = new ImageData(width, height);
  const index = palette === undefined ? null : paletteIndex(data, depth, width, height);
  for (let at = 0; at < count; at++) {
    const entry = index === null ? null : (palette?.[index[at] as number] ?? [0, 0, 0]);
    for (let plane = 0; plane < 3; plane++) {
      const value = entry === null ? data[at * stored + (isGray ? 0 : plane)] : entry[plane];
      image.data[4 * at + plane] = value as number;
    }
    if (entry !== null) image.data[4 * at + 3] = (entry[3] as number | undefined) ?? 255;
    else if (key !== null) image.data[4 * at + 3] = isKey(data, at * stored, key) ? 0 : 255;
    else image.data[4 * at + 3] = hasAlpha ? (data[at * stored + stored - 1] as number) : 255;
  }
  return { pixels: image, channels };
}

/** Return whether the samples at an offset are the transparent colour. */
function isKey(data: ArrayLike<number>, at: number, key: Uint16Array): boolean {
  return key.every((value, plane) => data[at + plane] === value);
}

/** Return one palette index per pixel; rows of fewer than 8 bits per sample begin at a byte. */
function paletteIndex(data: ArrayLike<number>, depth: number, width: number, height: number): Uint8Array {
  const index = new Uint8Array(width * height);
  const stride = Math.ceil((width * depth) / 8);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const bit = x * depth;
      const byte = data[y * stride + (bit >> 3)] as number;
      index[y * width + x] = (byte >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
    }
  }
  return index;
}

/** Return ICC profile, EXIF and XMP of a WebP file. */
function webpMetadata(data: Uint8Array): Metadata {
  const found = new Map<string, Uint8Array>();
  for (let at = 12; at + 8 <= data.length; ) {
    const length = view(data).getUint32(at + 4, true);
    found.set(latin1(data.subarray(at, at + 4)), data.subarray(at + 8, at + 8 + length));
    at += 8 + length + (length % 2);
  }
  // The browser has turned the pixels and converted nothing, so EXIF with an orientation would turn them twice.
  const exif = found.get("EXIF") ?? null;
  return { ...NO_METADATA, icc: found.get("ICCP") ?? null, exif: orientationOf(exif) === 1 ? exif : null, xmp: found.get("XMP ") ?? null };
}

function isOpaque(image: ImageData): boolean {
  for (let at = 3; at < image.data.length; at += 4) if (image.data[at] !== 255) return false;
  return true;
}

/** Return the colour space whose values a profile describes, as far as a canvas knows it. */
function colorSpaceOf(icc: Uint8Array | null): PredefinedColorSpace {
  if (icc === null) return "srgb";
  const text = latin1(icc).replaceAll("\0", "");
  return text.includes("Display P3") ? "display-p3" : "srgb";
}

/** A file to save. */
export interface SavedImage {
  readonly blob: Blob;
  readonly name: string;
}

/** Encode denoised pixels as a file with the metadata of the opened one. */
export async function saveImage(opened: OpenedImage, pixels: InputImage, format: SaveFormat): Promise<SavedImage> {
  const stem = opened.name.replace(/\.[^.]*$/, "");
  if (format === "same" && opened.format === "JPEG" && pixels instanceof ImageData) {
    const encoded = await encodeJpeg(pixels, opened.quality);
    const file = jpeg.withMetadata(new Uint8Array(await encoded.arrayBuffer()), opened.metadata);
    return { blob: new Blob([file], { type: "image/jpeg" }), name: `${stem}-denoised.jpg` };
  }
  const metadata = opened.metadata;
  const isClaiming = metadata.nativeFormat === "JPEG" && metadata.xmp !== null;
  const carried = isClaiming ? { ...metadata, xmp: withoutClaims(metadata.xmp) } : metadata;
  const file = png.withMetadata(await png.encodePng(samplesToWrite(opened, pixels)), carried);
  return { blob: new Blob([file], { type: "image/png" }), name: `${stem}-denoised.png` };
}

async function encodeJpeg(pixels: ImageData, quality: number): Promise<Blob> {
  const canvas = new OffscreenCanvas(pixels.width, pixels.height);
  const context = canvas.getContext("2d");
  if (context === null) {
    throw new ImageError(`this browser cannot write a JPEG of ${pixels.width} x ${pixels.height} pixels`, {
      hint: "Choose PNG under Options.",
    });
  }
  context.putImageData(pixels, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: quality / 100 });
}

function samplesToWrite(opened: OpenedImage, pixels: InputImage): png.Samples {
  const { width, height } = pixels;
  const { channels, bits } = opened;
  const colours = channels < 3 ? 1 : 3;
  const count = width * height;
  if (pixels instanceof ImageData) {
    const row = (y: number, out: Uint8Array): void => {
      for (let x = 0; x < width; x++) {
        const at = 4 * (y * width + x);
        for (let plane = 0; plane < colours; plane++) out[x * channels + plane] = pixels.data[at + plane] as number;
        if (channels > colours) out[x * channels + colours] = pixels.data[at + 3] as number;
      }
    };
    return { width, height, channels, bits: 8, row };
  }
  const row = (y: number, out: Uint8Array): void => {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      for (let plane = 0; plane < channels; plane++) {
        const value = plane < colours ? pixels.data[plane * count + at] : pixels.alpha?.[at];
        const to = 2 * (x * channels + plane);
        out[to] = (value as number) >> 8;
        out[to + 1] = (value as number) & 255;
      }
    }
  };
  return { width, height, channels, bits, row };
}

/** Return pixels for the screen, 8 bits per sample. */
export function forScreen(pixels: InputImage): ImageData {
  if (pixels instanceof ImageData) return pixels;
  const { width, height, channels, data, alpha } = pixels;
  const count = width * height;
  const image = new ImageData(width, height);
  const shown = (value: number): number => (data instanceof Uint16Array ? value >> 8 : data instanceof Uint8Array ? value : value * 255);
  for (let at = 0; at < count; at++) {
    for (let plane = 0; plane < 3; plane++) {
      image.data[4 * at + plane] = shown(data[(channels === 1 ? 0 : plane * count) + at] as number);
    }
    image.data[4 * at + 3] = alpha === undefined ? 255 : shown(alpha[at] as number);
  }
  return image;
}
