/** Open a bundle. */

import { Engine } from "./engine.js";
import { BundleError, Interrupted, UsageError } from "./errors.js";
import { RemoteDenoiser } from "./remote.js";
import { reasonOf } from "./session.js";
import type { Denoiser, LoadOptions } from "./types.js";

/**
 * Open a bundle for denoising.
 *
 * @param bundle - address of an `.edge` archive, or its content, which is copied
 * @param options - see `LoadOptions`
 * @throws BundleError there is no bundle at the address
 * @throws ManifestError its manifest is missing, unreadable, or of another schema
 * @throws IntegrityError the archive is damaged or hostile
 * @throws IncompatibleError it has no variant that fits
 * @throws RuntimeUnavailableError ONNX Runtime cannot be loaded
 * @throws DeviceNotFoundError WebGPU was named and is not here
 * @throws ParityError the variant fails its self-test on this device
 * @throws Interrupted `signal` was aborted
 */
export async function load(bundle: string | URL | Blob | ArrayBuffer, options: LoadOptions = {}): Promise<Denoiser> {
  const { worker = typeof Worker !== "undefined", ...others } = options;
  const { data, source } = await content(bundle, options.signal);
  if (options.signal?.aborted) throw new Interrupted("the bundle was not opened, because the caller ended it");
  const rest = { ...others, runtime: { folder: ownFolder(), ...others.runtime } };
  if (worker === false) return Engine.open(new Uint8Array(data), source, rest);
  const script = worker === true ? new Worker(new URL("./worker.ts", import.meta.url), { type: "module" }) : worker();
  return RemoteDenoiser.open(script, data, source, rest);
}

/** Return the folder of ONNX Runtime's files beside this script. */
function ownFolder(): string {
  return new URL(/* @vite-ignore */ "./ort/", import.meta.url).href;
}

async function content(bundle: string | URL | Blob | ArrayBuffer, signal?: AbortSignal): Promise<{ data: ArrayBuffer; source: string }> {
  if (bundle instanceof ArrayBuffer) return { data: bundle.slice(0), source: "the bundle" };
  if (bundle instanceof Blob) return { data: await bundle.arrayBuffer(), source: bundle instanceof File ? bundle.name : "the bundle" };
  if (typeof bundle !== "string" && !(bundle instanceof URL)) {
    throw new UsageError(`the bundle is of the wrong type: expected an address, a Blob or an ArrayBuffer, got ${typeof bundle}`);
  }
  const address = String(bundle);
  try {
    const response = await fetch(address, signal === undefined ? {} : { signal });
    if (response.ok) return { data: await response.arrayBuffer(), source: address };
    throw new BundleError(`there is no bundle at ${address}: the server answered ${response.status}`);
  } catch (error) {
    if (error instanceof BundleError) throw error;
    if (signal?.aborted) throw new Interrupted("the bundle was not opened, because the caller ended it");
    throw new BundleError(`${address} cannot be fetched: ${reasonOf(error)}`, { cause: error });
  }
}
