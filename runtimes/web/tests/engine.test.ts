/** What the library does around the network: refusals, transparency, progress, cancelling, reports. */

import { createHash } from "node:crypto";

import { describe, expect, test } from "vitest";

import { IncompatibleError, load, type LoadOptions, type Planes } from "../src/index.js";
import { canonicalJson, parseJson } from "../src/json.js";
import { percentile } from "../src/bench.js";
import { digestOf, sha256 } from "../src/sha256.js";
import { packed } from "./vectors.js";

const TINY = "tests/fixtures/tiny.edge";
const LEVEL = "edgedenoise/bundles/pretrained/edge-level.edge";
const HERE: LoadOptions = { worker: false, threads: 1, device: "wasm", selfTest: false };

function noisy(height: number, width: number, channels: 1 | 3 = 3): Planes {
  let state = 7;
  const data = Uint8Array.from({ length: channels * height * width }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 90 + (state >>> 26);
  });
  return { channels, height, width, data };
}

test("hashes are those of WebCrypto, where that is missing", async () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 1000]) {
    const data = Uint8Array.from({ length }, (_, i) => (i * 31) % 256);
    const expected = createHash("sha256").update(data).digest("hex");
    expect(Buffer.from(digestOf(data)).toString("hex")).toBe(expected);
    expect(await sha256(data)).toBe(expected);
  }
});

test("canonical JSON keeps numbers as they are", () => {
  const text = '{"b":[1,1.0,-0,-0.0,1e2,0.00001,0.000001,1E+16,18446744073709551615],"a":{"z":null,"é":true}}';
  expect(canonicalJson(parseJson(new TextEncoder().encode(text)))).toBe(
    '{"a":{"z":null,"é":true},"b":[1,1.0,0,-0.0,100.0,0.00001,1e-6,1e16,18446744073709551615]}',
  );
});

test("percentiles are linear between samples", () => {
  expect(percentile([4, 1, 3, 2], 50)).toBe(2.5);
  expect(percentile([5], 99)).toBe(5);
});

describe("a Denoiser", () => {
  test("passes the self-test on opening, and reports it", async () => {
    const denoiser = await load(packed(TINY), { ...HERE, selfTest: true });
    const report = await denoiser.selfTest();
    expect(report.passed).toBe(true);
    expect(report.variants.map(({ variant }) => variant)).toEqual(["onnx-fp32", "onnx-int8-u8s7"]);
    expect(report.variants[0]!.psnrDb).toBeGreaterThan(100);
    expect(report.variants.every(({ tiledPsnrDb }) => tiledPsnrDb === Infinity || tiledPsnrDb! > 60)).toBe(true);
    expect(denoiser.device).toMatchObject({ device: "wasm", version: "1.30.0", threads: 1, adapter: null });
    await denoiser.close();
  });

  test("measures every variant in turns", async () => {
    const denoiser = await load(packed(TINY), HERE);
    const seen: string[] = [];
    const bench = await denoiser.bench({ size: 32, rounds: 6, warmUp: 1, onProgress: (_, __, name) => seen.push(name) });
    expect(seen).toEqual(Array(4).fill(["onnx-fp32", "onnx-int8-u8s7"]).flat());
    expect(bench.results.map(({ timesMs }) => timesMs.length)).toEqual([6, 6]);
    expect(bench.sustained).toBeNull();
    await denoiser.close();
  });

  test("gives the same in tiles as whole, and reports progress", async () => {
    const denoiser = await load(packed(TINY), { ...HERE, precision: "fp32" });
    const image = noisy(70, 50);
    const before = image.data.slice();
    const whole = await denoiser.denoise(image, { tile: 0 });
    const done: number[] = [];
    const tiled = await denoiser.denoise(image, { tile: 32, onProgress: (one) => done.push(one.done) });
    expect([...tiled.image.data]).toEqual([...whole.image.data]);
    expect(image.data).toEqual(before);
    expect(tiled.tiles).toBe(6);
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6]);
    await denoiser.close();
  });

  test("keeps gray images gray and hidden pixels as they are", async () => {
    const denoiser = await load(packed(TINY), HERE);
    const gray = await denoiser.denoise(noisy(32, 32, 1));
    expect(gray.image.data).toHaveLength(32 * 32);

    const image = noisy(40, 40);
    const alpha = new Uint8Array(1600).fill(255);
    alpha.fill(0, 0, 400);
    const dark = { ...image, data: image.data.map((value, i) => (i % 1600 < 400 ? 0 : value)) as Uint8Array, alpha };
    const bright = { ...image, data: image.data.map((value, i) => (i % 1600 < 400 ? 255 : value)) as Uint8Array, alpha };
    const [one, two] = [await denoiser.denoise(dark), await denoiser.denoise(bright)];
    for (let i = 0; i < one.image.data.length; i++) {
      if (i % 1600 < 400) expect([one.image.data[i], two.image.data[i]]).toEqual([0, 255]);
      else expect(one.image.data[i]).toBe(two.image.data[i]);
    }
    await denoiser.close();
  });

  test("returns the input for strength 0 and for images with hardly any noise", async () => {
    const denoiser = await load(packed(LEVEL), HERE);
    const image = noisy(48, 48);
    const none = await denoiser.denoise(image, { strength: 0 });
    expect(none).toMatchObject({ unchanged: true, noiseLsb: null, tiles: 0 });
    expect(none.image.data).toEqual(image.data);
    const flat: Planes = { ...image, data: new Uint8Array(3 * 48 * 48).map((_, i) => 60 + (i % 48)) };
    const clean = await denoiser.denoise(flat);
    expect(clean.unchanged).toBe(true);
    expect(clean.image.data).toEqual(flat.data);
    await denoiser.close();
  });

  test("runs images of 16 bits and of little noise in float", async () => {
    const denoiser = await load(packed(LEVEL), HERE);
    expect(denoiser.choice.variant).toBe("onnx-int8-u8s7");
    const image = noisy(48, 48);
    const deep = await denoiser.denoise({ ...image, data: Uint16Array.from(image.data, (value) => value * 257) });
    expect(deep).toMatchObject({ variant: "onnx-fp32", floatReason: "images of more than 8 bits" });
    const weak = await denoiser.denoise(image, { noise: 3 });
    expect(weak).toMatchObject({ variant: "onnx-fp32", floatReason: "images with less noise than 6.9 LSB", noiseLsb: 3 });
    const strong = await denoiser.denoise(image, { noise: 12 });
    expect(strong).toMatchObject({ variant: "onnx-int8-u8s7", floatReason: null });
    await denoiser.close();
  });

  test("ends an image when its signal is aborted, and goes on with the next", async () => {
    const denoiser = await load(packed(TINY), HERE);
    const controller = new AbortController();
    const onProgress = ({ done }: { done: number }): void => {
      if (done === 1) controller.abort();
    };
    const ended = denoiser.denoise(noisy(80, 80), { tile: 32, signal: controller.signal, onProgress });
    const next = denoiser.denoise(noisy(16, 16));
    await expect(ended).rejects.toMatchObject({ name: "Interrupted", code: 130 });
    expect((await next).image.width).toBe(16);
    await denoiser.close();
    await expect(denoiser.denoise(noisy(16, 16))).rejects.toMatchObject({ name: "InferenceError" });
  });

  test.each([
    [{ strength: 1.5 }, "UsageError"],
    [{ strength: NaN }, "UsageError"],
    [{ noise: 5 }, "UsageError"],
    [{ tile: -1 }, "UsageError"],
    [{ tile: 1.5 }, "UsageError"],
  ])("refuses the options %o", async (options, name) => {
    const denoiser = await load(packed(TINY), HERE);
    await expect(denoiser.denoise(noisy(16, 16), options)).rejects.toMatchObject({ name });
    await denoiser.close();
  });

  test.each([
    ["no pixels", { channels: 3, width: 0, height: 4, data: new Uint8Array(0) }],
    ["too few samples", { channels: 3, width: 4, height: 4, data: new Uint8Array(47) }],
    ["four channels", { channels: 4, width: 2, height: 2, data: new Uint8Array(16) }],
    ["another type", { channels: 3, width: 1, height: 1, data: new Int32Array(3) }],
    ["NaN", { channels: 3, width: 1, height: 1, data: new Float32Array([0, NaN, 0]) }],
    ["floats to 255", { channels: 3, width: 1, height: 1, data: new Float32Array([0, 255, 0]) }],
    ["alpha of another size", { channels: 3, width: 1, height: 1, data: new Uint8Array(3), alpha: new Uint8Array(2) }],
  ])("refuses an image with %s", async (_, image) => {
    const denoiser = await load(packed(TINY), HERE);
    await expect(denoiser.denoise(image as unknown as Planes)).rejects.toMatchObject({ name: "ImageError", code: 11 });
    await denoiser.close();
  });
});

