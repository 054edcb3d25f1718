/** The image before and after, side by side at a divider, with zoom and pan. */

import type { InputImage } from "../../../src/types.js";
import { forScreen, type OpenedImage } from "../images.js";

const MAX_SCALE = 16;
const KEY_STEP = 2;
const PAN_PX = 60;
/** Stored coordinates to shown ones by EXIF orientation, as functions of the stored width and height. */
const TURNS: readonly ((w: number, h: number) => readonly [number, number, number, number, number, number])[] = [
  () => [1, 0, 0, 1, 0, 0],
  (w) => [-1, 0, 0, 1, w, 0],
  (w, h) => [-1, 0, 0, -1, w, h],
  (_, h) => [1, 0, 0, -1, 0, h],
  () => [0, 1, 1, 0, 0, 0],
  (_, h) => [0, 1, -1, 0, h, 0],
  (w, h) => [0, -1, -1, 0, h, w],
  (w) => [0, -1, 1, 0, 0, w],
];

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Shown {
  readonly before: ImageBitmap;
  after: ImageBitmap | null;
  readonly turn: DOMMatrix;
  readonly width: number;
  readonly height: number;
}

/** Elements that the viewer drives. */
export interface ViewerElements {
  readonly stage: HTMLElement;
  readonly canvas: HTMLCanvasElement;
  readonly divider: HTMLElement;
  readonly afterTag: HTMLElement;
}

export class Viewer {
  private shown: Shown | null = null;
  private split = 0.5;
  /** Screen pixels per image pixel; null to fit the stage. */
  private scale: number | null = null;
  /** Point of the image in the middle of the stage. */
  private centre: Point = { x: 0, y: 0 };
  private readonly pointers = new Map<number, Point>();
  private drawing = 0;
  private turn = 0;

  constructor(private readonly parts: ViewerElements, private readonly onZoom: (scale: number | null) => void) {
    new ResizeObserver(() => this.draw()).observe(parts.stage);
    this.listen();
  }

  /** Show an image; `after` null shows the input alone. */
  async show(opened: OpenedImage, after: InputImage | null): Promise<void> {
    const turn = ++this.turn;
    const [before, clean] = await Promise.all([bitmapOf(opened, opened.pixels), after && bitmapOf(opened, after)]);
    if (turn !== this.turn) {
      before.close();
      clean?.close();
      return;
    }
    this.release();
    const { width: w, height: h, orientation } = opened;
    const turned = orientation > 4;
    const matrix = new DOMMatrix([...(TURNS[orientation - 1] ?? (() => [1, 0, 0, 1, 0, 0]))(w, h)]);
    this.shown = { before, after: clean, turn: matrix, width: turned ? h : w, height: turned ? w : h };
    this.zoom(null);
  }

  /** Show the result for the image that is shown; zoom and divider stay. */
  async setAfter(opened: OpenedImage, after: InputImage | null): Promise<void> {
    const turn = this.turn;
    const bitmap = after && (await bitmapOf(opened, after));
    if (turn !== this.turn || this.shown === null) {
      bitmap?.close();
      return;
    }
    this.shown.after?.close();
    this.shown.after = bitmap;
    this.draw();
  }

  /** Show a frame of a camera and its result; zoom and divider stay. */
  frame(before: ImageBitmap, after: ImageBitmap): void {
    const { width, height } = before;
    const first = this.shown === null;
    const [old, ratio] = [this.shown?.width ?? width, width / (this.shown?.width ?? width)];
    this.release();
    this.shown = { before, after, turn: new DOMMatrix(), width, height };
    if (first) this.zoom(null);
    else if (old !== width) this.centre = { x: this.centre.x * ratio, y: this.centre.y * ratio };
    this.draw();
  }

  /** Show nothing. */
  clear(): void {
    this.turn++;
    this.release();
    this.draw();
  }

  /** Zoom to a scale in screen pixels per image pixel, or null to fit; a point of the stage stays in place. */
  zoom(scale: number | null, at?: Point): void {
    if (this.shown !== null && scale === null) this.centre = { x: this.shown.width / 2, y: this.shown.height / 2 };
    if (this.shown !== null && scale !== null) {
      const [from, to] = [this.current(), Math.min(MAX_SCALE, Math.max(Math.min(this.fit(), 1), scale))];
      const fixed = at ?? { x: this.parts.stage.clientWidth / 2, y: this.parts.stage.clientHeight / 2 };
      const ratio = devicePixelRatio;
      const [dx, dy] = [fixed.x - this.parts.stage.clientWidth / 2, fixed.y - this.parts.stage.clientHeight / 2];
      this.centre = {
        x: this.centre.x + (dx * ratio) / from - (dx * ratio) / to,
        y: this.centre.y + (dy * ratio) / from - (dy * ratio) / to,
      };
      scale = to;
    }
    this.scale = scale;
    this.onZoom(scale);
    this.draw();
  }

  /** Zoom by a factor. */
  zoomBy(factor: number, at?: Point): void {
    this.zoom(this.current() * factor, at);
  }

  private fit(): number {
    const { stage } = this.parts;
    if (this.shown === null) return 1;
    const ratio = devicePixelRatio;
    return Math.min((stage.clientWidth * ratio) / this.shown.width, (stage.clientHeight * ratio) / this.shown.height);
  }

  private current(): number {
    return this.scale ?? this.fit();
  }

  private setSplit(split: number): void {
    this.split = Math.min(1, Math.max(0, split));
    const percent = Math.round(this.split * 100);
    this.parts.divider.setAttribute("aria-valuenow", String(percent));
    this.parts.divider.setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
    this.draw();
  }

