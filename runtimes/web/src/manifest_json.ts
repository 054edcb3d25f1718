/** Read `manifest.json`: schema, digest, paths, and variants that only a newer version knows. */

import { isInside } from "./archive.js";
import { EdgeDenoiseError, IntegrityError, ManifestError } from "./errors.js";
import { canonicalJson, isArray, isObject, JsonNumber, type JsonObject, type JsonValue, parseJson } from "./json.js";
import type {
  Encoding, FileRecord, HeldOutLoss, InputShapes, Manifest, NoiseLevel, NormalizationKind, Precision, UnknownVariant,
  Variant,
} from "./manifest.js";
import { sha256 } from "./sha256.js";

const SCHEMA = "edgedenoise-bundle/1";
/** Schema of bundles whose tiles must be blended, which this library does not do. */
const BLENDED_SCHEMA = "edgedenoise-bundle/1-blended";
export const MAX_MANIFEST_BYTES = 16 << 20;
const MAX_COUNT = 2 ** 53;
const MAX_SIDE_PX = 1 << 16;
const MAX_SIDES = 128;
const VARIANT_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const HINT = "Copy the bundle again from where it came, or rebuild it with: edgedenoise build";

/**
 * Read and check the content of a manifest.
 *
 * @param data - the JSON
 * @param source - what messages call the bundle
 * @throws ManifestError it is unreadable or of another schema
 * @throws IntegrityError it was changed, or names files outside the bundle
 */
export async function parseManifest(data: Uint8Array, source: string): Promise<Manifest> {
  const path = `${source}/manifest.json`;
  let raw: JsonObject;
  let manifest: Omit<Manifest, "variants" | "unknownVariants">;
  let variants: readonly (Variant | UnknownVariant)[];
  let files: readonly string[];
  try {
    raw = object(parseJson(data), "$");
    const schema = raw.get("schema");
    if (schema === BLENDED_SCHEMA) {
      throw new ManifestError(`${source} has a network whose tiles must be blended, which the browser library does not do`, {
        hint: "Run it with Python: edgedenoise denoise",
      });
    }
    if (schema !== SCHEMA) {
      throw new ManifestError(
        `${source} has another schema; expected '${SCHEMA}', got ${schema === undefined ? "none" : canonicalJson(schema)}`,
        { hint: "Reload the page to get a newer version of the library." },
      );
    }
    const entries = list(raw.get("variants"), "$.variants").map((entry) => object(entry, "$.variants[...]"));
    variants = entries.map(variantOf);
    files = entries.map((entry) => text(entry.get("path"), "$.variants[...].path"));
    manifest = fieldsOf(raw);
  } catch (error) {
    if (error instanceof EdgeDenoiseError || !(error instanceof SyntaxError)) throw error;
    throw new ManifestError(`${path} cannot be read: ${error.message}`, { hint: HINT, cause: error });
  }
  const content = canonicalJson(new Map([...raw, ["digest", ""]]));
  if (manifest.digest !== (await sha256(new TextEncoder().encode(content)))) {
    throw new IntegrityError(`${path} is damaged or was changed by hand: its digest does not match its content`, {
      hint: HINT,
    });
  }
  for (const relative of [...manifest.files.keys(), ...files]) {
    if (!isInside(relative)) throw new IntegrityError(`${path} names a file outside the bundle: ${JSON.stringify(relative)}`);
  }
  variants.forEach((variant, i) => {
    if (!files[i]!.startsWith(`${variant.name}/`)) {
      throw new IntegrityError(`${path} has the variant ${variant.name} outside its folder: ${JSON.stringify(files[i])}`);
    }
  });
  return {
    ...manifest,
    variants: variants.filter((variant): variant is Variant => "path" in variant),
    unknownVariants: variants.filter((variant): variant is UnknownVariant => !("path" in variant)),
  };
}

