/** Open a bundle. */

import { RuntimeUnavailableError } from "./errors.js";
import type { Denoiser, LoadOptions } from "./types.js";

/**
 * Open a bundle for denoising.
 *
 * @param bundle - address of an `.edge` archive, or its content
 * @param options - see `LoadOptions`
 * @throws BundleError there is no bundle at the address
 * @throws ManifestError its manifest is missing, unreadable, or of another schema
 * @throws IntegrityError the archive is damaged or hostile
 * @throws IncompatibleError it has no variant that fits
 * @throws RuntimeUnavailableError ONNX Runtime cannot be loaded
 * @throws DeviceNotFoundError WebGPU was named and is not here
 * @throws ParityError the variant fails its self-test on this device
 */
export async function load(bundle: string | URL | Blob | ArrayBuffer, options: LoadOptions = {}): Promise<Denoiser> {
  throw new RuntimeUnavailableError(`the library is not finished: ${String(bundle)} ${String(options.device)}`);
}
