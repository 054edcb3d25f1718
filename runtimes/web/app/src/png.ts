/** PNG files: chunks that describe the image as `metadata/png.py`, exact samples of 8 and 16 bits, and a writer. */

import { unzlibSync, zlibSync } from "fflate";
import { ImageError } from "../../src/errors.js";
import { concat, fromLatin1, latin1, startsWith, view } from "./bytes.js";
import { EXIF_PREFIX, exifDpi } from "./exif.js";
import { type Block, type Metadata, statedDpi } from "./metadata.js";

const SIGNATURE = "\x89PNG\r\n\x1a\n";
const XMP_KEYWORD = "XML:com.adobe.xmp";
const IPTC_KEYWORD = "Raw profile type iptc";
const INCH_M = 0.0254;
/** Chunks that are not marked safe-to-copy but describe the colours, which do not change. */
const COLOUR = new Set(["cHRM", "gAMA", "iCCP", "sRGB", "cICP", "mDCV", "cLLI", "tIME"]);
const PIXELS = new Set(["IHDR", "PLTE", "tRNS", "IDAT", "IEND"]);
const HEADER_END = 8 + 12 + 13;
const FILTERS = [0, 1, 2, 3, 4] as const;
const TYPES: Readonly<Record<number, number>> = { 1: 0, 2: 4, 3: 2, 4: 6 };

