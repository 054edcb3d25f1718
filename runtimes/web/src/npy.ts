/** Read arrays of float32 in NumPy's `.npy` files. */

export interface FloatArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * Return the array in an `.npy` file.
 *
 * @throws SyntaxError it is not such a file, or does not hold float32 in C order
 */
export function parseNpy(file: Uint8Array): FloatArray {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const isNpy = file.length >= 12 && String.fromCharCode(...file.subarray(0, 6)) === "\x93NUMPY";
  const major = file[6];
  if (!isNpy || (major !== 1 && major !== 2)) throw new SyntaxError("it is not an .npy file");
  const start = major === 1 ? 10 : 12;
  const end = start + (major === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const header = String.fromCharCode(...file.subarray(start, Math.min(end, start + 1024)));
  const sides = /'shape':\s*\(([0-9, ]*)\)/.exec(header)?.[1];
  if (sides === undefined || !/'descr':\s*'<f4'/.test(header) || !/'fortran_order':\s*False/.test(header)) {
    throw new SyntaxError(`it does not hold float32 in C order: ${header.trim()}`);
  }
  const shape = sides.split(",").filter((side) => side.trim() !== "").map(Number);
  const count = shape.reduce((product, side) => product * side, 1);
  if (count * 4 !== file.length - end) {
    throw new SyntaxError(`it has ${file.length - end} bytes of data; expected ${count * 4}`);
  }
  return { shape, data: new Float32Array(file.slice(end).buffer) };
}
