/** The page that tests this device: self-test, tiles against the whole image, INT8 against float, and speed. */

import { load } from "../../src/index.js";
import type { BenchReport, BenchResult, Denoiser, SelfTestReport, VariantSelfTest } from "../../src/types.js";
import { randomId } from "./bytes.js";
import { duration, megabytes, precisionName, wordsOf } from "./format.js";
import { type BundleEntry, hosted } from "./host.js";
import { deviceName, type Measured, resultFile } from "./record.js";
import { element, setText } from "./ui/elements.js";

const MACHINE = "edgedenoise-machine";
const LABEL = "edgedenoise-label";
const SIZE_PX = 256;
const ROUNDS = 20;

/** What a server answers to a result: how it judged each run of it. */
interface Verdict {
  readonly passed: boolean;
  readonly outcomes: readonly {
    readonly name: string;
    readonly variant: string;
    readonly status: string;
    readonly message: string;
  }[];
}

/** Return the identifier of this browser, which is random; a new one where nothing can be kept. */
function machineId(): string {
  const fresh = randomId();
  try {
    const kept = localStorage.getItem(MACHINE) ?? fresh;
    localStorage.setItem(MACHINE, kept);
    return kept;
  } catch {
    return fresh;
  }
}

async function measure(bundle: BundleEntry, seconds: number, label: string): Promise<Measured> {
  const startedMs = Date.now();
  const began = performance.now();
  const denoiser = await load(await hosted.source(bundle), { ...hosted.options, selfTest: false });
  try {
    step(`${bundle.name}: self-test`, 0);
    const selfTest = await denoiser.selfTest({
      onProgress: (done, total, variant) => step(`${bundle.name}: self-test of ${variant}`, (0.3 * done) / total),
    });
    const bench = await denoiser.bench({
      size: SIZE_PX,
      rounds: ROUNDS,
      sustainedSeconds: seconds,
      onProgress: (done, total, variant) => step(`${bundle.name}: timing ${variant}`, 0.3 + (0.7 * done) / total),
    });
    const durationMs = performance.now() - began;
    return { denoiser, selfTest, bench, label, machineId: machineId(), startedMs, durationMs };
  } finally {
    await denoiser.close();
  }
}

/** Send a result to the server that brought this page; null where it takes none. */
async function send(result: object): Promise<readonly Verdict[] | null> {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("api/results", { method: "POST", headers, body: JSON.stringify(result) });
  if (answer.status === 404 || answer.status === 405 || answer.status === 501) return null;
  if (!answer.ok) throw new Error(`The server did not take the result: ${await reasonOf(answer)}`);
  return (await answer.json()) as readonly Verdict[];
}

/** Return what a server says about a request that it refused. */
async function reasonOf(answer: Response): Promise<string> {
  const text = (await answer.text()).slice(0, 1000);
  try {
    const { message, hint } = JSON.parse(text) as { message?: string; hint?: string | null };
    return [message, hint].filter(Boolean).join(". ");
  } catch {
    return `${answer.status} ${text}`;
  }
}

async function run(): Promise<void> {
  const button = element<HTMLButtonElement>("run");
  const label = element<HTMLInputElement>("label").value.trim() || "a browser";
  button.disabled = true;
  element("results").replaceChildren();
  setText("error", "");
  setText("verdict", "");
  element("progress").hidden = false;
  const seconds = Number(element<HTMLSelectElement>("seconds").value);
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  try {
    localStorage.setItem(LABEL, label);
  } catch {
    // A private window keeps nothing; the name is in the result all the same.
  }
  let passed = true;
  let taken = true;
  try {
    for (const bundle of await hosted.bundles()) {
      const measured = await measure(bundle, seconds, label);
      show(measured);
      passed &&= measured.selfTest.passed;
      const result = resultFile(measured);
      document.dispatchEvent(new CustomEvent("edgedenoise-result", { detail: result }));
      const verdicts = await send(result).catch((error: unknown) => {
        setText("error", wordsOf(error)); // the other bundles are measured all the same
        return null;
      });
      taken &&= verdicts !== null;
      for (const verdict of verdicts ?? []) {
        passed &&= verdict.passed;
        for (const outcome of verdict.outcomes) if (outcome.status === "failed") showFailure(bundle, outcome);
      }
    }
    step("", 1);
    const where = taken ? "The result was sent to the server of this page." : "The result was not kept by a server.";
    setText("verdict", `${passed ? "Passed." : "Failed."} ${where}`);
    element("verdict").classList.toggle("bad", !passed);
  } catch (error) {
    setText("error", wordsOf(error));
  } finally {
    setText("step", "");
    element("progress").hidden = true;
    button.disabled = false;
    button.textContent = "Test again";
    await lock?.release();
  }
}

