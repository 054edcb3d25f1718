/**
 * Exact tiles: an image denoised tile by tile has the same pixels as one denoised whole. Plans, margins and mirrored
 * borders are those of Python's `edgedenoise/imaging/tiling.py`.
 */

import { DeviceMemoryError, InferenceError, UsageError } from "./errors.js";
import type { InputShapes, Tiling } from "./manifest.js";

/** Tile size that stands for the whole image as one tile. */
export const WHOLE = 0;
/** Smallest side that back-off tries. */
export const MIN_TILE_PX = 32;
/** Most input pixels of an automatic tile, margins included. */
const AUTO_INPUT_PX = 1_200_000;
/** Most memory that an automatic tile takes, whatever is allowed. */
const AUTO_TILE_BYTES = 512 << 20;
export const MAX_SIDE_PX = 1 << 16;

/** A regular grid of equal tiles over an image. */
export interface TilePlan {
  readonly height: number;
  readonly width: number;
  /** Rows that each tile contributes. */
  readonly tileHeight: number;
  readonly tileWidth: number;
  readonly marginPx: number;
  /** First row that the tiles cover. */
  readonly top: number;
  /** Number of tiles from top to bottom, and from left to right. */
  readonly rows: number;
  readonly columns: number;
  /** Sides of the network's input per tile, margins included. */
  readonly inputHeight: number;
  readonly inputWidth: number;
}

/** Return the halo rounded up to `multipleOf`, so that a tile's input begins on the network's grid. */
export function marginPx(tiling: Tiling): number {
  return Math.ceil(tiling.haloPx / tiling.multipleOf) * tiling.multipleOf;
}

/**
 * Split an image into equal tiles of at most `tile` pixels per side.
 *
 * @param tile - largest side without margins, or `WHOLE`
 * @param top - first row to cover, a multiple of `multipleOf`
 * @throws UsageError the tile is smaller than `multipleOf`
 */
export function planTiles(height: number, width: number, tiling: Tiling, tile: number, top = 0): TilePlan {
  if (!Number.isInteger(tile) || tile < 0 || tile > MAX_SIDE_PX || (tile > 0 && tile < tiling.multipleOf)) {
    throw new UsageError(
      `the tile size is not accepted: expected 0 (the whole image) or at least ${tiling.multipleOf} pixels, got ${tile}`,
    );
  }
  const margin = marginPx(tiling);
  const tileHeight = balanced(height - top, tile, tiling);
  const tileWidth = balanced(width, tile, tiling);
  return {
    height,
    width,
    tileHeight,
    tileWidth,
    marginPx: margin,
    top,
    rows: Math.ceil((height - top) / tileHeight),
    columns: Math.ceil(width / tileWidth),
    inputHeight: tileHeight + 2 * margin,
    inputWidth: tileWidth + 2 * margin,
  };
}

function balanced(size: number, tile: number, tiling: Tiling): number {
  const count = tile === WHOLE ? 1 : Math.ceil(size / (Math.floor(tile / tiling.multipleOf) * tiling.multipleOf));
  return Math.ceil(Math.ceil(size / count) / tiling.multipleOf) * tiling.multipleOf;
}

/**
 * Return the indices start..stop-1 of an endless row that mirrors 0..size-1 at both ends. The end pixels are not
 * repeated; a single pixel is.
 */
export function reflected(start: number, stop: number, size: number): Int32Array {
  const result = new Int32Array(stop - start);
  if (size === 1) return result;
  const period = 2 * (size - 1);
  for (let i = 0; i < result.length; i++) {
    const index = (((start + i) % period) + period) % period;
    result[i] = Math.min(index, period - index);
  }
  return result;
}

/**
 * Return the tile with which the fewest pixels are computed twice.
 *
 * @param tileBytes - memory that a tile may take
 */
