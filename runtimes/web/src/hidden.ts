/**
 * Colours under transparent pixels: nobody sees them, and networks must not mix them into the pixels beside them. A
 * hidden pixel takes the mean of the visible pixels in the smallest block around it that has any: blocks of 2 x 2,
 * 4 x 4 and so on. As Python's `edgedenoise/imaging/hidden.py`.
 */

interface Level {
  readonly height: number;
  readonly width: number;
  /** Three planes of block colours. */
  readonly colours: Float32Array;
}

export class HiddenColours {
  private constructor(
    private readonly visible: Uint8Array,
    private readonly width: number,
    private readonly level: Level,
  ) {}

  /**
   * Return the colours for an image; null where all pixels are visible, or none.
   *
   * @param visible - 1 where a pixel is not fully transparent, row by row
   * @param unit - returns a pixel in [0, 1] by channel and index
   */
  static of(visible: Uint8Array, height: number, width: number, unit: (channel: number, index: number) => number): HiddenColours | null {
    if (!visible.includes(0) || !visible.includes(1)) return null;
    return new HiddenColours(visible, width, blocks(visible, height, width, unit));
  }

  /** Return a pixel, or what it shows where it is hidden. */
  fill(channel: number, y: number, x: number, pixel: number): number {
    if (this.visible[y * this.width + x] !== 0) return pixel;
    const { height, width, colours } = this.level;
    return colours[(channel * height + (y >> 1)) * width + (x >> 1)]!;
  }
}

/** Return the colours of blocks of 2 x 2 pixels; blocks without a visible pixel take those of the blocks around them. */
function blocks(visible: Uint8Array, height: number, width: number, unit: (channel: number, index: number) => number): Level {
  const rows = Math.ceil(height / 2);
  const columns = Math.ceil(width / 2);
  const counts = new Uint8Array(rows * columns);
  const colours = new Float32Array(3 * rows * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const index = y * width + x;
      if (visible[index] === 0) continue;
      const block = (y >> 1) * columns + (x >> 1);
      counts[block] = counts[block]! + 1;
      for (let c = 0; c < 3; c++) colours[c * counts.length + block] = colours[c * counts.length + block]! + unit(c, index);
    }
  }
  for (let i = 0; i < colours.length; i++) colours[i] = colours[i]! / Math.max(counts[i % counts.length]!, 1);
  const seen = counts.map((count) => Math.min(count, 1));
  if (seen.includes(0)) {
    const above = blocks(seen, rows, columns, (c, index) => colours[c * counts.length + index]!);
    for (let i = 0; i < colours.length; i++) {
      const block = i % counts.length;
      if (seen[block] !== 0) continue;
      const y = Math.floor(block / columns) >> 1;
      const x = (block % columns) >> 1;
      colours[i] = above.colours[(Math.floor(i / counts.length) * above.height + y) * above.width + x]!;
    }
  }
  return { height: rows, width: columns, colours };
}
