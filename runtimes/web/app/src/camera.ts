/** A live camera: the newest frame is denoised, and frames that come meanwhile are dropped, so that nothing is late. */

import { DeviceError } from "../../src/errors.js";
import type { Denoiser } from "../../src/types.js";

/** Widths of the frames that are denoised; the largest one that keeps up is taken. */
const WIDTHS = [160, 240, 320, 480, 640, 960] as const;
const START = 1;
const [SLOW_MS, FAST_MS] = [400, 90] as const;
/** Frames between two changes of the width, and for the shown numbers. */
const [SETTLED, WINDOW] = [6, 40] as const;

/** How a camera does. */
export interface CameraReport {
  readonly width: number;
  readonly height: number;
  readonly shown: number;
  readonly dropped: number;
  /** Median of the milliseconds from the capture of a frame to its result on the screen. */
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly framesPerSecond: number;
}

/** What a camera is given. */
export interface CameraParts {
  readonly video: HTMLVideoElement;
  readonly denoiser: Denoiser;
  readonly strength: () => number;
  readonly show: (before: ImageBitmap, after: ImageBitmap) => void;
  readonly report: (report: CameraReport) => void;
  readonly fail: (error: unknown) => void;
}

export class Camera {
  /** Frame that waits; a newer one takes its place. */
  private waiting: { readonly capturedMs: number } | null = null;
  private running = false;
  private stopped = false;
  private level = START;
  private settled = 0;
  private presented = 0;
  private done = 0;
  private readonly delays: number[] = [];
  private readonly finished: number[] = [];
  private readonly canvas = new OffscreenCanvas(1, 1);

  private constructor(private readonly parts: CameraParts, private readonly stream: MediaStream) {}

  /**
   * Start the camera on the back of the device, or the only one.
   *
   * @throws DeviceError there is none, it is not allowed, or the page is not secure
   */
  static async start(parts: CameraParts): Promise<Camera> {
    if (!navigator.mediaDevices) {
      throw new DeviceError("the camera cannot be used: expected a secure page, got http", {
        hint: "Open the page over HTTPS, or on this computer as localhost.",
      });
    }
    let stream: MediaStream;
    try {
      const video = { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } };
      stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      const reason = error instanceof Error ? error.name : String(error);
      const hint = reason === "NotAllowedError" ? "Allow the camera for this page in the browser." : "Connect a camera.";
      throw new DeviceError(`the camera cannot be opened (${reason})`, { hint, cause: error });
    }
    const camera = new Camera(parts, stream);
    parts.video.srcObject = stream;
    await parts.video.play();
    camera.listen();
    return camera;
  }

  /** Release the camera. */
  stop(): void {
    this.stopped = true;
    for (const track of this.stream.getTracks()) track.stop();
    this.parts.video.srcObject = null;
  }

  /** Return the current frame in full size, as a file. */
  async photo(): Promise<File> {
    const { video } = this.parts;
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/png" });
    return new File([blob], `camera-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.png`, { type: blob.type });
  }

  private listen(): void {
    const next = (now: number, frame: VideoFrameCallbackMetadata): void => {
      if (this.stopped) return;
      this.presented = frame.presentedFrames;
      this.waiting = { capturedMs: frame.captureTime ?? now };
      if (!this.running) void this.work();
      this.parts.video.requestVideoFrameCallback(next);
    };
    this.parts.video.requestVideoFrameCallback(next);
  }

  private async work(): Promise<void> {
    this.running = true;
    try {
      while (this.waiting !== null && !this.stopped) {
        const { capturedMs } = this.waiting;
        this.waiting = null;
        await this.frame(capturedMs);
      }
    } catch (error) {
      if (!this.stopped) this.parts.fail(error);
    } finally {
      this.running = false;
    }
  }

  private async frame(capturedMs: number): Promise<void> {
    const { video, denoiser } = this.parts;
    const width = WIDTHS[this.level] ?? WIDTHS[0];
    const height = Math.max(2, Math.round((width * video.videoHeight) / video.videoWidth / 2) * 2);
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    if (context === null) throw new DeviceError("this browser gives no canvas for the frames of the camera");
    context.drawImage(video, 0, 0, width, height);
    const pixels = context.getImageData(0, 0, width, height);
    const before = await createImageBitmap(pixels);
    const { image, milliseconds } = await denoiser.denoise(pixels, { strength: this.parts.strength() });
    const after = await createImageBitmap(image);
    if (this.stopped) return;
    this.parts.show(before, after);
    this.note(performance.now(), capturedMs, milliseconds, height);
  }

  private note(now: number, capturedMs: number, milliseconds: number, height: number): void {
    this.done++;
    this.delays.push(now - capturedMs);
    this.finished.push(now);
    if (this.delays.length > WINDOW) this.delays.shift();
    if (this.finished.length > WINDOW) this.finished.shift();
    const sorted = [...this.delays].sort((a, b) => a - b);
    const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
    const span = now - (this.finished[0] ?? now);
    this.parts.report({
      width: WIDTHS[this.level] ?? 0,
      height,
      shown: this.done,
      dropped: Math.max(0, this.presented - this.done),
      p50Ms: at(0.5),
      p90Ms: at(0.9),
      framesPerSecond: span > 0 ? ((this.finished.length - 1) * 1000) / span : 0,
    });
    if (++this.settled < SETTLED) return;
    const step = milliseconds > SLOW_MS ? -1 : milliseconds < FAST_MS ? 1 : 0;
    const level = Math.min(WIDTHS.length - 1, Math.max(0, this.level + step));
    if (level !== this.level) [this.level, this.settled] = [level, 0];
  }
}