export function autoTile(height: number, width: number, tiling: Tiling, tileBytes: number): number {
  const mostPx = Math.min(AUTO_INPUT_PX, Math.floor(Math.min(tileBytes, AUTO_TILE_BYTES) / tiling.bytesPerPx));
  const margins = 2 * marginPx(tiling);
  const input = (side: number, size: number): number =>
    Math.ceil(Math.min(side, size) / tiling.multipleOf) * tiling.multipleOf + margins;
  const inputPx = (side: number): number => input(side, height) * input(side, width);
  const least = Math.max(MIN_TILE_PX, tiling.multipleOf);
  let square = least;
  for (let low = least, high = Math.max(height, width, least); low <= high; ) {
    const middle = (low + high) >> 1;
    if (inputPx(middle) <= mostPx) [square, low] = [middle, middle + 1];
    else high = middle - 1;
  }
  // A balanced tile may be longer in one direction, as it is shorter in the other.
  const sides = new Set([square]);
  for (const size of [height, width]) {
    for (let fewer = 1; fewer <= 3; fewer++) {
      const count = Math.ceil(size / square) - fewer;
      if (count > 0) sides.add(Math.ceil(size / count));
    }
  }
  let best = { side: square, px: Infinity };
  for (const side of [...sides].sort((a, b) => a - b)) {
    if (side < square) continue;
    const plan = planTiles(height, width, tiling, side);
    const tilePx = plan.inputHeight * plan.inputWidth;
    const px = plan.rows * plan.columns * tilePx;
    if ((side === square || tilePx <= mostPx) && px < best.px) best = { side, px };
  }
  return best.side;
}

/** Return `tile`, or the largest tile that fits an input of `side` pixels with margins, whichever is less. */
export function largestTile(side: number, tiling: Tiling, tile: number): number {
  const limit = Math.floor((side - 2 * marginPx(tiling)) / tiling.multipleOf) * tiling.multipleOf;
  return tile === WHOLE ? limit : Math.min(tile, limit);
}

/** Return the tile to begin with, for a file that accepts some shapes or any. */
export function firstTile(height: number, width: number, tiling: Tiling, shapes: InputShapes | null, tileBytes: number): number {
  if (shapes === null) return autoTile(height, width, tiling, tileBytes);
  const sides = tunedSides(shapes);
  const small = sides.filter((side) => side ** 2 * tiling.bytesPerPx <= tileBytes);
  let best = { tile: 0, px: Infinity };
  for (const side of small.length > 0 ? small : sides.slice(0, 1)) {
    const tile = largestTile(side, tiling, WHOLE);
    const plan = planTiles(height, width, tiling, tile);
    const px = plan.rows * plan.columns * acceptedSide(shapes, Math.max(plan.inputHeight, plan.inputWidth)) ** 2;
    if (px < best.px || (px === best.px && tile > best.tile)) best = { tile, px };
  }
  return best.tile;
}

/**
 * Return the tile to try after `tile` did not fit into memory.
 *
 * @throws DeviceMemoryError nothing smaller is worth trying
 */
export function nextTile(height: number, width: number, tiling: Tiling, shapes: InputShapes | null, tile: number): number {
  const plan = planTiles(height, width, tiling, tile);
  const outOfMemory = (smallest: string): DeviceMemoryError =>
    new DeviceMemoryError(`out of memory with tiles of ${smallest} pixels, the smallest that are tried`, {
      hint: "Close other tabs and programs, or use a smaller network such as edge-tiny.",
    });
  if (shapes === null) {
    const side = Math.floor(Math.max(plan.tileHeight, plan.tileWidth) / 2);
    if (side < MIN_TILE_PX) throw outOfMemory(`${plan.tileHeight}x${plan.tileWidth}`);
    return side;
  }
  const used = acceptedSide(shapes, Math.max(plan.inputHeight, plan.inputWidth));
  const smaller = tunedSides(shapes).filter((side) => side < used).at(-1);
  if (smaller === undefined) throw outOfMemory(`${used}x${used}`);
  return largestTile(smaller, tiling, WHOLE);
}

/** Return the smallest side that a file accepts and that holds `neededPx` pixels; of a range, the best side if it can. */
export function acceptedSide(shapes: InputShapes, neededPx: number): number {
  const sides = shapes.kind === "ranged" ? shapes.sidesPx.slice(1) : shapes.sidesPx;
  const side = sides.find((one) => one >= neededPx);
  if (side === undefined) {
    throw new InferenceError(`a tile has ${neededPx} pixels; expected at most ${sides.at(-1)}, margins included`);
  }
  return side;
}

function tunedSides(shapes: InputShapes): readonly number[] {
  return shapes.kind === "ranged" ? shapes.sidesPx.slice(1, 2) : shapes.sidesPx;
}
