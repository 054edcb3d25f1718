/** JPEG files as segments of bytes: which ones describe the image, and how they are written; as `metadata/jpeg.py`. */

import { ImageError } from "../../src/errors.js";
import { concat, latin1, startsWith, view } from "./bytes.js";
import { EXIF_PREFIX, exifDpi, firstDirectory } from "./exif.js";
import { type Block, type Metadata, type Trailer, statedDpi } from "./metadata.js";
import { joined } from "./xmp.js";

const [APP0, APP1, APP2, APP13, COM] = ["\xff\xe0", "\xff\xe1", "\xff\xe2", "\xff\xed", "\xff\xfe"] as const;
const APP14 = "\xff\xee";
const [TABLES, SCAN, END] = ["\xff\xdb", "\xff\xda", "\xff\xd9"] as const;
const XMP_PREFIX = "http://ns.adobe.com/xap/1.0/\0";
const EXTENSION_PREFIX = "http://ns.adobe.com/xmp/extension/\0";
const ICC_PREFIX = "ICC_PROFILE\0";
const INDEX_PREFIX = "MPF\0";
const GAIN_MAP_PREFIX = "urn:iso:std:iso:ts:21496:-1\0";
const PHOTOSHOP_PREFIX = "Photoshop 3.0\0";
const IPTC = 0x0404;
const [INDEX_ENTRIES, INDEX_ENTRY_BYTES] = [0xb002, 16] as const;
const INCHES_PER_UNIT: Readonly<Record<number, number>> = { 1: 1, 2: 2.54 };
/** Sum of the brightness table that the standard recommends, which libjpeg scales by its quality. */
const STANDARD_SUM = 3688;

/** A JPEG file up to its first scan. */
export interface Segments {
  readonly blocks: readonly Block[];
  /** Offset of the payload of each block. */
  readonly offsets: readonly number[];
  /** Offset of what follows. */
  readonly end: number;
}

/**
 * Split a JPEG file into the segments that come before its first scan.
 *
 * @throws ImageError the file is damaged
 */
export function readSegments(data: Uint8Array): Segments {
  const blocks: Block[] = [];
  const offsets: number[] = [];
  const numbers = view(data);
  let at = 2;
  for (;;) {
    while (data[at] === 0xff && data[at + 1] === 0xff) at++; // any number of fill bytes may precede a marker
    if (at + 4 > data.length) throw new ImageError(`the JPEG file is damaged: it ends after ${data.length} bytes`);
    const kind = latin1(data.subarray(at, at + 2));
    if (data[at] !== 0xff) throw new ImageError(`the JPEG file is damaged: expected a marker at byte ${at}`);
    if (kind === SCAN || kind === END) return { blocks, offsets, end: at };
    const length = numbers.getUint16(at + 2);
    if (length < 2) throw new ImageError(`the JPEG file is damaged: the segment at byte ${at} has no length`);
    offsets.push(at + 4);
    blocks.push({ kind, body: data.subarray(at + 4, at + 2 + length) });
    at += 2 + length;
  }
}

/** Return what follows the image in a JPEG file; null where nothing does. */
function readTrailer(data: Uint8Array, segments: Segments): Trailer | null {
  let at = segments.end;
  let end = at;
  while (at + 4 <= data.length && data[at] === 0xff && data[at + 1] !== 0xd9) {
    const code = data[at + 1] ?? 0;
    const restart = code >= 0xd0 && code < 0xd8;
    at += restart ? 2 : 2 + view(data).getUint16(at + 2);
    if (!restart && code !== 0xda) continue;
    while (at + 1 < data.length && !(data[at] === 0xff && data[at + 1] !== 0 && data[at + 1] !== 0xff)) at++;
    if (at + 1 >= data.length) at = data.length;
    end = at;
  }
  end += 2; // behind the end mark
  if (end >= data.length) return null;
  const index = segments.blocks.findIndex(({ kind, body }) => kind === APP2 && startsWith(body, INDEX_PREFIX));
  const indexAt = index < 0 ? null : (segments.offsets[index] ?? 0) + INDEX_PREFIX.length;
  return { data: data.subarray(end), imageEnd: end, indexAt };
}

