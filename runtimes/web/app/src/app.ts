/** The app: images in a row, one network, and the result on the screen and in a file. */

import { zip } from "fflate";
import { Interrupted } from "../../src/errors.js";
import type { Denoiser, DeviceName, InputImage, Precision } from "../../src/types.js";
import { Camera, type CameraReport } from "./camera.js";
import { duration, megabytes, megapixels, precisionName, wordsOf } from "./format.js";
import type { BundleEntry, Host } from "./host.js";
import { forScreen, type OpenedImage, openImage, type SavedImage, type SaveFormat, saveImage } from "./images.js";
import { Network } from "./network.js";
import { workOffline } from "./offline.js";
import { download, element, setText } from "./ui/elements.js";
import { Viewer } from "./ui/viewer.js";

/** Images from this size on are started by hand, after their memory and time were told. */
const LARGE_PIXELS = 8_000_000;
/** Memory beside the pixels: one tile and ONNX Runtime. */
const FIXED_BYTES = 260e6;
/** Copies of the pixels: input and result, each here, on the screen and in the worker. */
const COPIES = 6;
const THUMBNAIL_PX = 120;

type State = "waiting" | "asking" | "running" | "done" | "failed" | "cancelled";

interface Item {
  readonly file: File;
  readonly button: HTMLButtonElement;
  readonly mark: HTMLElement;
  state: State;
  /** Whether the user has agreed to the memory of a large image. */
  agreed: boolean;
  progress: number;
  detail: string;
  error: string;
  /** Settings that the result was made with. */
  settings: string;
  saved: SavedImage | null;
}

interface Decoded {
  readonly item: Item;
  readonly opened: OpenedImage;
  after: InputImage | null;
}

export class App {
  private readonly network: Network;
  private readonly viewer: Viewer;
  private bundles: readonly BundleEntry[] = [];
  private own: File | null = null;
  private items: Item[] = [];
  private current: Item | null = null;
  /** Pixels of the current image; those of others are decoded again when they are chosen. */
  private decoded: Decoded | null = null;
  private running: { readonly item: Item; readonly abort: AbortController } | null = null;
  private camera: Camera | null = null;
  private readonly speeds = new Map<string, number>();

  constructor(private readonly host: Host) {
    this.network = new Network(host);
    this.viewer = new Viewer(
      { stage: element("stage"), canvas: element("canvas"), divider: element("divider"), afterTag: element("after-tag") },
      (scale) => {
        for (const button of document.querySelectorAll<HTMLButtonElement>("[data-zoom='fit'], [data-zoom='1']")) {
          button.setAttribute("aria-pressed", String((scale ?? "fit") === (button.dataset.zoom === "fit" ? "fit" : 1)));
        }
      },
    );
  }

  /** Read the list of networks and begin to listen. */
  async start(): Promise<void> {
    this.listen();
    if (this.host.canInstall) {
      // Without a service worker, as in a private window, the page works all the same while there is a network.
      workOffline(() => this.items.length === 0 && this.camera === null).catch(() => undefined);
    }
    try {
      this.bundles = await this.host.bundles();
      this.listNetworks();
    } catch (error) {
      this.showWork();
      setText("error", wordsOf(error));
    }
    document.documentElement.dataset.ready = "yes";
  }

  private listNetworks(): void {
    const select = element<HTMLSelectElement>("network");
    const names = this.bundles.map((bundle) => new Option(`${bundle.name} (${megabytes(bundle.bytes)})`, bundle.name));
    if (this.own !== null) names.push(new Option(this.own.name, "own"));
    const chosen = this.own === null ? select.value : "own";
    select.replaceChildren(...names);
    if (names.some((option) => option.value === chosen)) select.value = chosen;
    this.settingsChanged();
  }

  private get bundle(): BundleEntry | File | undefined {
    const name = element<HTMLSelectElement>("network").value;
    return name === "own" && this.own !== null ? this.own : this.bundles.find((bundle) => bundle.name === name);
  }

  private get strength(): number {
    return Number(element<HTMLInputElement>("strength").value) / 100;
  }

  private get precision(): Precision | "auto" {
    return element<HTMLSelectElement>("precision").value as Precision | "auto";
  }

  private get device(): DeviceName | "auto" {
    return element<HTMLSelectElement>("where").value as DeviceName | "auto";
  }