function fieldsOf(raw: JsonObject): Omit<Manifest, "variants" | "unknownVariants"> {
  const network = object(raw.get("network"), "$.network");
  const tiling = object(raw.get("tiling"), "$.tiling");
  const normalization = oneOf<NormalizationKind>(raw.get("normalization"), "$.normalization", [
    "whole-image", "whole-image-bounded", "unit",
  ]);
  if (tiling.has("blend_px")) throw new SyntaxError("the schema contradicts the tiles: expected no $.tiling.blend_px");
  const limit = optional(raw.get("normalization_limit"), (value) => float(value, "$.normalization_limit"));
  const isBounded = normalization === "whole-image-bounded";
  if (isBounded !== (limit !== null) || (limit !== null && !(limit >= 0.1 && limit <= 1000))) {
    throw new SyntaxError(`the normalization ${normalization} is not accepted with the limit ${limit}`);
  }
  optional(raw.get("parity"), checkParity);
  optional(raw.get("calibration"), checkCalibration);
  optional(raw.get("limits"), checkLimits);
  return {
    name: text(raw.get("name"), "$.name"),
    createdBy: text(raw.get("created_by"), "$.created_by"),
    network: {
      name: text(network.get("name"), "$.network.name"),
      parameters: count(network.get("parameters"), "$.network.parameters"),
      macsPerPx: count(network.get("macs_per_px"), "$.network.macs_per_px"),
    },
    normalization,
    normalizationLimit: limit,
    tiling: {
      haloPx: integer(tiling.get("halo_px"), "$.tiling.halo_px", 0, 1024),
      multipleOf: either(tiling, "multiple_of", 1, (value) => integer(value, "$.tiling.multiple_of", 1, 256)),
      bytesPerPx: either(tiling, "bytes_per_px", 4096, (value) => integer(value, "$.tiling.bytes_per_px", 1, 1 << 24)),
    },
    objective: optional(raw.get("training"), objectiveOf),
    noiseLevel: optional(raw.get("noise_level"), noiseLevelOf),
    about: either(raw, "about", "", (value) => text(value, "$.about")),
    files: either<ReadonlyMap<string, FileRecord>>(raw, "files", new Map(), filesOf),
    digest: either(raw, "digest", "", (value) => text(value, "$.digest")),
  };
}

function variantOf(entry: JsonObject): Variant | UnknownVariant {
  try {
    return {
      name: variantName(entry),
      runtime: text(entry.get("runtime"), "runtime"),
      precision: oneOf<Precision>(entry.get("precision"), "precision", ["fp32", "fp16", "int8", "w8a16"]),
      path: text(entry.get("path"), "path"),
      encoding: optional(entry.get("encoding"), encodingOf),
      fidelityDb: optional(entry.get("fidelity_db"), (value) => float(value, "fidelity_db", 0, 1000)),
      shapes: optional(entry.get("shapes"), shapesOf),
      loss: optional(entry.get("loss"), lossOf),
    };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    text(entry.get("path"), "path");
    return {
      name: variantName(entry),
      runtime: text(entry.get("runtime"), "runtime"),
      precision: text(entry.get("precision"), "precision"),
      reason: error.message,
    };
  }
}

function variantName(entry: JsonObject): string {
  const name = text(entry.get("name"), "name");
  if (!VARIANT_NAME.test(name)) throw new SyntaxError(`expected a plain name, got ${JSON.stringify(name)}`);
  return name;
}

function encodingOf(value: JsonValue): Encoding {
  const found = object(value, "encoding");
  either(found, "calibrator", "", (one) => text(one, "encoding.calibrator"));
  either(found, "float_layers", null, (one) => list(one, "encoding.float_layers").map((name) => text(name, "float_layers")));
  either(found, "weight_clip", "none", (one) => oneOf(one, "encoding.weight_clip", ["none", "mse"]));
  either(found, "bias_correction", "none", (one) => oneOf(one, "encoding.bias_correction", ["none", "mean"]));
  optional(found.get("trained_ranges"), (one) => integer(one, "encoding.trained_ranges"));
  return {
    scheme: text(found.get("scheme"), "encoding.scheme"),
    activations: oneOf(found.get("activations"), "encoding.activations", ["u8", "s8"]),
    weights: oneOf(found.get("weights"), "encoding.weights", ["s8"]),
    weightBits: integer(found.get("weight_bits"), "encoding.weight_bits"),
  };
}

function shapesOf(value: JsonValue): InputShapes {
  const found = object(value, "shapes");
  const kind = oneOf<InputShapes["kind"]>(found.get("kind"), "shapes.kind", ["fixed", "enumerated", "ranged"]);
  const sides = list(found.get("sides_px"), "shapes.sides_px").map((side) => integer(side, "shapes.sides_px"));
  const wanted = { fixed: 1, ranged: 3, enumerated: sides.length }[kind];
  const ascends = sides.every((side, i) => i === 0 || side >= sides[i - 1]!);
  const last = sides.at(-1);
  if (last === undefined || sides.length !== wanted || !ascends || sides[0]! < 1 || last > MAX_SIDE_PX || sides.length > MAX_SIDES) {
    throw new SyntaxError(`shapes of the kind ${kind} have the sides ${sides.join(", ")}`);
  }
  return { kind, sidesPx: sides };
}

function lossOf(value: JsonValue): HeldOutLoss {
  const found = object(value, "loss");
  return {
    meanDb: float(found.get("mean_db"), "loss.mean_db", -1000, 1000),
    worstDb: float(found.get("worst_db"), "loss.worst_db", -1000, 1000),
    images: integer(found.get("images"), "loss.images", 1, MAX_COUNT),
    truth: oneOf(found.get("truth"), "loss.truth", ["clean", "replayed"]),
    leastNoiseLsb: either(found, "least_noise_lsb", 0, (one) => float(one, "loss.least_noise_lsb", 0, 255)),
  };
}