function step(text: string, part: number): void {
  setText("step", text);
  element<HTMLProgressElement>("progress").value = part;
}

function show({ denoiser, selfTest, bench }: Measured): void {
  const section = document.createElement("section");
  const title = document.createElement("h3");
  title.textContent = selfTest.bundle;
  const list = document.createElement("ul");
  list.append(...selfTest.variants.map((one) => variantEntry(one, bench, selfTest)));
  section.append(title, list);
  if (bench.sustained !== null) {
    const { seconds, slowdown, variant } = bench.sustained;
    const words = document.createElement("p");
    words.className = "detail";
    const change = slowdown > 1.02 ? `${Math.round(100 * (slowdown - 1))} % slower at the end` : "no slower at the end";
    words.textContent = `${variant} for ${Math.round(seconds)} s without a pause: ${change}.`;
    section.append(words);
  }
  element("results").append(section);
  setText("device", deviceWords(denoiser));
}

function variantEntry(test: VariantSelfTest, bench: BenchReport, report: SelfTestReport): HTMLElement {
  const entry = document.createElement("li");
  const name = document.createElement("p");
  name.textContent = `${test.passed ? "✓" : "✗"} ${test.variant}, ${precisionName(test.precision)}`;
  const timed = bench.results.find((result) => result.variant === test.variant);
  entry.append(name, facts(factsOf(test, timed, bench, report)));
  if (test.reason !== null) {
    const reason = document.createElement("p");
    reason.className = "error";
    reason.textContent = test.reason;
    entry.append(reason);
  }
  return entry;
}

function factsOf(
  test: VariantSelfTest,
  timed: BenchResult | undefined,
  bench: BenchReport,
  report: SelfTestReport,
): readonly (readonly [string, string])[] {
  const found: [string, string][] = [
    ["Stored answer", decibels(test.psnrDb)],
    ["Tiles to whole image", decibels(test.tiledPsnrDb)],
  ];
  if (test.precision === "int8") found.push(["INT8 to float", decibels(report.int8ToFloatDb)]);
  if (timed !== undefined) {
    found.push([`${bench.width} × ${bench.height}, p50`, duration1(timed.p50Ms)]);
    found.push(["p90, p99", `${duration1(timed.p90Ms)}, ${duration1(timed.p99Ms)}`]);
    found.push(["Opened in", duration(timed.openMs)]);
  }
  return found;
}

function facts(pairs: readonly (readonly [string, string])[]): HTMLElement {
  const list = document.createElement("dl");
  for (const [term, value] of pairs) {
    const [name, text] = [document.createElement("dt"), document.createElement("dd")];
    name.textContent = term;
    text.textContent = value;
    list.append(name, text);
  }
  return list;
}

function showFailure(bundle: BundleEntry, { variant, name, message }: Verdict["outcomes"][number]): void {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = `${bundle.name}, ${variant}, ${name}: ${message}`;
  element("results").append(line);
}

function deviceWords(denoiser: Denoiser): string {
  const { device, threads, isolated, version, adapter } = denoiser.device;
  const isolation = isolated ? "" : " The page is not isolated, so there is one thread.";
  const where = device === "webgpu" ? `WebGPU${adapter ? ` (${adapter})` : ""}` : `WebAssembly, ${threads} of ${navigator.hardwareConcurrency} threads`;
  return `onnxruntime-web ${version}, ${where}.${isolation}`;
}

function decibels(value: number | null): string {
  if (value === null) return "not run";
  return Number.isFinite(value) ? `${value.toFixed(1)} dB` : "equal";
}

function duration1(milliseconds: number): string {
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}

async function start(): Promise<void> {
  const label = element<HTMLInputElement>("label");
  let kept: string | null = null;
  try {
    kept = localStorage.getItem(LABEL);
  } catch {
    // A private window keeps nothing.
  }
  label.value = kept ?? (await deviceName());
  element("run").addEventListener("click", () => void run());
  try {
    const bundles = await hosted.bundles();
    const words = bundles.map((bundle) => `${bundle.name} (${megabytes(bundle.bytes)})`).join(", ");
    setText("step", `To test: ${words}.`);
  } catch (error) {
    setText("error", wordsOf(error));
  }
  document.documentElement.dataset.ready = "yes";
}

void start();
