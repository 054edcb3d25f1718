/**
 * Estimate the noise of an image by brightness, from that image alone. Blocks of 16x16 pixels are judged one by one by
 * a small network; the most certain ones give a curve, which a second network corrects. As Python's
 * `edgedenoise/noise/level_estimator.py`, whose weights these are.
 */

import { WEIGHTS } from "./level_estimator_weights.js";
import { NoiseCurve } from "./noise_level.js";
import { reflected } from "./tiling.js";

const BLOCK_PX = 16;
const CELL_PX = 8;
const BANDS = [[1, 2], [3, 4], [5, 7], [8, 10], [11, 14]] as const;
const FLOOR = Math.fround(1e-7);
const FEATURES = 37;
const HALF = 3 * BANDS.length;
const MOST_BLOCKS = 2048;
const SUREST_SHARE = 0.25;
const LEVEL_QUANTILES = [0.1, 0.3, 0.5] as const;
const SPREAD_QUANTILES = [0.05, 0.25, 0.5] as const;
const ENERGY_QUANTILES = [0.05, 0.25] as const;
const OPPONENT = [[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]].map((row) => {
  const length = Math.hypot(...row);
  return row.map((value) => Math.fround(value / length));
});
const BLACK = Math.fround(0.5 / 255);
const WHITE = Math.fround(254.5 / 255);

type Unit = (channel: number, y: number, x: number) => number;

/**
 * Return the noise of an image by brightness.
 *
 * @param unit - returns a pixel in [0, 1] by channel, row and column
 */
export function estimatedCurve(height: number, width: number, unit: Unit): NoiseCurve {
  const found = judgedBlocks(height, width, unit);
  const answers = found.map((features) => network("block", features));
  const logSigma = answers.map((answer) => answer[0]!);
  const logSpread = answers.map((answer) => answer[1]!);
  const brightness = found.map((one) => Math.fround((one[FEATURES - 4]! + one[FEATURES - 3]! + one[FEATURES - 2]!) / 3));
  const energies = found.map((one) => [...one.subarray(0, HALF), ...one.subarray(2 * HALF, 2 * HALF + 3)]);

  const [base, summary] = summaryOf(logSigma, logSpread, energies);
  const logLevel = base + network("picture", summary)[0]!;
  const limit = quantile(logSpread, SUREST_SHARE);
  const sure = logSpread.flatMap((spread, i) => (spread <= limit ? [i] : []));
  const shape = NoiseCurve.fitted(
    sure.map((i) => brightness[i]!),
    sure.map((i) => Math.exp(2 * (logSigma[i]! - logLevel))),
    BLOCK_PX ** 2,
  );
  const squares = brightness.reduce((total, value) => total + shape.at(value) ** 2, 0);
  return shape.scaled(Math.exp(logLevel) / Math.sqrt(squares / brightness.length));
}

/** Return the features of at most `MOST_BLOCKS` blocks, evenly spread. */
function judgedBlocks(height: number, width: number, unit: Unit): Float32Array[] {
  const rows = reflected(0, Math.max(height, BLOCK_PX), height); // mirrored until there is a block
  const columns = reflected(0, Math.max(width, BLOCK_PX), width);
  let down = indices(Math.floor(rows.length / BLOCK_PX));
  let across = indices(Math.floor(columns.length / BLOCK_PX));
  for (;;) {
    const step = Math.max(1, Math.ceil(Math.sqrt((down.length * across.length) / MOST_BLOCKS)));
    if (step === 1) break;
    down = down.filter((_, i) => i % step === 0);
    across = across.filter((_, i) => i % step === 0);
  }
  const blocks: Float32Array[] = [];
  let isGray = true;
  for (const row of down) {
    for (const column of across) {
      const block = new Float32Array(3 * BLOCK_PX * BLOCK_PX);
      for (let y = 0; y < BLOCK_PX; y++) {
        for (let x = 0; x < BLOCK_PX; x++) {
          const at = y * BLOCK_PX + x;
          for (let c = 0; c < 3; c++) block[c * 256 + at] = unit(c, rows[row * BLOCK_PX + y]!, columns[column * BLOCK_PX + x]!);
          isGray &&= block[at] === block[256 + at] && block[at] === block[512 + at];
        }
      }
      blocks.push(block);
    }
  }
  return blocks.map((block) => featuresOf(block, isGray));
}

