/** EXIF blocks: the orientation and the resolution that they state. Blocks themselves are copied as they are. */

import { view } from "./bytes.js";
import { statedDpi } from "./metadata.js";

export const EXIF_PREFIX = "Exif\0\0";
const ORIENTATION = 274;
const RESOLUTIONS = [282, 283] as const;
const UNIT = 296;
const INCHES_PER_UNIT: Readonly<Record<number, number>> = { 2: 1, 3: 2.54 };
const TYPE_BYTES: Readonly<Record<number, number>> = { 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1 };

/** A directory of a TIFF structure. */
export interface Directory {
  readonly littleEndian: boolean;
  /** Tag -> type, number of values, and offset of the values in the block. */
  readonly entries: ReadonlyMap<number, { readonly type: number; readonly count: number; readonly at: number }>;
}

/** Return the first directory of a TIFF structure; null where it is damaged. */
export function firstDirectory(block: Uint8Array): Directory | null {
  if (block.length < 8) return null;
  const data = view(block);
  const order = data.getUint16(0);
  if (order !== 0x4949 && order !== 0x4d4d) return null;
  const littleEndian = order === 0x4949;
  if (data.getUint16(2, littleEndian) !== 42) return null;
  const start = data.getUint32(4, littleEndian);
  if (start + 2 > block.length) return null;
  const count = data.getUint16(start, littleEndian);
  if (start + 2 + 12 * count > block.length) return null;
  const entries = new Map<number, { type: number; count: number; at: number }>();
  for (let number = 0; number < count; number++) {
    const entry = start + 2 + 12 * number;
    const type = data.getUint16(entry + 2, littleEndian);
    const values = data.getUint32(entry + 4, littleEndian);
    const bytes = (TYPE_BYTES[type] ?? 0) * values;
    const at = bytes > 4 ? data.getUint32(entry + 8, littleEndian) : entry + 8;
    if (bytes > 0 && at + bytes <= block.length) {
      entries.set(data.getUint16(entry, littleEndian), { type, count: values, at });
    }
  }
  return { littleEndian, entries };
}

/** Return the resolution in pixels per inch; null where the block states none. */
export function exifDpi(block: Uint8Array | null): readonly [number, number] | null {
  const directory = block === null ? null : firstDirectory(block);
  if (block === null || directory === null) return null;
  const data = view(block);
  const [horizontal, vertical] = RESOLUTIONS.map((tag) => {
    const entry = directory.entries.get(tag);
    if (entry?.type !== 5) return Number.NaN;
    return data.getUint32(entry.at, directory.littleEndian) / data.getUint32(entry.at + 4, directory.littleEndian);
  }) as [number, number];
  const unit = directory.entries.get(UNIT);
  const scale = INCHES_PER_UNIT[unit?.type === 3 ? data.getUint16(unit.at, directory.littleEndian) : 2];
  return scale === undefined ? null : statedDpi(horizontal * scale, vertical * scale);
}

/** Return how a viewer turns the image, 1 to 8; 1 where the block states nothing. */
export function orientationOf(block: Uint8Array | null): number {
  const directory = block === null ? null : firstDirectory(block);
  const entry = directory?.entries.get(ORIENTATION);
  if (block === null || directory === null || entry?.type !== 3) return 1;
  const value = view(block).getUint16(entry.at, directory.littleEndian);
  return value >= 1 && value <= 8 ? value : 1;
}
