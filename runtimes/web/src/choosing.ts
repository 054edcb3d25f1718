/**
 * Choose the variant of a bundle that fits a device best, from what is known: nothing is timed. The rules are those of
 * Python's `runtimes/choosing.py`; a browser has one runtime, ONNX Runtime.
 */

import { IncompatibleError, UsageError } from "./errors.js";
import type { HeldOutLoss, Manifest, Precision, Variant } from "./manifest.js";
import type { Choice, DeviceName, PassedOver } from "./types.js";

/** Least PSNR to float on the self-test of an INT8 variant that `auto` takes where no loss was measured. */
const AUTO_INT8_FIDELITY_DB = 40;
const MOST_MEAN_LOSS_DB = 0.1;
const MOST_WORST_LOSS_DB = 0.3;
const RUNTIME = "onnxruntime";
const SCHEMES = ["u8s7", "u8s8"];
const ORDER: readonly Precision[] = ["int8", "fp32", "fp16", "w8a16"];

/** Return the variants of a bundle that a browser can run, and why it cannot run the others. */
export function runnable(manifest: Manifest): { variants: Variant[]; skipped: PassedOver[] } {
  const variants = manifest.variants.filter((variant) => variant.runtime === RUNTIME);
  const others = manifest.variants.filter((variant) => variant.runtime !== RUNTIME);
  return {
    variants,
    skipped: [
      ...others.map((variant) => passed(variant, `it is for ${variant.runtime}, which browsers do not have`)),
      ...manifest.unknownVariants.map((variant) => passed(variant, `this version cannot read it: ${variant.reason}`)),
    ],
  };
}

/**
 * Return the variant that fits a request best, and why the others were passed over.
 *
 * @throws UsageError there is no such precision
 * @throws IncompatibleError the bundle has no variant that fits; the message lists its variants
 */
export function choose(manifest: Manifest, source: string, precision: Precision | "auto", device: DeviceName): Choice {
  if (precision !== "auto" && !ORDER.includes(precision)) {
    throw new UsageError(`there is no precision ${JSON.stringify(precision)}; expected auto, ${ORDER.join(", ")}`);
  }
  const reasons = new Map<string, string>();
  let left = manifest.variants.filter((variant) => precision === "auto" || variant.precision === precision);
  const drop = (reasonOf: (variant: Variant) => string | null, keepLast: boolean): void => {
    const found = left.map((variant) => [variant, reasonOf(variant)] as const);
    const kept = found.filter(([, reason]) => reason === null).map(([variant]) => variant);
    if (keepLast && kept.length === 0) return;
    for (const [variant, reason] of found) if (reason !== null) reasons.set(variant.name, reason);
    left = kept;
  };
  drop((variant) => (variant.runtime === RUNTIME ? null : `it is for ${variant.runtime}, which browsers do not have`), false);
  if (precision === "auto") {
    drop((variant) => loss(manifest, variant), true);
    drop((variant) => (isSlow(variant, device) ? "it has no fast kernels for its encoding on this device" : null), true);
  }
  const chosen = [...left].sort((a, b) => compare(rank(a, device), rank(b, device)))[0];
  if (chosen === undefined) {
    const have = manifest.variants.map((one) => `${one.name} (${one.runtime}, ${one.precision})`).join(", ");
    throw new IncompatibleError(
      `${source} has no variant for ONNX Runtime and precision ${precision}; it has ${have || "none that this version can read"}`,
      { hint: "Export the network with: edgedenoise export" },
    );
  }
  for (const variant of left) {
    if (variant !== chosen) reasons.set(variant.name, `${chosen.name} is preferred on this device`);
  }
  return {
    variant: chosen.name,
    precision: chosen.precision,
    passedOver: manifest.variants.flatMap((variant) => {
      const reason = reasons.get(variant.name);
      return reason === undefined ? [] : [passed(variant, reason)];
    }),
  };
}

/**
 * Return a variant by name.
 *
 * @throws IncompatibleError there is none, or no browser can run it
 */
export function variantNamed(manifest: Manifest, source: string, name: string): Variant {
  const { variants, skipped } = runnable(manifest);
  const found = variants.find((variant) => variant.name === name);
  if (found !== undefined) return found;
  const reason = skipped.find((one) => one.variant === name)?.reason;
  throw new IncompatibleError(
    reason === undefined
      ? `${source} has no variant ${JSON.stringify(name)}; it has ${variants.map((one) => one.name).join(", ")}`
      : `a browser cannot run ${name} of ${source}: ${reason}`,
  );
}

/**
 * Return which images call for float although INT8 was chosen unasked; null where this one does not.
 *
 * @param noiseLsb - noise to remove in 8-bit levels; null for unknown
 */
export function floatReason(variant: Variant, bits: number, noiseLsb: number | null): string | null {
  if (bits > 8) return "images of more than 8 bits";
  const least = variant.loss?.leastNoiseLsb ?? 0;
  return noiseLsb === null || noiseLsb >= least ? null : `images with less noise than ${least} LSB`;
}

function passed(variant: { name: string; precision: string }, reason: string): PassedOver {
  return { variant: variant.name, precision: variant.precision, reason };
}

/** Return why a variant loses too much against float to be chosen unasked, with the numbers, or null. */
function loss(manifest: Manifest, variant: Variant): string | null {
  if (variant.loss !== null) {
    const { meanDb, worstDb } = variant.loss;
    const isSmall = meanDb <= MOST_MEAN_LOSS_DB && worstDb <= MOST_WORST_LOSS_DB;
    return isSmall ? null : `not recommended: ${lossText(variant.loss)}`;
  }
  const fidelity = variant.fidelityDb;
  if (fidelity === null || manifest.objective === "qat" || fidelity >= AUTO_INT8_FIDELITY_DB) return null;
  return `${fidelity.toFixed(1)} dB to the float output on the self-test, below ${AUTO_INT8_FIDELITY_DB} dB`;
}

function lossText(found: HeldOutLoss): string {
  const least = found.leastNoiseLsb;
  const which = least ? ` with a noise of ${least} LSB or more; those with less run in float` : "";
  return `${found.meanDb.toFixed(2)} dB lost in the mean and ${found.worstDb.toFixed(2)} dB on the worst of ${found.images} images${which}`;
}

/** Return whether an INT8 variant would not be faster than float: signed activations, and graphics cards. */
function isSlow(variant: Variant, device: DeviceName): boolean {
  if (variant.precision !== "int8") return false;
  return device === "webgpu" || (variant.encoding !== null && variant.encoding.activations !== "u8");
}

function rank(variant: Variant, device: DeviceName): readonly (number | string)[] {
  const { encoding } = variant;
  return [
    ORDER.indexOf(variant.precision),
    Number(encoding !== null && !SCHEMES.includes(encoding.scheme)),
    Number(isSlow(variant, device)),
    -(variant.fidelityDb ?? 0),
    variant.name,
  ];
}

function compare(a: readonly (number | string)[], b: readonly (number | string)[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : a[at]! < b[at]! ? -1 : 1;
}