/** Return the metadata of a JPEG file. */
export function readMetadata(data: Uint8Array): Metadata {
  const segments = readSegments(data);
  const { blocks } = segments;
  const exif = joinedBodies(blocks, APP1, EXIF_PREFIX);
  const main = blocks.find(({ kind, body }) => kind === APP1 && startsWith(body, XMP_PREFIX));
  const resources = joinedBodies(blocks, APP13, PHOTOSHOP_PREFIX);
  return {
    icc: profile(blocks),
    exif,
    xmp: main === undefined ? null : joined(main.body.subarray(XMP_PREFIX.length), bodies(blocks, APP1, EXTENSION_PREFIX)),
    dpi: headerDpi(blocks) ?? exifDpi(exif),
    comments: blocks.filter(({ kind }) => kind === COM).map(({ body }) => body),
    iptc: resources === null ? null : iptcOf(resources),
    trailer: readTrailer(data, segments),
    native: blocks.filter(isDescriptive),
    nativeFormat: "JPEG",
  };
}

/** Return whether a segment stays true when only the pixels change. */
function isDescriptive({ kind, body }: Block): boolean {
  if (kind === APP2) return [ICC_PREFIX, INDEX_PREFIX, GAIN_MAP_PREFIX].some((prefix) => startsWith(body, prefix));
  return kind === APP1 || kind === APP13 || kind === COM;
}

/** Return the file without what would make a decoder turn its pixels or convert their colours. */
export function withoutMetadata(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const { blocks, end } = readSegments(data);
  const kept = blocks.filter(
    ({ kind }) => !(kind.charCodeAt(1) >= 0xe0 && kind.charCodeAt(1) <= 0xef && kind !== APP0 && kind !== APP14) && kind !== COM,
  );
  return concat(data.subarray(0, 2), ...kept.map(segmentBytes), data.subarray(end));
}

/**
 * Return a JPEG file with the metadata of another.
 *
 * @param encoded - a file of the new pixels; its own metadata is replaced
 * @param metadata - of a JPEG file
 */
export function withMetadata(encoded: Uint8Array, metadata: Metadata): Uint8Array<ArrayBuffer> {
  const bare = withoutMetadata(encoded);
  const hasHeader = bare[2] === 0xff && bare[3] === 0xe0; // JFIF must come first
  const at = hasHeader ? 4 + view(bare).getUint16(4) : 2;
  const header = bare.slice(0, at);
  if (hasHeader && metadata.dpi !== null) {
    header[13] = 1; // per inch
    view(header).setUint16(14, Math.round(metadata.dpi[0]));
    view(header).setUint16(16, Math.round(metadata.dpi[1]));
  }
  const file = concat(header, ...metadata.native.map(segmentBytes), bare.subarray(at));
  const indexed = withIndex(file, metadata.trailer);
  return metadata.trailer === null ? indexed : concat(indexed, metadata.trailer.data);
}

/** Return a file whose index of further images points at them, or without one. */
function withIndex(file: Uint8Array<ArrayBuffer>, trailer: Trailer | null): Uint8Array<ArrayBuffer> {
  const { blocks, offsets } = readSegments(file);
  const number = blocks.findIndex(({ kind, body }) => kind === APP2 && startsWith(body, INDEX_PREFIX));
  const [block, at] = [blocks[number], offsets[number]];
  if (block === undefined || at === undefined) return file;
  const base = at + INDEX_PREFIX.length;
  const index = block.body.subarray(INDEX_PREFIX.length);
  const moved = trailer === null || trailer.indexAt === null ? null : movedIndex(index, trailer, file.length, base);
  if (moved === null) {
    return withIndex(concat(file.subarray(0, at - 4), file.subarray(at + block.body.length)), trailer);
  }
  file.set(moved, base);
  return file;
}

