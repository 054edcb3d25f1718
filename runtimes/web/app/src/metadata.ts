/** Embedded metadata of an image file, byte for byte; as `edgedenoise/imaging/metadata/embedded.py`. */

/** A PNG chunk (type, data) or a JPEG segment (marker, payload). */
export interface Block {
  /** Type of a chunk, or marker of a segment such as `\xff\xe1`; every character is one byte. */
  readonly kind: string;
  readonly body: Uint8Array;
}

/** What follows the image in a JPEG file: gain map, further images, the video of a motion photo. */
export interface Trailer {
  /** Everything behind the end of the image. */
  readonly data: Uint8Array;
  /** Offset of `data` in the file that it was read from. */
  readonly imageEnd: number;
  /** Offset of the index of further images in that file; null where it has none. */
  readonly indexAt: number | null;
}

/** The metadata that one image file carries beside its pixels, whatever its format. */
export interface Metadata {
  readonly icc: Uint8Array | null;
  /** EXIF block, beginning with its TIFF header. */
  readonly exif: Uint8Array | null;
  readonly xmp: Uint8Array | null;
  /** Horizontal and vertical resolution in pixels per inch. */
  readonly dpi: readonly [number, number] | null;
  readonly comments: readonly Uint8Array[];
  readonly iptc: Uint8Array | null;
  readonly trailer: Trailer | null;
  /** All descriptive blocks of the file; they are written back when the format stays the same. */
  readonly native: readonly Block[];
  readonly nativeFormat: "PNG" | "JPEG" | null;
}

export const NO_METADATA: Metadata = {
  icc: null,
  exif: null,
  xmp: null,
  dpi: null,
  comments: [],
  iptc: null,
  trailer: null,
  native: [],
  nativeFormat: null,
};

/** Return a resolution in pixels per inch, or null where a file's numbers state none. */
export function statedDpi(horizontal: number, vertical: number): readonly [number, number] | null {
  return [horizontal, vertical].every((value) => Number.isFinite(value) && value > 1 && value <= 65535)
    ? [horizontal, vertical]
    : null;
}
