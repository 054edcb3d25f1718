/** The network of the page: one session at a time, opened when it is needed. */

import { load } from "../../src/index.js";
import type { Denoiser, DeviceName, Precision } from "../../src/types.js";
import type { BundleEntry, Host } from "./host.js";

/** What the user has chosen to run. */
export interface Wanted {
  /** A bundle of the page, or a file of the user. */
  readonly bundle: BundleEntry | File;
  readonly precision: Precision | "auto";
  readonly device: DeviceName | "auto";
}

export class Network {
  private open: { readonly wanted: Wanted; readonly denoiser: Denoiser } | null = null;

  constructor(private readonly host: Host) {}

  /** Return the open network for a wish; another one is closed first. */
  async get(wanted: Wanted, signal?: AbortSignal): Promise<Denoiser> {
    const { bundle, precision, device } = wanted;
    const held = this.open?.wanted;
    if (this.open && held?.bundle === bundle && held.precision === precision && held.device === device) return this.open.denoiser;
    await this.close();
    const source = bundle instanceof File ? await bundle.arrayBuffer() : await this.host.source(bundle);
    const denoiser = await load(source, { precision, device, ...this.host.options, ...(signal ? { signal } : {}) });
    this.open = { wanted, denoiser };
    return denoiser;
  }

  /** Close the session and its worker, also after one has failed. */
  async close(): Promise<void> {
    const open = this.open;
    this.open = null;
    await open?.denoiser.close().catch(() => undefined);
  }
}
