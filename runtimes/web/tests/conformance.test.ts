/** The library computes what Python computes: runtimes/conformance holds the vectors. */

import { describe, expect, test } from "vitest";

import { Archive } from "../src/archive.js";
import { Bundle } from "../src/bundle.js";
import { choose } from "../src/choosing.js";
import { EdgeDenoiseError, load, type Planes } from "../src/index.js";
import type { NormalizationKind } from "../src/manifest.js";
import { parseManifest } from "../src/manifest_json.js";
import { estimatedCurve } from "../src/level_estimator.js";
import { ImageNoise } from "../src/noise_plane.js";
import { apply } from "../src/normalize.js";
import { StoredImage } from "../src/pixels.js";
import { autoTile, planTiles, reflected } from "../src/tiling.js";
import { array, base64, distance, packed, type Placed, vectors } from "./vectors.js";

function planes(placed: Placed): Planes {
  const [channels, height, width] = placed.shape as [3, number, number];
  return { channels, height, width, data: array(placed) };
}

async function codeOf(call: () => Promise<unknown>): Promise<{ error: string | null; code: number }> {
  try {
    await call();
  } catch (error) {
    if (error instanceof EdgeDenoiseError) return { error: error.name, code: error.code };
    throw error;
  }
  return { error: null, code: 0 };
}

interface Expected {
  readonly name: string;
  readonly error: string | null;
  readonly code: number;
}

interface TilingCase {
  readonly halo_px: number;
  readonly multiple_of: number;
  readonly bytes_per_px: number;
  readonly height: number;
  readonly width: number;
  readonly tile: number;
}

describe("tiles", () => {
  const found = vectors<{
    plans: (TilingCase & Record<"top" | "margin_px" | "tile_height" | "tile_width" | "rows" | "columns", number>)[];
    automatic: (TilingCase & { tile_bytes: number })[];
    mirrored: { start: number; stop: number; size: number; indices: number[] }[];
  }>("tiling");
  const tilingOf = (one: TilingCase) => ({ haloPx: one.halo_px, multipleOf: one.multiple_of, bytesPerPx: one.bytes_per_px });

  test("plans are equal", () => {
    for (const one of found.plans) {
      const plan = planTiles(one.height, one.width, tilingOf(one), one.tile, one.top);
      const { marginPx, tileHeight, tileWidth, rows, columns } = plan;
      expect({ marginPx, tileHeight, tileWidth, rows, columns }, JSON.stringify(one)).toEqual({
        marginPx: one.margin_px, tileHeight: one.tile_height, tileWidth: one.tile_width, rows: one.rows, columns: one.columns,
      });
    }
  });

  test("automatic tiles are equal", () => {
    for (const one of found.automatic) {
      expect(autoTile(one.height, one.width, tilingOf(one), one.tile_bytes), JSON.stringify(one)).toBe(one.tile);
    }
  });

  test("mirrored indices are equal", () => {
    for (const { start, stop, size, indices } of found.mirrored) expect([...reflected(start, stop, size)]).toEqual(indices);
  });
});

describe("normalization", () => {
  const { cases } = vectors<{
    cases: { name: string; image: Placed; kind: NormalizationKind; limit: number | null; mean: number[]; std: number[]; normalized: Placed }[];
  }>("normalization");

  test.each(cases)("$name, $kind", ({ image, kind, limit, mean, std, normalized }) => {
    const stored = new StoredImage(planes(image));
    const stats = stored.statistics(kind, limit);
    expect([...stats.mean]).toEqual(mean);
    expect([...stats.std]).toEqual(std);
    const values: number[] = [];
    for (let c = 0; c < 3; c++) {
      for (let y = 0; y < stored.height; y++) for (let x = 0; x < stored.width; x++) values.push(apply(stats, c, stored.unit(c, y, x)));
    }
    expect(distance(values, array(normalized))).toBe(0);
  });
});

describe("rounding", () => {
  const { cases } = vectors<{ cases: { unit: Placed; gray: boolean; stored: Placed }[] }>("rounding");

  test.each(cases)("to $stored.type, gray: $gray", ({ unit, gray, stored }) => {
    const [, height, width] = stored.shape as [number, number, number];
    const expected = array(stored);
    const kind = expected.constructor as typeof Uint8Array;
    const template = new kind(expected.length);
    if (!gray) template[0] = 1; // three equal channels are gray
    const copy = new StoredImage({ channels: 3, height, width, data: template }).copy();
    const values = array(unit);
    const size = height * width;
    for (let i = 0; i < size; i++) copy.store(Math.floor(i / width), i % width, [values[i]!, values[size + i]!, values[2 * size + i]!]);
    expect([...copy.image().data]).toEqual([...expected]);
  });
});

