/** The record of a measurement: a file of the schema `edgedenoise-result/1`, as every client writes it. */

import { randomId } from "./bytes.js";
import type { BenchReport, Denoiser, SelfTestReport, VariantSelfTest } from "../../src/types.js";

declare const __VERSION__: string;

/** Everything that is measured of one bundle. */
export interface Measured {
  readonly denoiser: Denoiser;
  readonly selfTest: SelfTestReport;
  readonly bench: BenchReport;
  readonly label: string;
  /** Identifier of this browser: random, and kept in it. */
  readonly machineId: string;
  readonly startedMs: number;
  readonly durationMs: number;
}

/** From this slowdown on, heat or a power limit slowed the device. */
const THROTTLED = 1.15;

interface UserAgentData {
  readonly platform?: string;
  readonly mobile?: boolean;
  readonly brands?: readonly { readonly brand: string; readonly version: string }[];
  getHighEntropyValues?(hints: readonly string[]): Promise<Record<string, string>>;
}

/** Return a name of the device that people recognise, as far as the browser states one. */
export async function deviceName(): Promise<string> {
  const data = (navigator as { userAgentData?: UserAgentData }).userAgentData;
  const more = (await data?.getHighEntropyValues?.(["model"]).catch(() => null)) ?? {};
  const model = more.model ?? "";
  if (model !== "") return model;
  return /iPhone|iPad/.exec(navigator.userAgent)?.[0] ?? data?.platform ?? systemOf(navigator.userAgent);
}

function systemOf(agent: string): string {
  const found = /Android [\d.]+|iPhone OS [\d_]+|CPU OS [\d_]+|Mac OS X [\d_.]+|Windows NT [\d.]+|CrOS|Linux/.exec(agent)?.[0];
  return (found ?? "unknown system").replaceAll("_", ".").replace("CPU OS", "iPadOS").replace("iPhone OS", "iOS");
}

function browserOf(agent: string): { readonly name: string; readonly version: string } {
  const found = /(Firefox|FxiOS|EdgA?|OPR|SamsungBrowser|CriOS|Chrome)\/([\d.]+)/.exec(agent) ?? /(Version)\/([\d.]+).*Safari/.exec(agent);
  const names: Record<string, string> = { Edg: "Edge", EdgA: "Edge", OPR: "Opera", FxiOS: "Firefox", CriOS: "Chrome", Version: "Safari" };
  return { name: names[found?.[1] ?? ""] ?? found?.[1] ?? "browser", version: found?.[2] ?? "" };
}

/** Return the record of one bundle on this device, valid under `edgedenoise-result/1`. */
export function resultFile(measured: Measured): object {
  const { denoiser, bench, selfTest } = measured;
  const { manifest } = denoiser;
  const device = bench.device;
  const browser = browserOf(navigator.userAgent);
  const memory = (navigator as { deviceMemory?: number }).deviceMemory;
  const machine = {
    id: measured.machineId,
    label: measured.label,
    system: `${systemOf(navigator.userAgent)}, ${browser.name} ${browser.version}`.trim(),
    architecture: "wasm32",
    cores: navigator.hardwareConcurrency,
    memory_bytes: memory === undefined ? null : memory * 2 ** 30,
    accelerators: device.adapter === null ? [] : [device.adapter],
  };
  const slowdown = bench.sustained?.slowdown ?? null;
  const run = {
    id: randomId(),
    command: "bench",
    started: new Date(measured.startedMs).toISOString().replace(/\.\d+Z$/, "Z"),
    duration_s: measured.durationMs / 1000,
    client: { name: "web", version: __VERSION__ },
    machine,
    environment: {
      versions: { "onnxruntime-web": device.version, [browser.name]: browser.version },
      threads: device.threads,
      throttled: slowdown === null ? null : slowdown > THROTTLED,
      remarks: remarks(bench),
    },
    bundle: {
      name: manifest.name,
      digest: manifest.digest,
      network: manifest.network.name,
      macs_per_px: manifest.network.macsPerPx,
    },
    variants: selfTest.variants.map((one) => variantRecord(measured, one)),
  };
  return { schema: "edgedenoise-result/1", runs: [run] };
}

function remarks(bench: BenchReport): string[] {
  const found: string[] = [];
  if (!bench.device.isolated) found.push("The page was not isolated, so WebAssembly had one thread.");
  if (bench.sustained !== null) {
    const { seconds, variant, slowdown, firstMs, lastMs } = bench.sustained;
    found.push(
      `After ${Math.round(seconds)} s of ${variant} without a pause, one inference took ${slowdown.toFixed(2)} times` +
        ` as long: ${lastMs.toFixed(1)} ms instead of ${firstMs.toFixed(1)} ms.`,
    );
  }
  return found;
}

function variantRecord({ denoiser, bench }: Measured, test: VariantSelfTest): object {
  const variant = denoiser.manifest.variants.find(({ name }) => name === test.variant);
  const timed = bench.results.find((result) => result.variant === test.variant);
  const missing = bench.skipped.find((result) => result.variant === test.variant);
  const float = bench.results.find((result) => result.precision === "fp32");
  const timing = timed && {
    scope: "network",
    height_px: bench.height,
    width_px: bench.width,
    samples_ms: timed.timesMs,
    warm_up_ms: [timed.firstMs],
  };
  return {
    name: test.variant,
    runtime: "onnxruntime-web",
    precision: test.precision,
    size_bytes: denoiser.manifest.files.get(variant?.path ?? "")?.sizeBytes ?? 0,
    runtime_version: bench.device.version,
    device: test.device,
    detail: bench.device.reason,
    scheme: variant?.encoding?.scheme ?? "",
    load_ms: timed?.openMs ?? null,
    timings: timing === undefined ? [] : [timing],
    selftest: {
      passed: test.passed,
      psnr_db: finite(test.psnrDb),
      limit_db: test.boundDb,
      max_error_lsb: test.maxErrorLsb,
      reason: test.reason ?? "",
    },
    compared_with: test.precision === "fp32" ? "" : (float?.variant ?? ""),
    error: missing?.reason ?? "",
  };
}

/** Return a number for JSON, which has no infinity: null stands for equal images. */
function finite(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null;
}