function objectiveOf(value: JsonValue): string {
  const found = object(value, "$.training");
  count(found.get("steps"), "$.training.steps");
  float(found.get("hours"), "$.training.hours", 0);
  either(found, "clean", false, (one) => {
    if (typeof one !== "boolean") throw new SyntaxError("expected a Boolean at $.training.clean");
    return one;
  });
  return text(found.get("objective"), "$.training.objective");
}

function noiseLevelOf(value: JsonValue): NoiseLevel {
  const found = object(value, "$.noise_level");
  const gain = float(found.get("gain"), "$.noise_level.gain", 0, 1000);
  if (gain === 0) throw new SyntaxError("expected more than 0 at $.noise_level.gain");
  return {
    estimator: text(found.get("estimator"), "$.noise_level.estimator"),
    version: integer(found.get("version"), "$.noise_level.version", 1, 1000),
    gain,
  };
}

function filesOf(value: JsonValue): ReadonlyMap<string, FileRecord> {
  const records = [...object(value, "$.files")].map(([name, entry]): [string, FileRecord] => {
    const record = object(entry, "$.files[...]");
    return [
      name,
      {
        sha256: text(record.get("sha256"), "$.files[...].sha256"),
        sizeBytes: count(record.get("size_bytes"), "$.files[...].size_bytes"),
      },
    ];
  });
  return new Map(records);
}

function checkParity(value: JsonValue): void {
  const found = object(value, "$.parity");
  for (const size of list(found.get("sizes"), "$.parity.sizes")) {
    const sides = list(size, "$.parity.sizes[...]");
    if (sides.length !== 2) throw new SyntaxError("expected two sides at $.parity.sizes[...]");
    sides.forEach((side) => integer(side, "$.parity.sizes[...]"));
  }
  float(found.get("max_relative_error"), "$.parity.max_relative_error");
  optional(found.get("max_error_lsb"), (one) => float(one, "$.parity.max_error_lsb"));
}

function checkCalibration(value: JsonValue): void {
  const found = object(value, "$.calibration");
  count(found.get("crops"), "$.calibration.crops");
  count(found.get("photographs"), "$.calibration.photographs");
  integer(found.get("seed"), "$.calibration.seed");
  either(found, "noise_levels", null, (one) => list(one, "$.calibration.noise_levels").map((level) => float(level, "noise_levels")));
}

function checkLimits(value: JsonValue): void {
  const found = object(value, "$.limits");
  for (const [name, most] of [["max_drop_db", 100], ["min_psnr_db", 1000], ["max_error_lsb", 255], ["max_ms", Infinity]] as const) {
    const limit = optional(found.get(name), (one) => float(one, `$.limits.${name}`, 0, most));
    if (name === "max_ms" && limit === 0) throw new SyntaxError("expected more than 0 at $.limits.max_ms");
  }
}

function object(value: JsonValue | undefined, where: string): JsonObject {
  if (!isObject(value)) throw new SyntaxError(`expected an object at ${where}`);
  return value;
}

function list(value: JsonValue | undefined, where: string): readonly JsonValue[] {
  if (!isArray(value)) throw new SyntaxError(`expected an array at ${where}`);
  return value;
}

function text(value: JsonValue | undefined, where: string): string {
  if (typeof value !== "string") throw new SyntaxError(`expected a text at ${where}`);
  return value;
}

function oneOf<T extends string>(value: JsonValue | undefined, where: string, accepted: readonly T[]): T {
  const found = accepted.find((one) => one === value);
  if (found === undefined) throw new SyntaxError(`expected one of ${accepted.join(", ")} at ${where}`);
  return found;
}

function integer(value: JsonValue | undefined, where: string, least = -Infinity, most = Infinity): number {
  if (!(value instanceof JsonNumber) || !value.isInteger || value.value < least || value.value > most) {
    throw new SyntaxError(`expected a whole number from ${least} to ${most} at ${where}`);
  }
  return value.value;
}

function count(value: JsonValue | undefined, where: string): number {
  return integer(value, where, 0, MAX_COUNT);
}

function float(value: JsonValue | undefined, where: string, least = -Infinity, most = Infinity): number {
  if (!(value instanceof JsonNumber) || value.value < least || value.value > most) {
    throw new SyntaxError(`expected a number from ${least} to ${most} at ${where}`);
  }
  return value.value;
}

/** Return a field that may be null or missing. */
function optional<T>(value: JsonValue | undefined, read: (value: JsonValue) => T): T | null {
  return value === undefined || value === null ? null : read(value);
}

/** Return a field that may be missing, but not null. */
function either<T>(from: JsonObject, name: string, otherwise: T, read: (value: JsonValue) => T): T {
  const value = from.get(name);
  return value === undefined ? otherwise : read(value);
}