  private get format(): SaveFormat {
    return element<HTMLSelectElement>("format").value as SaveFormat;
  }

  private get settings(): string {
    return [element<HTMLSelectElement>("network").value, this.precision, this.device, this.strength, this.format].join("|");
  }

  /** Put images in the row and begin; a bundle among the files becomes the network. */
  add(files: readonly File[]): void {
    const own = files.find((file) => file.name.endsWith(".edge"));
    if (own !== undefined) this.useOwn(own);
    const images = files.filter((file) => !file.name.endsWith(".edge"));
    if (images.length === 0) return;
    this.stopCamera();
    this.showWork();
    const added = images.map((file) => this.itemOf(file));
    this.items.push(...added);
    element("strip").hidden = this.items.length < 2;
    void this.select(added[0] as Item);
    void this.pump();
  }

  private useOwn(file: File): void {
    this.own = file;
    this.listNetworks();
    element<HTMLDetailsElement>("options").open = true;
    this.update();
  }

  private itemOf(file: File): Item {
    const button = document.createElement("button");
    button.type = "button";
    const mark = document.createElement("span");
    mark.className = "mark";
    button.append(mark);
    const item: Item = {
      file, button, mark, state: "waiting", agreed: false, progress: 0, detail: "", error: "", settings: "", saved: null,
    };
    button.addEventListener("click", () => void this.select(item));
    const entry = document.createElement("li");
    entry.append(button);
    element("strip").append(entry);
    return item;
  }

  private async select(item: Item): Promise<void> {
    this.current = item;
    this.update();
    if (this.decoded?.item === item) return;
    this.decoded = null;
    this.viewer.clear();
    try {
      const decoded = await this.decode(item);
      if (this.current !== item) return;
      if (item.saved !== null) {
        const file = new File([item.saved.blob], item.saved.name, { type: item.saved.blob.type });
        decoded.after = (await openImage(file)).pixels;
      }
      if (this.current !== item || this.decoded !== null) return;
      this.decoded = decoded;
      await this.viewer.show(decoded.opened, decoded.after);
    } catch (error) {
      this.finish(item, "failed", wordsOf(error));
    }
  }

  private async decode(item: Item): Promise<Decoded> {
    if (this.decoded?.item === item) return this.decoded;
    const opened = await openImage(item.file);
    this.thumbnail(item, opened);
    return { item, opened, after: null };
  }

  private thumbnail(item: Item, opened: OpenedImage): void {
    if (item.button.querySelector("canvas") !== null) return;
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = THUMBNAIL_PX;
    item.button.prepend(canvas);
    const side = Math.min(opened.width, opened.height);
    const [x, y] = [(opened.width - side) / 2, (opened.height - side) / 2];
    void createImageBitmap(forScreen(opened.pixels), x, y, side, side, { resizeWidth: THUMBNAIL_PX, resizeHeight: THUMBNAIL_PX }).then(
      (bitmap) => canvas.getContext("2d")?.drawImage(bitmap, 0, 0),
    );
  }

  /** Denoise the images that wait, one after another. */
  private async pump(): Promise<void> {
    if (this.running !== null) return;
    for (let item = this.next(); item !== undefined; item = this.next()) await this.run(item);
  }

  private next(): Item | undefined {
    return this.items.find((item) => item.state === "waiting");
  }

  private async run(item: Item): Promise<void> {
    const abort = new AbortController();
    this.running = { item, abort };
    Object.assign(item, { state: "running", progress: 0, detail: "Reading the image", error: "", settings: this.settings, saved: null });
    this.update();
    try {
      const decoded = await this.decode(item);
      if (this.current === item && this.decoded === null) {
        this.decoded = decoded;
        await this.viewer.show(decoded.opened, null);
      }
      if (!this.mayStart(item, decoded.opened)) return;
      const { format } = this;
      const result = await this.denoised(item, decoded.opened, abort.signal);
      item.detail = "Writing the file";
      this.update();
      item.saved = await saveImage(decoded.opened, result.image, format);
      item.detail = [factsOf(result.denoiser, result), ...decoded.opened.notes].join(" ");
      this.finish(item, "done");
      if (this.decoded?.item === item) {
        this.decoded.after = result.image;
        await this.viewer.setAfter(decoded.opened, result.image);
      }
    } catch (error) {
      if (error instanceof Interrupted || abort.signal.aborted) this.finish(item, "cancelled");
      else this.finish(item, "failed", wordsOf(error));
    } finally {
      this.running = null;
      this.update();
    }
  }

