/**
 * The noise level at every pixel: the noise of an image as a curve by brightness, read at the local brightness. As
 * Python's `edgedenoise/noise/level.py`.
 */

/** Side of a cell in pixels. Local means are computed over 5x5 cells and interpolated between them. */
export const CELL_PX = 4;
/** Number of points of a curve, spread evenly from black to white, with straight lines between them. */
const KNOTS = 12;
const PLANE_GAIN = 10;
const PRIOR_PX = 1000;

/** Standard deviation of the noise by brightness, both with white as 1. */
export class NoiseCurve {
  constructor(
    /** Standard deviation at `KNOTS` brightnesses. */
    readonly sigma: Float64Array,
  ) {}

  static constant(sigma: number): NoiseCurve {
    return new NoiseCurve(new Float64Array(KNOTS).fill(sigma));
  }

  /** Return the curve through variances that were measured at some brightnesses, of `weight` pixels each. */
  static fitted(brightness: readonly number[], variance: readonly number[], weight: number): NoiseCurve {
    const total = new Float64Array(KNOTS);
    const sums = new Float64Array(KNOTS);
    brightness.forEach((value, i) => {
      const place = Math.min(Math.max(value, 0), 1) * (KNOTS - 1);
      const low = Math.min(Math.trunc(place), KNOTS - 2);
      const part = place - low;
      for (const [at, share] of [[low, weight * (1 - part)], [low + 1, weight * part]] as const) {
        total[at] = total[at]! + share;
        sums[at] = sums[at]! + share * variance[i]!;
      }
    });
    const mean = sum(sums) / Math.max(sum(total), 1e-12);
    return new NoiseCurve(sums.map((value, at) => Math.sqrt((value + PRIOR_PX * mean) / (total[at]! + PRIOR_PX))));
  }

  scaled(factor: number): NoiseCurve {
    return new NoiseCurve(this.sigma.map((value) => value * factor));
  }

  /** Return the standard deviation at a brightness in [0, 1]. */
  at(brightness: number): number {
    const place = Math.min(Math.max(brightness, 0), 1) * (KNOTS - 1);
    const low = Math.min(Math.floor(place), KNOTS - 2);
    const first = this.sigma[low]!;
    return Math.fround(first + (this.sigma[low + 1]! - first) * (place - low));
  }
}

/** The mean of all channels around every pixel of an image; one number for each cell is kept. */
export class Brightness {
  private readonly rows: number;
  private readonly columns: number;
  private readonly cells: Float32Array;

  /** @param unit - returns a pixel in [0, 1] by channel, row and column */
  constructor(height: number, width: number, unit: (channel: number, y: number, x: number) => number) {
    this.rows = Math.ceil(height / CELL_PX);
    this.columns = Math.ceil(width / CELL_PX);
    const cells = new Float32Array(this.rows * this.columns);
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) {
        let total = 0;
        for (let i = 0; i < CELL_PX * CELL_PX; i++) {
          const y = Math.min(row * CELL_PX + (i >> 2), height - 1);
          const x = Math.min(column * CELL_PX + (i & 3), width - 1);
          total += Math.fround(Math.fround(Math.fround(unit(0, y, x) + unit(1, y, x)) + unit(2, y, x)) / 3);
        }
        cells[row * this.columns + column] = total / (CELL_PX * CELL_PX);
      }
    }
    this.cells = this.windowMean(this.windowMean(cells, 1, 0), 0, 1);
  }

  /** Return the local brightness of a pixel, bilinear between the centres of cells. */
  at(y: number, x: number): number {
    const [above, below, downShare] = neighbours(y, this.rows);
    const [left, right, rightShare] = neighbours(x, this.columns);
    const between = (column: number): number => {
      const first = this.cells[above * this.columns + column]!;
      return Math.fround(first + Math.fround(downShare * Math.fround(this.cells[below * this.columns + column]! - first)));
    };
    const first = between(left);
    return Math.fround(first + Math.fround(rightShare * Math.fround(between(right) - first)));
  }

  /** Return means over five cells in one direction; cells at the edges are repeated. */
  private windowMean(cells: Float32Array, down: number, across: number): Float32Array {
    const result = new Float32Array(cells.length);
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) {
        let total = 0;
        for (let step = -2; step <= 2; step++) {
          const y = Math.min(Math.max(row + step * down, 0), this.rows - 1);
          const x = Math.min(Math.max(column + step * across, 0), this.columns - 1);
          total = Math.fround(total + cells[y * this.columns + x]!);
        }
        result[row * this.columns + column] = total * Math.fround(0.2);
      }
    }
    return result;
  }
}

/** Return the two cells whose centres a pixel lies between, and its share of the way from the first to the second. */
function neighbours(pixel: number, size: number): [number, number, number] {
  const cell = Math.floor(pixel / CELL_PX);
  const within = pixel % CELL_PX;
  const first = within < CELL_PX / 2 ? cell - 1 : cell;
  return [Math.max(first, 0), Math.min(first + 1, size - 1), ((within + 0.5) / CELL_PX + 0.5) % 1];
}

/** Return the value of the network's fourth channel for a standard deviation: min(1, 10 sigma). */
export function levelOf(sigma: number, strength: number): number {
  return Math.min(Math.fround(Math.fround(sigma * Math.fround(strength)) * PLANE_GAIN), 1);
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
}