/** Return the index for a first image of another length; null where it is damaged or does not fit. */
function movedIndex(index: Uint8Array, trailer: Trailer, newEnd: number, newBase: number): Uint8Array | null {
  const directory = firstDirectory(index);
  const entries = directory?.entries.get(INDEX_ENTRIES);
  if (!directory || !entries || trailer.indexAt === null || entries.count % INDEX_ENTRY_BYTES) return null;
  const shift = newEnd - newBase - (trailer.imageEnd - trailer.indexAt);
  const changed = index.slice();
  const numbers = view(changed);
  for (let at = entries.at; at < entries.at + entries.count; at += INDEX_ENTRY_BYTES) {
    let offset = numbers.getUint32(at + 8, directory.littleEndian);
    if (at === entries.at) numbers.setUint32(at + 4, newEnd, directory.littleEndian);
    else if (offset + trailer.indexAt >= trailer.imageEnd) offset += shift;
    if (offset < 0 || offset > 0xffffffff) return null;
    numbers.setUint32(at + 8, offset, directory.littleEndian);
  }
  return changed;
}

/** Return the quality, 1 to 100, with which libjpeg writes about the same brightness table as the file's. */
export function qualityOf(data: Uint8Array): number {
  const table = readSegments(data).blocks.find(({ kind, body }) => kind === TABLES && body[0] === 0);
  if (table === undefined || table.body.length < 65) return 95;
  const sum = table.body.subarray(1, 65).reduce((total, value) => total + value, 0);
  const scale = (100 * sum) / STANDARD_SUM;
  return Math.min(100, Math.max(1, Math.round(scale <= 100 ? (200 - scale) / 2 : 5000 / scale)));
}

function segmentBytes({ kind, body }: Block): Uint8Array {
  const length = body.length + 2;
  return concat(Uint8Array.of(0xff, kind.charCodeAt(1), length >> 8, length & 255), body);
}

/** Return what follows `prefix` in each segment that begins with it. */
function bodies(blocks: readonly Block[], marker: string, prefix: string): Uint8Array[] {
  return blocks
    .filter(({ kind, body }) => kind === marker && startsWith(body, prefix))
    .map(({ body }) => body.subarray(prefix.length));
}

function joinedBodies(blocks: readonly Block[], marker: string, prefix: string): Uint8Array | null {
  const whole = concat(...bodies(blocks, marker, prefix));
  return whole.length === 0 ? null : whole;
}

/** Return the colour profile, joined from its numbered parts; null when a part is missing. */
function profile(blocks: readonly Block[]): Uint8Array | null {
  const all = bodies(blocks, APP2, ICC_PREFIX);
  const parts = new Map(all.filter((body) => body.length > 2).map((body) => [body[0] ?? 0, body.subarray(2)]));
  if (parts.size === 0 || parts.size !== all[0]?.[1]) return null;
  return concat(...[...parts].sort(([a], [b]) => a - b).map(([, part]) => part));
}

/** Return the resolution that the JFIF header states. */
function headerDpi(blocks: readonly Block[]): readonly [number, number] | null {
  const header = blocks.find(({ kind, body }) => kind === APP0 && startsWith(body, "JFIF\0") && body.length >= 12);
  const scale = INCHES_PER_UNIT[header?.body[7] ?? 0];
  if (header === undefined || scale === undefined) return null;
  const numbers = view(header.body);
  return statedDpi(numbers.getUint16(8) * scale, numbers.getUint16(10) * scale);
}

/** Return the IPTC record among Photoshop's image resources; null where there is none, or they are damaged. */
function iptcOf(resources: Uint8Array): Uint8Array | null {
  const numbers = view(resources);
  let at = 0;
  while (at + 12 <= resources.length && latin1(resources.subarray(at, at + 4)) === "8BIM") {
    const number = numbers.getUint16(at + 4);
    const name = 1 + (resources[at + 6] ?? 0);
    at += 6 + name + (name % 2);
    if (at + 4 > resources.length) return null;
    const size = numbers.getUint32(at);
    if (number === IPTC) return resources.subarray(at + 4, at + 4 + size);
    at += 4 + size + (size % 2);
  }
  return null;
}