  /** Return whether an image may start: a large one waits until the user knows what it needs. */
  private mayStart(item: Item, opened: OpenedImage): boolean {
    const count = opened.width * opened.height;
    if (item.agreed || count < LARGE_PIXELS) return true;
    const bytesPerPixel = opened.bits === 16 ? 8 : 4;
    const memory = megabytes(count * bytesPerPixel * COPIES + FIXED_BYTES);
    const speed = this.speeds.get(this.speedKey());
    const time = speed === undefined ? "" : ` and about ${duration(speed * count)}`;
    item.detail = `${megapixels(opened.width, opened.height)}: needs about ${memory} of memory${time}. Close other apps first if this device has little.`;
    this.finish(item, "asking");
    return false;
  }

  private speedKey(): string {
    return `${element<HTMLSelectElement>("network").value}|${this.precision}|${this.device}`;
  }

  private async denoised(item: Item, opened: OpenedImage, signal: AbortSignal) {
    const { bundle, precision, device, strength } = this;
    if (bundle === undefined) throw new Error("there is no network to run");
    item.detail = `Opening ${bundle.name}`;
    this.update();
    const key = this.speedKey();
    const denoiser = await this.network.get({ bundle, precision, device }, signal);
    this.opened(denoiser);
    item.detail = "Denoising";
    this.update();
    const result = await denoiser.denoise(opened.pixels, {
      strength: Math.min(strength, denoiser.manifest.noiseLevel === null ? 1 : 2),
      signal,
      onProgress: ({ done, total, remainingMs }) => {
        item.progress = done / total;
        const left = remainingMs === null || done === total ? "" : `, ${duration(remainingMs)} left`;
        item.detail = `Denoising, ${Math.round(100 * item.progress)} %${left}`;
        this.update();
      },
    });
    this.speeds.set(key, result.milliseconds / (opened.width * opened.height));
    return { ...result, denoiser };
  }

  private opened(denoiser: Denoiser): void {
    const { device, reason, threads, adapter } = denoiser.device;
    const where = device === "webgpu" ? `WebGPU${adapter ? ` (${adapter})` : ""}` : `WebAssembly, ${threads} ${threads === 1 ? "thread" : "threads"}`;
    const why = /[.!]$/.test(reason) || reason === "" ? reason : `${reason}.`;
    element("device").textContent = `${denoiser.choice.variant} on ${where}. ${why}`;
  }

  private finish(item: Item, state: State, error = ""): void {
    Object.assign(item, { state, error });
    if (state === "cancelled") item.detail = "Cancelled.";
    const words = { done: "is denoised", failed: `failed. ${error}`, cancelled: "was cancelled", asking: item.detail };
    if (state in words) element("announce").textContent = `${item.file.name} ${words[state as keyof typeof words]}`;
    this.update();
  }

  /** Start the current image again, save its result, or cancel it: whatever comes next for it. */
  private primary(): void {
    const item = this.current;
    if (this.camera !== null) this.stopCamera();
    else if (item === null) element("files").click();
    else if (item === this.running?.item) this.running.abort.abort();
    else if (item.state === "done" && item.saved !== null && item.settings === this.settings) download(item.saved.blob, item.saved.name);
    else {
      Object.assign(item, { state: "waiting", agreed: true, error: "", detail: "" });
      if (this.decoded?.item === item) {
        this.decoded.after = null;
        void this.viewer.setAfter(this.decoded.opened, null);
      }
      this.update();
      void this.pump();
    }
  }

  private async share(): Promise<void> {
    const saved = this.current?.saved;
    if (!saved) return;
    try {
      await navigator.share({ files: [new File([saved.blob], saved.name, { type: saved.blob.type })] });
    } catch (error) {
      if (!(error instanceof DOMException && error.name === "AbortError")) setText("error", wordsOf(error));
    }
  }

  private async saveAll(): Promise<void> {
    const files: Record<string, Uint8Array> = {};
    for (const { saved } of this.items) {
      if (saved === null) continue;
      let name = saved.name;
      for (let copy = 2; name in files; copy++) name = saved.name.replace(/(\.[^.]*)$/, `-${copy}$1`);
      files[name] = new Uint8Array(await saved.blob.arrayBuffer());
    }
    zip(files, { level: 0 }, (error, data) => {
      if (error) setText("error", wordsOf(error));
      else download(new Blob([data as Uint8Array<ArrayBuffer>], { type: "application/zip" }), "denoised.zip");
    });
  }

