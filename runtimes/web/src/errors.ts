/** The errors of the library: the same classes and codes as in Python, so that a host handles both in one way. */

export interface ErrorOptions {
  /** What to do next; null where there is no advice. */
  readonly hint?: string | null;
  readonly cause?: unknown;
}

/**
 * Base class of all errors that the library raises on purpose.
 *
 * `message` states what happened, then `expected ..., got ...`.
 */
export class EdgeDenoiseError extends Error {
  /** Code of the class: the exit code that Python's command line has for it. */
  static readonly code: number = 1;
  /** What to do next; null where there is no advice. */
  readonly hint: string | null;

  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.errorName;
    this.hint = options.hint ?? null;
  }

  /** Name of the class. Minifiers rename classes, so it is written out. */
  static readonly errorName: string = "EdgeDenoiseError";

  /** Code of this error's class. */
  get code(): number {
    return (this.constructor as typeof EdgeDenoiseError).code;
  }
}

/** An option or argument is not accepted. */
export class UsageError extends EdgeDenoiseError {
  static override readonly code = 2 as number;
  static override readonly errorName = "UsageError" as string;
}

/** Something is wrong with the given image. */
export class DataError extends EdgeDenoiseError {
  static override readonly code = 10 as number;
  static override readonly errorName = "DataError" as string;
}

/** The image is of an unsupported kind. */
export class ImageError extends DataError {
  static override readonly code = 11 as number;
  static override readonly errorName = "ImageError" as string;
}

/** Something is wrong with a bundle. */
export class BundleError extends EdgeDenoiseError {
  static override readonly code = 20 as number;
  static override readonly errorName = "BundleError" as string;
}

/** The manifest is missing, unreadable, or of an unknown schema. */
export class ManifestError extends BundleError {
  static override readonly code = 21 as number;
  static override readonly errorName = "ManifestError" as string;
}

/** A file differs from the one that the manifest records, or an archive is hostile. */
export class IntegrityError extends BundleError {
  static override readonly code = 22 as number;
  static override readonly errorName = "IntegrityError" as string;
}

/** The bundle is valid, but has no variant that fits the request. */
export class IncompatibleError extends BundleError {
  static override readonly code = 23 as number;
  static override readonly errorName = "IncompatibleError" as string;
}

/** Two computations that must give the same pixels differ: a variant fails its self-test. */
export class ParityError extends EdgeDenoiseError {
  static override readonly code = 50 as number;
  static override readonly errorName = "ParityError" as string;
}

/** The runtime cannot be loaded: its WebAssembly is missing, or the browser refuses it. */
export class RuntimeUnavailableError extends EdgeDenoiseError {
  static override readonly code = 60 as number;
  static override readonly errorName = "RuntimeUnavailableError" as string;
}

/** A device cannot run the request. */
export class DeviceError extends EdgeDenoiseError {
  static override readonly code = 70 as number;
  static override readonly errorName = "DeviceError" as string;
}

/** The requested device is not here: WebGPU without an adapter. */
export class DeviceNotFoundError extends DeviceError {
  static override readonly code = 71 as number;
  static override readonly errorName = "DeviceNotFoundError" as string;
}

/** An image or a tile did not fit into memory. */
export class DeviceMemoryError extends DeviceError {
  static override readonly code = 73 as number;
  static override readonly errorName = "DeviceMemoryError" as string;
}

/** A session got invalid input, or gave invalid output. */
export class InferenceError extends EdgeDenoiseError {
  static override readonly code = 80 as number;
  static override readonly errorName = "InferenceError" as string;
}

/** A session gave NaN or infinity. */
export class NotFiniteError extends InferenceError {
  static override readonly code = 81 as number;
  static override readonly errorName = "NotFiniteError" as string;
}

/** A command that measures variants could not measure any of them. */
export class MeasurementError extends EdgeDenoiseError {
  static override readonly code = 100 as number;
  static override readonly errorName = "MeasurementError" as string;
}

/** The caller's `AbortSignal` ended the work; Python raises `Interrupted`, with the same code. */
export class Interrupted extends EdgeDenoiseError {
  static override readonly code = 130 as number;
  static override readonly errorName = "Interrupted" as string;
}

/** Every class by its name: a worker sends names, and the page makes the error again. */
export const ERRORS: Readonly<Record<string, typeof EdgeDenoiseError>> = Object.fromEntries(
  [
    EdgeDenoiseError,
    UsageError,
    DataError,
    ImageError,
    BundleError,
    ManifestError,
    IntegrityError,
    IncompatibleError,
    ParityError,
    RuntimeUnavailableError,
    DeviceError,
    DeviceNotFoundError,
    DeviceMemoryError,
    InferenceError,
    NotFiniteError,
    MeasurementError,
    Interrupted,
  ].map((error) => [error.errorName, error]),
);