function indices(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** Return the features of a block of three planes of 16x16 pixels. */
function featuresOf(block: Float32Array, isGray: boolean): Float32Array {
  const energy: number[][][] = []; // by cell, plane and band
  const constants: number[][] = []; // by cell and plane
  const plane = new Float32Array(CELL_PX * CELL_PX);
  for (let cell = 0; cell < 4; cell++) {
    const start = (cell >> 1) * CELL_PX * BLOCK_PX + (cell & 1) * CELL_PX;
    energy.push([]);
    constants.push([]);
    for (const weights of OPPONENT) {
      for (let i = 0; i < plane.length; i++) {
        const at = start + (i >> 3) * BLOCK_PX + (i & 7);
        plane[i] = weights[0]! * block[at]! + weights[1]! * block[256 + at]! + weights[2]! * block[512 + at]!;
      }
      const coefficients = cosineTransform(plane);
      energy[cell]!.push(bandEnergies(coefficients));
      constants[cell]!.push(coefficients[0]! / CELL_PX);
    }
  }
  let between = OPPONENT.map((_, p) => Math.log(variance(constants.map((one) => one[p]!)) + FLOOR));
  if (isGray) between = addColourNoise(energy, between);
  const result = new Float32Array(FEATURES);
  let at = 0;
  for (const combined of [mean, least]) {
    for (let p = 0; p < 3; p++) {
      for (let b = 0; b < BANDS.length; b++) result[at++] = combined(energy.map((cell) => cell[p]![b]!));
    }
  }
  for (const value of between) result[at++] = value;
  let clipped = 0;
  for (let c = 0; c < 3; c++) {
    let total = 0;
    for (const value of block.subarray(c * 256, (c + 1) * 256)) {
      total += value;
      if (value <= BLACK || value >= WHITE) clipped += 1;
    }
    result[at++] = total / 256;
  }
  result[at] = clipped / block.length;
  return result;
}

/**
 * Change the energies of a gray image to those of a colour image with the same noise, and return the energies between
 * cells likewise. Colour differences are given what the highest frequencies of the gray plane have, in all bands.
 */
function addColourNoise(energy: number[][][], between: readonly number[]): number[] {
  const whites: number[] = [];
  for (const cell of energy) {
    const gray = cell[0]!.map((value) => value - Math.log(3));
    const white = gray.at(-1)!;
    const colour = gray.map((value) => Math.min(value, white));
    whites.push(white);
    cell.splice(0, 3, gray, colour, colour);
  }
  const gray = between[0]! - Math.log(3);
  const colour = Math.min(gray, mean(whites) + Math.log(0.75 / CELL_PX ** 2)); // variance of four means of white noise
  return [gray, colour, colour];
}

const COSINES = indices(CELL_PX).map((k) =>
  indices(CELL_PX).map((n) => (Math.cos((Math.PI * (2 * n + 1) * k) / (2 * CELL_PX)) * Math.sqrt(2 / CELL_PX)) / (k === 0 ? Math.SQRT2 : 1)),
);

/** Return the orthonormal 8x8 cosine transform of a cell. */
function cosineTransform(cell: Float32Array): Float64Array {
  const half = new Float64Array(64);
  const result = new Float64Array(64);
  for (let y = 0; y < 8; y++) {
    for (let k = 0; k < 8; k++) {
      let total = 0;
      for (let x = 0; x < 8; x++) total += COSINES[k]![x]! * cell[8 * y + x]!;
      half[8 * y + k] = total;
    }
  }
  for (let k = 0; k < 8; k++) {
    for (let x = 0; x < 8; x++) {
      let total = 0;
      for (let y = 0; y < 8; y++) total += COSINES[k]![y]! * half[8 * y + x]!;
      result[8 * k + x] = total;
    }
  }
  return result;
}

const MEMBERS = BANDS.map(([low, high]) => indices(64).filter((i) => (i >> 3) + (i & 7) >= low && (i >> 3) + (i & 7) <= high));

function bandEnergies(coefficients: Float64Array): number[] {
  return MEMBERS.map((members) => {
    const total = members.reduce((squares, i) => squares + coefficients[i]! ** 2, 0);
    return Math.fround(Math.log(total / members.length + FLOOR));
  });
}

/** Return the logarithm of the level of the most certain blocks, and the features of the image. */
function summaryOf(logSigma: readonly number[], logSpread: readonly number[], energies: readonly number[][]): [number, Float32Array] {
  const levels: number[] = [];
  for (const share of [SUREST_SHARE, 1]) {
    const limit = quantile(logSpread, share);
    const sure = logSpread.flatMap((spread, i) => (spread <= limit ? [i] : []));
    levels.push(
      ...weightedQuantiles(
        sure.map((i) => logSigma[i]!),
        sure.map((i) => Math.exp(-2 * Math.max(logSpread[i]!, -3))),
      ),
    );
  }
  const base = levels[1]!;
  const columns = indices(energies[0]!.length).map((column) => energies.map((one) => one[column]!));
  const spread = ENERGY_QUANTILES.flatMap((share) => columns.map((column) => quantile(column, share) - 2 * base));
  return [
    base,
    Float32Array.from([
      ...levels.map((level) => level - base),
      ...SPREAD_QUANTILES.map((share) => quantile(logSpread, share)),
      ...spread.map((value) => Math.min(Math.max(value, -12), 12)),
      base,
    ]),
  ];
}

/** Return the values below which `LEVEL_QUANTILES` of all weights lie. */
function weightedQuantiles(values: readonly number[], weights: readonly number[]): number[] {
  const order = indices(values.length).sort((a, b) => values[a]! - values[b]!);
  let total = 0;
  const sums = order.map((i) => (total += weights[i]!));
  return LEVEL_QUANTILES.map((share) => {
    const place = sums.findIndex((one) => one >= share * total);
    return values[order[place < 0 ? order.length - 1 : place]!]!;
  });
}

function quantile(values: readonly number[], share: number): number {
  const sorted = Float64Array.from(values).sort();
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const first = sorted[low]!;
  return first + (sorted[Math.min(low + 1, sorted.length - 1)]! - first) * (place - low);
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}

function least(values: readonly number[]): number {
  return Math.min(...values);
}

function variance(values: readonly number[]): number {
  const middle = mean(values);
  return mean(values.map((value) => (value - middle) ** 2));
}

interface Perceptron {
  readonly mean: Float32Array;
  readonly deviation: Float32Array;
  /** Weights (outputs, inputs) and biases of each layer. */
  readonly layers: readonly (readonly [Float32Array, Float32Array])[];
}

let networks: ReadonlyMap<string, Perceptron> | undefined;

/** Map features to the answers of a network, whose layers have ReLU between them. */
function network(name: "block" | "picture", features: Float32Array): Float32Array {
  networks ??= readNetworks();
  const { mean: middle, deviation, layers } = networks.get(name)!;
  let x: Float32Array = features.map((value, i) => Math.fround(value - middle[i]!) / deviation[i]!);
  layers.forEach(([weight, bias], number) => {
    const inputs = x;
    x = bias.map((start, row) => {
      let total = start;
      for (let i = 0; i < inputs.length; i++) total += weight[row * inputs.length + i]! * inputs[i]!;
      return number < layers.length - 1 ? Math.max(total, 0) : total;
    });
  });
  return x;
}

function readNetworks(): ReadonlyMap<string, Perceptron> {
  const bytes = Uint8Array.from(atob(WEIGHTS.data), (sign) => sign.charCodeAt(0));
  const values = new Float32Array(bytes.buffer);
  let at = 0;
  const arrays = new Map(
    WEIGHTS.arrays.map(([name, size]): [string, Float32Array] => [name, values.subarray(at, (at += size))]),
  );
  return new Map(
    ["block", "picture"].map((name): [string, Perceptron] => {
      const layers: [Float32Array, Float32Array][] = [];
      for (let i = 0; arrays.has(`${name}.weight${i}`); i++) {
        layers.push([arrays.get(`${name}.weight${i}`)!, arrays.get(`${name}.bias${i}`)!]);
      }
      return [name, { mean: arrays.get(`${name}.mean`)!, deviation: arrays.get(`${name}.deviation`)!, layers }];
    }),
  );
}