  private async startCamera(): Promise<void> {
    if (this.camera !== null) return;
    this.showWork();
    this.current = null;
    this.decoded = null;
    this.viewer.clear();
    scrollTo(0, 0);
    setText("error", "");
    setText("title", "Live camera");
    setText("detail", "Opening the camera");
    try {
      const { bundle, precision, device } = this;
      if (bundle === undefined) throw new Error("there is no network to run");
      this.running?.abort.abort();
      const denoiser = await this.network.get({ bundle, precision, device });
      this.opened(denoiser);
      this.camera = await Camera.start({
        video: element<HTMLVideoElement>("video"),
        denoiser,
        strength: () => this.strength,
        show: (before, after) => this.viewer.frame(before, after),
        report: (report) => setText("detail", cameraWords(report)),
        fail: (error) => this.cameraFailed(error),
      });
    } catch (error) {
      this.cameraFailed(error);
    }
    this.update();
  }

  private cameraFailed(error: unknown): void {
    this.stopCamera();
    setText("error", wordsOf(error));
  }

  private stopCamera(): void {
    if (this.camera === null) return;
    this.camera.stop();
    this.camera = null;
    this.viewer.clear();
    if (this.items.length > 0) void this.select(this.items.at(-1) as Item);
    else this.showStart();
    this.update();
  }

  private async takeFrame(): Promise<void> {
    const file = await this.camera?.photo();
    if (file !== undefined) this.add([file]);
  }

  private closeAll(): void {
    this.running?.abort.abort();
    this.stopCamera();
    this.items = [];
    this.current = null;
    this.decoded = null;
    this.viewer.clear();
    element("strip").replaceChildren();
    this.showStart();
  }

  private showWork(): void {
    element("app").classList.remove("start");
    element("start").hidden = true;
    element("view").hidden = false;
    element("panel").hidden = false;
  }

  private showStart(): void {
    element("app").classList.add("start");
    element("start").hidden = false;
    element("view").hidden = true;
    element("panel").hidden = true;
    setText("error", "");
  }

  private settingsChanged(): void {
    const { bundle } = this;
    const slider = element<HTMLInputElement>("strength");
    const isOwn = bundle instanceof File;
    slider.max = String(100 * (isOwn ? 2 : (bundle?.max_strength ?? 1)));
    element("strength-value").textContent = `${slider.value} %`;
    for (const option of element<HTMLSelectElement>("precision").options) {
      option.disabled = !isOwn && option.value !== "auto" && !bundle?.precisions.includes(option.value);
    }
    this.update();
  }

  /** Show the state of the images. */
  private update(): void {
    const isLive = this.camera !== null;
    for (const item of this.items) this.updateItem(item);
    element("share").textContent = isLive ? "Take this frame" : "Share";
    element("more").hidden = isLive;
    element("close-all").hidden = isLive || this.items.length === 0;
    const finished = this.items.filter((item) => item.saved !== null).length;
    element("save-all").hidden = isLive || finished < 2;
    element("save-all").textContent = `Save all ${finished}`;
    element("video").hidden = true; // its frames are drawn
    const button = element<HTMLButtonElement>("primary");
    const item = this.current;
    for (const link of document.querySelectorAll<HTMLElement>("#options [data-action='camera']")) link.hidden = isLive;
    if (isLive || item === null) {
      button.disabled = false;
      button.classList.add("primary");
      button.textContent = isLive ? "Stop" : "Choose images";
      element("share").hidden = !isLive;
      element("progress").hidden = true;
      return;
    }
    const isCurrent = item.settings === this.settings;
    setText("title", item.file.name);
    setText("detail", item.state === "waiting" ? "Waiting for the images before it" : item.detail);
    setText("error", item.error);
    const progress = element<HTMLProgressElement>("progress");
    progress.hidden = item.state !== "running";
    progress.value = item.progress;
    button.textContent = primaryWord(item.state, isCurrent);
    button.disabled = item.state === "waiting";
    button.classList.toggle("primary", item.state !== "running");
    element("share").hidden = !(item.state === "done" && isCurrent && canShare(item.saved));
  }