describe("noise", () => {
  const { cases, large } = vectors<{
    cases: {
      name: string; image: Placed; stated_lsb: number | null; curve: number[]; rms_lsb: number; unchanged: boolean;
      strength: number; plane: Placed;
    }[];
    large: { height: number; width: number; curve: number[]; rms_lsb: number }[];
  }>("noise");

  test.each(cases)("$name, stated: $stated_lsb", ({ image, stated_lsb, rms_lsb, unchanged, strength, plane, curve }) => {
    const stored = new StoredImage(planes(image));
    const { height, width } = stored;
    const noise = stated_lsb === null ? ImageNoise.estimated(stored) : ImageNoise.stated(stated_lsb, height, width);
    if (stated_lsb === null) {
      expect(distance(estimatedCurve(height, width, (c, y, x) => stored.unit(c, y, x)).sigma, curve)).toBeLessThan(1e-6);
    }
    expect(Math.abs(noise.rmsLsb - rms_lsb)).toBeLessThan(1e-3);
    expect(noise.isNegligible).toBe(unchanged);
    const levels: number[] = [];
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) levels.push(noise.level(y, x, strength));
    expect(distance(levels, array(plane))).toBeLessThan(1e-5);
  });

  test("of large images some blocks are judged", () => {
    for (const { height, width, curve, rms_lsb } of large) {
      const data = new Uint8Array(3 * height * width);
      for (let c = 0; c < 3; c++) {
        for (let y = 0; y < height; y++) {
          for (let x = 0; x < width; x++) {
            const number = (Math.imul((y * width + x) * 3 + c, 1664525) + 1013904223) >>> 0;
            data[(c * height + y) * width + x] = (number >>> 27) + 64 + (x % 128);
          }
        }
      }
      const stored = new StoredImage({ channels: 3, height, width, data });
      expect(distance(estimatedCurve(height, width, (c, y, x) => stored.unit(c, y, x)).sigma, curve)).toBeLessThan(1e-6);
      expect(Math.abs(ImageNoise.estimated(stored).rmsLsb - rms_lsb)).toBeLessThan(1e-3);
    }
  });
});

describe("bundles", () => {
  test.each(vectors<{ cases: (Expected & { base64: string })[] }>("manifests").cases)("manifest: $name", async (one) => {
    expect(await codeOf(() => parseManifest(base64(one.base64), "bundle"))).toEqual({ error: one.error, code: one.code });
  });

  test.each(vectors<{ cases: (Expected & { base64: string })[] }>("archives").cases)("archive: $name", async (one) => {
    expect(await codeOf(() => Bundle.open(base64(one.base64), "bundle"))).toEqual({ error: one.error, code: one.code });
  });

  test("a deflated file is unpacked as it was", () => {
    const found = vectors<{ cases: (Expected & { base64: string })[] }>("archives").cases.find(({ name }) => name === "deflated")!;
    const text = new TextDecoder().decode(Archive.open(base64(found.base64), "bundle").read("a/b.txt", 200));
    expect(text).toBe("0123456789".repeat(20));
  });
});

describe("choosing", () => {
  const { cases } = vectors<{
    cases: { name: string; manifest: string; precision: "auto"; variant: string | null; passed_over: string[]; error?: string }[];
  }>("choosing");

  test.each(cases)("$name, $precision", async ({ manifest, precision, variant, passed_over, error }) => {
    const parsed = await parseManifest(base64(manifest), "bundle");
    if (variant === null) {
      expect(await codeOf(async () => choose(parsed, "bundle", precision, "wasm"))).toMatchObject({ error });
      return;
    }
    const choice = choose(parsed, "bundle", precision, "wasm");
    expect({ variant: choice.variant, passedOver: choice.passedOver.map((one) => one.variant) }).toEqual({ variant, passedOver: passed_over });
  });
});

describe("networks", () => {
  const { cases } = vectors<{
    cases: {
      bundle: string; name: string; image: Placed; precision: "fp32" | "int8"; tile: number; strength: number; answer: Placed;
      noise_lsb: number | null;
    }[];
  }>("networks");

  test.each(cases)("$bundle, $name, $precision, tile $tile, strength $strength", async (one) => {
    const denoiser = await load(packed(one.bundle), { precision: one.precision, worker: false, threads: 1 });
    const { image, noiseLsb } = await denoiser.denoise(planes(one.image), { tile: one.tile, strength: one.strength });
    await denoiser.close();
    const expected = array(one.answer);
    const error = distance(image.data, expected);
    if (one.answer.type === "f32") expect(error).toBeLessThan(1e-5);
    else if (one.precision === "int8") {
      // The integers are equal. The last subtraction is in float, whose last bit may change a 16-bit value.
      expect(error).toBeLessThanOrEqual(one.answer.type === "u8" ? 0 : 1);
    } else {
      // Float kernels may round the last bit differently, which can change a value beside a rounding tie.
      expect(error).toBeLessThanOrEqual(1);
      expect([...expected].filter((value, i) => value !== image.data[i]).length).toBeLessThan(expected.length / 100);
    }
    if (one.noise_lsb === null) expect(noiseLsb).toBeNull();
    else expect(Math.abs(noiseLsb! - one.noise_lsb)).toBeLessThan(0.02);
  });
});