const CRC = Uint32Array.from({ length: 256 }, (_, number) => {
  let value = number;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** Return whether a file is PNG. */
export function isPng(data: Uint8Array): boolean {
  return startsWith(data, SIGNATURE);
}

/**
 * Split a PNG file into its chunks, up to and including IEND, and check every checksum.
 *
 * @throws ImageError the file is damaged
 */
export function readChunks(data: Uint8Array): Block[] {
  const chunks: Block[] = [];
  const numbers = view(data);
  let at = 8;
  while (chunks.at(-1)?.kind !== "IEND") {
    const length = at + 12 > data.length ? Number.POSITIVE_INFINITY : numbers.getUint32(at);
    if (at + 12 + length > data.length) {
      throw new ImageError(`the PNG file is damaged: it ends after ${data.length} bytes, inside its chunk ${chunks.length + 1}`);
    }
    if (crc(data.subarray(at + 4, at + 8 + length)) !== numbers.getUint32(at + 8 + length)) {
      throw new ImageError(`the PNG file is damaged: the checksum of its chunk ${chunks.length + 1} is wrong`);
    }
    chunks.push({ kind: latin1(data.subarray(at + 4, at + 8)), body: data.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  if (chunks[0]?.kind !== "IHDR" || chunks[0].body.length !== 13) {
    throw new ImageError("the PNG file is damaged: it does not begin with an image header");
  }
  return chunks;
}

/** Return the metadata of a PNG file from its chunks. */
export function readMetadata(chunks: readonly Block[]): Metadata {
  const of = (kind: string): Uint8Array | undefined => chunks.find((chunk) => chunk.kind === kind)?.body;
  const exif = of("eXIf");
  const block = exif === undefined ? null : startsWith(exif, EXIF_PREFIX) ? exif.subarray(EXIF_PREFIX.length) : exif;
  const resolution = of("pHYs");
  const perMetre = resolution?.length === 9 && resolution[8] === 1 ? view(resolution) : null;
  return {
    icc: null,
    exif: block,
    xmp: null,
    dpi: (perMetre && statedDpi(perMetre.getUint32(0) * INCH_M, perMetre.getUint32(4) * INCH_M)) ?? exifDpi(block),
    comments: [],
    iptc: null,
    trailer: null,
    native: chunks.filter(({ kind }) => isLower(kind, 0) && (isLower(kind, 3) || COLOUR.has(kind))),
    nativeFormat: "PNG",
  };
}

/** Return the colour profile of a PNG file; null where it has none. */
export function profileOf(chunks: readonly Block[]): Uint8Array | null {
  const body = chunks.find(({ kind }) => kind === "iCCP")?.body;
  return body === undefined ? null : unzlibSync(body.subarray(body.indexOf(0) + 2));
}

/** Return the file without metadata, which would make a decoder turn its pixels or convert their colours. */
export function withoutMetadata(chunks: readonly Block[]): Uint8Array<ArrayBuffer> {
  return concat(fromLatin1(SIGNATURE), ...chunks.filter(({ kind }) => PIXELS.has(kind)).map(chunkBytes));
}

/** Return a PNG file with metadata placed right after its header. */
export function withMetadata(file: Uint8Array, metadata: Metadata): Uint8Array<ArrayBuffer> {
  return concat(file.subarray(0, HEADER_END), ...blocksOf(metadata).map(chunkBytes), file.subarray(HEADER_END));
}

/** Return the chunks that carry metadata in a PNG file. */
export function blocksOf(metadata: Metadata): Block[] {
  if (metadata.nativeFormat === "PNG") return [...metadata.native];
  const blocks: Block[] = [];
  if (metadata.icc) blocks.push({ kind: "iCCP", body: concat(fromLatin1("ICC Profile\0\0"), zlibSync(metadata.icc)) });
  if (metadata.dpi) {
    const body = new Uint8Array(9);
    metadata.dpi.forEach((dpi, number) => view(body).setUint32(4 * number, Math.round(dpi / INCH_M)));
    body[8] = 1;
    blocks.push({ kind: "pHYs", body });
  }
  if (metadata.exif) blocks.push({ kind: "eXIf", body: metadata.exif });
  // keyword, not compressed, no language, no translated keyword
  if (metadata.xmp) blocks.push({ kind: "iTXt", body: concat(fromLatin1(`${XMP_KEYWORD}\0\0\0\0\0`), metadata.xmp) });
  if (metadata.iptc) blocks.push(iptcBlock(metadata.iptc));
  for (const comment of metadata.comments) {
    blocks.push({ kind: "iTXt", body: concat(fromLatin1("Comment\0\0\0\0\0"), comment) });
  }
  return blocks;
}

/** Return an IPTC record in the chunk that ImageMagick and ExifTool read. */
function iptcBlock(iptc: Uint8Array): Block {
  const digits = [...iptc].map((value) => value.toString(16).padStart(2, "0")).join("");
  const lines = (digits.match(/.{1,72}/g) ?? []).join("\n");
  const text = `\niptc\n${String(iptc.length).padStart(8)}\n${lines}\n`;
  return { kind: "zTXt", body: concat(fromLatin1(`${IPTC_KEYWORD}\0\0`), zlibSync(fromLatin1(text))) };
}

/** Samples as a PNG file stores them. */
export interface Samples {
  readonly width: number;
  readonly height: number;
  /** 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha. */
  readonly channels: 1 | 2 | 3 | 4;
  readonly bits: 8 | 16;
  /** Writes row `y` into `row`, samples in network byte order. */
  readonly row: (y: number, row: Uint8Array) => void;
}

/** Return a PNG file; rows are filtered and compressed one after another, so that memory stays small. */
export async function encodePng(samples: Samples): Promise<Uint8Array<ArrayBuffer>> {
  const header = new Uint8Array(13);
  view(header).setUint32(0, samples.width);
  view(header).setUint32(4, samples.height);
  header.set([samples.bits, TYPES[samples.channels] ?? 0], 8);
  const stream = new CompressionStream("deflate");
  const compressed = new Response(stream.readable).arrayBuffer();
  const writer = stream.writable.getWriter();
  const step = (samples.channels * samples.bits) / 8;
  const stride = samples.width * step;
  const batch = Math.max(1, Math.floor((1 << 18) / (stride + 1)));
  let before: Uint8Array = new Uint8Array(stride);
  let now: Uint8Array = new Uint8Array(stride);
  const tried = FILTERS.map(() => new Uint8Array(stride + 1));
  for (let top = 0; top < samples.height; top += batch) {
    const rows = Math.min(batch, samples.height - top);
    const filtered = new Uint8Array(rows * (stride + 1));
    for (let y = 0; y < rows; y++) {
      samples.row(top + y, now);
      filtered.set(best(tried, now, before, step), y * (stride + 1));
      [before, now] = [now, before];
    }
    await writer.ready;
    void writer.write(filtered);
  }
  await writer.close();
  const blocks = [
    { kind: "IHDR", body: header },
    { kind: "IDAT", body: new Uint8Array(await compressed) },
    { kind: "IEND", body: new Uint8Array() },
  ];
  return concat(fromLatin1(SIGNATURE), ...blocks.map(chunkBytes));
}

/** Return the filtered row with the least sum of distances from 0: PNG specification, 12.8. */
function best(tried: readonly Uint8Array[], now: Uint8Array, before: Uint8Array, step: number): Uint8Array {
  let least = Number.POSITIVE_INFINITY;
  let chosen = 0;
  for (const filter of FILTERS) {
    const out = tried[filter] as Uint8Array;
    out[0] = filter;
    let sum = 0;
    for (let at = 0; at < now.length; at++) {
      const left = at < step ? 0 : (now[at - step] as number);
      const up = before[at] as number;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else if (filter === 4) guess = paeth(left, up, at < step ? 0 : (before[at - step] as number));
      const value = ((now[at] as number) - guess) & 255;
      out[at + 1] = value;
      sum += value < 128 ? value : 256 - value;
    }
    if (sum < least) [least, chosen] = [sum, filter];
  }
  return tried[chosen] as Uint8Array;
}

function paeth(left: number, up: number, corner: number): number {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

function isLower(kind: string, at: number): boolean {
  return (kind.charCodeAt(at) & 32) !== 0;
}

function chunkBytes({ kind, body }: Block): Uint8Array {
  const chunk = concat(new Uint8Array(4), fromLatin1(kind), body, new Uint8Array(4));
  view(chunk).setUint32(0, body.length);
  view(chunk).setUint32(8 + body.length, crc(chunk.subarray(4, 8 + body.length)));
  return chunk;
}

function crc(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = (CRC[(value ^ byte) & 255] as number) ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