  private updateItem(item: Item): void {
    const marks: Record<State, string> = {
      waiting: "…", asking: "?", running: `${Math.round(100 * item.progress)} %`, done: "✓", failed: "!", cancelled: "×",
    };
    item.mark.textContent = marks[item.state];
    item.button.setAttribute("aria-current", String(item === this.current));
    item.button.setAttribute("aria-label", `${item.file.name}, ${item.state}`);
  }

  private listen(): void {
    const actions: Record<string, () => void> = {
      choose: () => element("files").click(),
      photograph: () => element("photo").click(),
      camera: () => void this.startCamera(),
      bundle: () => element("bundle-file").click(),
    };
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-action]")) {
      button.addEventListener("click", () => actions[button.dataset.action ?? ""]?.());
    }
    for (const id of ["files", "photo", "bundle-file"]) {
      const input = element<HTMLInputElement>(id);
      input.addEventListener("change", () => {
        const files = [...(input.files ?? [])];
        input.value = "";
        if (id === "bundle-file" && files[0] !== undefined) this.useOwn(files[0]);
        else this.add(files);
      });
    }
    element("primary").addEventListener("click", () => this.primary());
    element("share").addEventListener("click", () => void (this.camera === null ? this.share() : this.takeFrame()));
    element("save-all").addEventListener("click", () => void this.saveAll());
    element("close-all").addEventListener("click", () => this.closeAll());
    for (const id of ["strength", "network", "precision", "where", "format"]) {
      element(id).addEventListener("input", () => this.settingsChanged());
    }
    for (const button of document.querySelectorAll<HTMLButtonElement>("[data-zoom]")) {
      const kind = button.dataset.zoom;
      button.addEventListener("click", () => {
        if (kind === "in") this.viewer.zoomBy(1.5);
        else if (kind === "out") this.viewer.zoomBy(1 / 1.5);
        else this.viewer.zoom(kind === "1" ? 1 : null);
      });
    }
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.running?.abort.abort();
    });
    addEventListener("paste", (event) => this.add([...(event.clipboardData?.files ?? [])]));
    this.listenForDrops();
  }

  private listenForDrops(): void {
    addEventListener("dragover", (event) => {
      event.preventDefault();
      element("drop").hidden = false;
    });
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) element("drop").hidden = true;
    });
    addEventListener("drop", (event) => {
      event.preventDefault();
      element("drop").hidden = true;
      this.add([...(event.dataTransfer?.files ?? [])]);
    });
  }
}

function primaryWord(state: State, isCurrent: boolean): string {
  if (state === "running") return "Cancel";
  if (state === "done") return isCurrent ? "Save" : "Denoise again";
  return state === "failed" || state === "cancelled" ? "Try again" : "Denoise";
}

function canShare(saved: SavedImage | null): boolean {
  if (saved === null || !("canShare" in navigator)) return false;
  return navigator.canShare({ files: [new File([saved.blob], saved.name, { type: saved.blob.type })] });
}

function factsOf(
  denoiser: Denoiser,
  result: { variant: string; milliseconds: number; tiles: number; unchanged: boolean; floatReason: string | null; image: InputImage },
): string {
  const { manifest, device } = denoiser;
  const variant = manifest.variants.find(({ name }) => name === result.variant);
  const parts = [manifest.name, precisionName(variant?.precision ?? ""), device.device === "webgpu" ? "WebGPU" : "WebAssembly"];
  const size = megapixels(result.image.width, result.image.height);
  const unchanged = result.unchanged ? " The image has so little noise that it is unchanged." : "";
  const reason = result.floatReason === null ? "" : ` ${result.floatReason.charAt(0).toUpperCase()}${result.floatReason.slice(1)}.`;
  return `${size} in ${duration(result.milliseconds)}. ${parts.filter(Boolean).join(", ")}.${unchanged}${reason}`;
}

function cameraWords(report: CameraReport): string {
  const { width, height, p50Ms, p90Ms, framesPerSecond, dropped } = report;
  const delay = `${Math.round(p50Ms)} ms late (90 %: ${Math.round(p90Ms)} ms)`;
  return `${width} × ${height}, ${framesPerSecond.toFixed(1)} frames/s, ${delay}. ${dropped} frames left out.`;
}