describe("load", () => {
  test.each([
    [{ device: "gpu" }, "UsageError"],
    [{ threads: 1000 }, "UsageError"],
    [{ tileBytes: 0 }, "UsageError"],
    [{ precision: "int4" }, "UsageError"],
    [{ precision: "fp16" }, "IncompatibleError"],
    [{ variant: "onnx-fp64" }, "IncompatibleError"],
    [{ device: "webgpu" }, "DeviceNotFoundError"],
  ])("refuses %o", async (options, name) => {
    await expect(load(packed(TINY), { ...HERE, ...options } as LoadOptions)).rejects.toMatchObject({ name });
  });

  test("states why WebGPU is not used", async () => {
    const denoiser = await load(packed(TINY), { ...HERE, device: "auto" });
    expect(denoiser.device.reason).toBe("WebGPU is not used: this browser has no WebGPU, or the page did not come over https");
    await denoiser.close();
  });

  test("refuses a network whose output is not that of the bundle", async () => {
    const swapped = packed(TINY, (files) => {
      files["onnx-fp32/model.onnx"] = Uint8Array.from(files["onnx-fp32/model.onnx"]!);
      files["onnx-fp32/model.onnx"]![30_000]! ^= 1;
    });
    await expect(load(swapped, HERE)).rejects.toMatchObject({ name: "IntegrityError", code: 22 });
  });

  test("refuses networks whose tiles must be blended", async () => {
    const blended = packed(TINY, (files) => {
      const text = new TextDecoder().decode(files["manifest.json"]).replace("edgedenoise-bundle/1", "edgedenoise-bundle/1-blended");
      files["manifest.json"] = new TextEncoder().encode(text);
    });
    await expect(load(blended, HERE)).rejects.toMatchObject({ name: "ManifestError", message: expect.stringContaining("must be blended") });
  });

  test("is ended by its signal", async () => {
    await expect(load(packed(TINY), { ...HERE, signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "Interrupted" });
  });

  test("takes a Blob, and refuses what is no bundle", async () => {
    await expect(load(new Blob(["<!doctype html>"]), HERE)).rejects.toMatchObject({ name: "IntegrityError" });
    const denoiser = await load(new Blob([packed(TINY)]), HERE);
    expect(denoiser.manifest.name).toBe("tiny");
    await denoiser.close();
    await expect(load(new Blob([packed(TINY)]), { ...HERE, precision: "fp16" })).rejects.toBeInstanceOf(IncompatibleError);
  });
});
