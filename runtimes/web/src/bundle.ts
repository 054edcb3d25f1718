/** An opened bundle: its manifest, and its files, each checked against the manifest's record. */

import { Archive, MANIFEST } from "./archive.js";
import { InferenceError, IntegrityError } from "./errors.js";
import type { Manifest, Variant } from "./manifest.js";
import { MAX_MANIFEST_BYTES, parseManifest } from "./manifest_json.js";
import { type FloatArray, parseNpy } from "./npy.js";
import { externalTensor } from "./onnx_data.js";
import { sha256 } from "./sha256.js";

const IMAGE_FILE = "selftest/picture.npy";
const ANSWER_FILE = "selftest/answer.npy";
const MAX_IMAGE_PX = 1024;
export const CHANNELS = 3;
const HINT = "Copy the bundle again from where it came, or rebuild it with: edgedenoise build";

export class Bundle {
  private constructor(
    private readonly archive: Archive,
    readonly manifest: Manifest,
  ) {}

  /**
   * Open an archive and check every file that its manifest records.
   *
   * @param data - the archive; it must not change afterwards
   * @param source - what messages call it
   * @throws ManifestError the manifest is unreadable or of another schema
   * @throws IntegrityError the archive is damaged or hostile
   */
  static async open(data: Uint8Array, source: string): Promise<Bundle> {
    const archive = Archive.open(data, source);
    const manifest = await parseManifest(archive.read(MANIFEST, MAX_MANIFEST_BYTES), source);
    const bundle = new Bundle(archive, manifest);
    for (const name of manifest.files.keys()) {
      if (!archive.has(name)) throw new IntegrityError(`${source}: the file ${name} is missing`, { hint: HINT });
    }
    for (const name of manifest.files.keys()) await bundle.read(name);
    return bundle;
  }

  /** What messages call the bundle. */
  get source(): string {
    return this.archive.source;
  }

  /** Number of input channels of the network: the image, and the noise level where the network takes it. */
  get inputChannels(): number {
    return this.manifest.noiseLevel === null ? CHANNELS : CHANNELS + 1;
  }

  /** Return the checked content of a file. */
  async read(name: string): Promise<Uint8Array> {
    const record = this.manifest.files.get(name);
    if (record === undefined) throw new IntegrityError(`${this.source}: the manifest records no file ${name}`);
    const content = this.archive.read(name, record.sizeBytes);
    const digest = await sha256(content);
    if (digest !== record.sha256) {
      throw new IntegrityError(
        `${this.source}: ${name} is damaged or was changed: its SHA-256 begins ${digest.slice(0, 12)}, the manifest` +
          ` recorded ${record.sha256.slice(0, 12)}`,
        { hint: HINT },
      );
    }
    return content;
  }

  /** Return the checked model of a variant, which keeps all its weights in one file. */
  async model(variant: Variant): Promise<Uint8Array> {
    const data = await this.read(variant.path);
    let tensor: string | null;
    try {
      tensor = externalTensor(data);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new InferenceError(`${this.source}: ${variant.path} is not an ONNX model: ${reason}`);
    }
    if (tensor !== null) {
      throw new IntegrityError(
        `${this.source}: ${variant.path} keeps the weights ${tensor} in another file, which no hash protects; expected` +
          " all weights in the model file",
        { hint: "Export the model again without external data." },
      );
    }
    return data;
  }

  /**
   * Return the image of the self-test and the float output for it, in [0, 1].
   *
   * @throws IntegrityError the files are damaged, or do not belong together
   */
  async selfTestPair(): Promise<{ image: FloatArray; answer: FloatArray }> {
    const [image, answer] = await Promise.all([this.array(IMAGE_FILE), this.array(ANSWER_FILE)]);
    const [channels, height, width] = image.shape;
    const fits = image.shape.length === 3 && channels === this.inputChannels && `${answer.shape}` === `${[CHANNELS, height, width]}`;
    if (!fits || image.data.length === 0 || !image.data.every(Number.isFinite)) {
      throw new IntegrityError(
        `${this.source}: the self-test has the shapes (${image.shape}) and (${answer.shape}); expected` +
          ` (${this.inputChannels}, H, W) and (${CHANNELS}, H, W) with finite values`,
      );
    }
    if (Math.max(height ?? 0, width ?? 0) > MAX_IMAGE_PX) {
      throw new IntegrityError(`${this.source}: the self-test has ${width}x${height} pixels; expected at most ${MAX_IMAGE_PX} on a side`);
    }
    return { image, answer };
  }

  private async array(name: string): Promise<FloatArray> {
    const data = await this.read(name);
    try {
      return parseNpy(data);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new IntegrityError(`${this.source}: ${name} cannot be read: ${reason}`, { hint: HINT });
    }
  }
}
