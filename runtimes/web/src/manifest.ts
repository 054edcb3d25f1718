/** The content of a bundle's `manifest.json`; docs/reference/bundle-format.md describes every field. */

export type Precision = "fp32" | "fp16" | "int8" | "w8a16";
export type NormalizationKind = "whole-image" | "whole-image-bounded" | "unit";

/** Requirements of a network on its tiles. */
export interface Tiling {
  /** Receptive-field radius in input pixels: the context that a tile needs on every side. */
  readonly haloPx: number;
  /** Tile origins and sides are multiples of this. */
  readonly multipleOf: number;
  /** Estimate of peak working memory per input pixel of a tile. */
  readonly bytesPerPx: number;
}

/** How a quantized variant was encoded. */
export interface Encoding {
  readonly scheme: string;
  readonly activations: "u8" | "s8";
  readonly weights: "s8";
  readonly weightBits: number;
}

/** PSNR that integers lose against float, on images that calibration did not use. */
export interface HeldOutLoss {
  readonly meanDb: number;
  readonly worstDb: number;
  readonly images: number;
  readonly truth: "clean" | "replayed";
  /** Least noise of an image in 8-bit levels for which integers are recommended; 0 for all images. */
  readonly leastNoiseLsb: number;
}

/** The square inputs that a file accepts; the sides include the margins of tiles. */
export interface InputShapes {
  readonly kind: "fixed" | "enumerated" | "ranged";
  readonly sidesPx: readonly number[];
}

/** One form of the network, for one runtime and precision. */
export interface Variant {
  readonly name: string;
  readonly runtime: string;
  readonly precision: Precision;
  /** The file that the runtime opens, relative to the bundle, with `/`. */
  readonly path: string;
  readonly encoding: Encoding | null;
  readonly fidelityDb: number | null;
  readonly shapes: InputShapes | null;
  readonly loss: HeldOutLoss | null;
}

/** A variant that only a newer version can read. */
export interface UnknownVariant {
  readonly name: string;
  readonly runtime: string;
  readonly precision: string;
  /** Which field cannot be read. */
  readonly reason: string;
}

/** Hash and size of a file when it was written. */
export interface FileRecord {
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** How the noise level of every pixel is computed, which a network takes as a fourth input channel. */
export interface NoiseLevel {
  readonly estimator: string;
  readonly version: number;
  readonly gain: number;
}

/** Everything that a host must know about a bundle. */
export interface Manifest {
  readonly name: string;
  readonly createdBy: string;
  readonly network: { readonly name: string; readonly parameters: number; readonly macsPerPx: number };
  readonly normalization: NormalizationKind;
  /** Largest absolute value that `whole-image-bounded` gives; null for the other kinds. */
  readonly normalizationLimit: number | null;
  readonly tiling: Tiling;
  readonly variants: readonly Variant[];
  readonly unknownVariants: readonly UnknownVariant[];
  /** How the network was trained; `qat` is training with quantization. */
  readonly objective: string | null;
  readonly noiseLevel: NoiseLevel | null;
  /** Markdown: data and their licence, measured quality. */
  readonly about: string;
  /** Path relative to the bundle -> record, for every file but the manifest. */
  readonly files: ReadonlyMap<string, FileRecord>;
  /** SHA-256 of the manifest's own JSON. */
  readonly digest: string;
}