  private pan(dx: number, dy: number): void {
    const scale = this.current() / devicePixelRatio;
    this.centre = { x: this.centre.x - dx / scale, y: this.centre.y - dy / scale };
    this.draw();
  }

  private draw(): void {
    cancelAnimationFrame(this.drawing);
    this.drawing = requestAnimationFrame(() => this.paint());
  }

  private paint(): void {
    const { stage, canvas, divider, afterTag } = this.parts;
    const ratio = devicePixelRatio;
    const [width, height] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = canvas.getContext("2d");
    if (context === null) return;
    context.reset();
    const both = this.shown !== null && this.shown.after !== null;
    divider.hidden = !both;
    afterTag.hidden = !both;
    divider.style.left = `${this.split * 100}%`;
    if (this.shown === null) return;
    const scale = this.current();
    this.keepInside(width, height, scale);
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "high";
    // Whole screen pixels, so that at 1:1 each pixel of the image is one of the screen.
    const left = Math.round(width / 2 - this.centre.x * scale);
    const top = Math.round(height / 2 - this.centre.y * scale);
    const middle = both ? Math.round(this.split * width) : width;
    this.part(context, this.shown.before, 0, middle, [left, top, scale, height]);
    if (this.shown.after !== null) this.part(context, this.shown.after, middle, width, [left, top, scale, height]);
  }

  private part(
    context: CanvasRenderingContext2D,
    image: ImageBitmap,
    from: number,
    to: number,
    [left, top, scale, height]: readonly [number, number, number, number],
  ): void {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    const matrix = new DOMMatrix([scale, 0, 0, scale, left, top]).multiply(this.shown?.turn);
    context.setTransform(matrix);
    context.drawImage(image, 0, 0);
    context.restore();
  }

  /** Keep the image in the stage: centred where it is smaller, without gaps where it is larger. */
  private keepInside(width: number, height: number, scale: number): void {
    if (this.shown === null) return;
    const bounded = (value: number, side: number, stage: number): number => {
      const half = stage / scale / 2;
      return side <= 2 * half ? side / 2 : Math.min(side - half, Math.max(half, value));
    };
    this.centre = {
      x: bounded(this.centre.x, this.shown.width, width),
      y: bounded(this.centre.y, this.shown.height, height),
    };
  }

  private release(): void {
    this.shown?.before.close();
    this.shown?.after?.close();
    this.shown = null;
  }

  private listen(): void {
    const { stage, canvas, divider } = this.parts;
    divider.addEventListener("pointerdown", (event) => {
      divider.setPointerCapture(event.pointerId);
      event.stopPropagation();
    });
    divider.addEventListener("pointermove", (event) => {
      if (divider.hasPointerCapture(event.pointerId)) this.setSplit(this.place(event).x / stage.clientWidth);
    });
    divider.addEventListener("keydown", (event) => {
      const steps: Record<string, number> = {
        ArrowLeft: -KEY_STEP, ArrowDown: -KEY_STEP, ArrowRight: KEY_STEP, ArrowUp: KEY_STEP,
        PageDown: -10, PageUp: 10, Home: -100, End: 100,
      };
      const step = steps[event.key];
      if (step === undefined || event.shiftKey) return;
      event.preventDefault();
      this.setSplit(Math.round(this.split * 100 + step) / 100);
    });
    stage.addEventListener("keydown", (event) => {
      const moves: Record<string, readonly [number, number]> = {
        ArrowLeft: [PAN_PX, 0], ArrowRight: [-PAN_PX, 0], ArrowUp: [0, PAN_PX], ArrowDown: [0, -PAN_PX],
      };
      const move = moves[event.key];
      if (event.shiftKey && move) this.pan(...move);
      else if (event.key === "+" || event.key === "=") this.zoomBy(1.5);
      else if (event.key === "-") this.zoomBy(1 / 1.5);
      else if (event.key === "0") this.zoom(null);
      else if (event.key === "1") this.zoom(1);
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, this.place(event));
    });
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"] as const) {
      canvas.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("dblclick", (event) => this.zoom(this.scale === null ? 1 : null, this.place(event)));
    stage.addEventListener(
      "wheel",
      (event) => {
        if (this.shown === null) return;
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY / (event.deltaMode === 1 ? 12 : 300)), this.place(event));
      },
      { passive: false },
    );
  }

  private move(event: PointerEvent): void {
    const before = this.pointers.get(event.pointerId);
    if (before === undefined) return;
    const now = this.place(event);
    this.pointers.set(event.pointerId, now);
    if (this.pointers.size === 2) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other === undefined) return;
      const length = (point: Point): number => Math.max(1, Math.hypot(point.x - other.x, point.y - other.y));
      this.zoomBy(length(now) / length(before), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
      this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else if (this.current() > this.fit() * 1.001) {
      this.pan(now.x - before.x, now.y - before.y);
    } else if (this.shown?.after) {
      this.setSplit(this.split + (now.x - before.x) / this.parts.stage.clientWidth);
    }
  }

  private place(event: MouseEvent): Point {
    const box = this.parts.stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }
}

async function bitmapOf(opened: OpenedImage, pixels: InputImage): Promise<ImageBitmap> {
  const image = forScreen(pixels);
  if (opened.colorSpace === "srgb") return createImageBitmap(image);
  const view = new Uint8ClampedArray(image.data.buffer as ArrayBuffer, image.data.byteOffset, image.data.length);
  return createImageBitmap(new ImageData(view, image.width, image.height, { colorSpace: opened.colorSpace }));
}
