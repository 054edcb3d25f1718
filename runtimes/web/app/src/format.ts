/** Numbers as people read them. */

/** Return a duration such as `3 s` or `2 min`. */
export function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.max(0.1, milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  return seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

/** Return a size such as `260 MB`. */
export function megabytes(bytes: number): string {
  const value = bytes / 1e6;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} MB`;
}

/** Return a number of pixels such as `12.2 MP`. */
export function megapixels(width: number, height: number): string {
  const value = (width * height) / 1e6;
  return value < 0.1 ? `${width} × ${height}` : `${value.toFixed(1)} MP`;
}

/** Return what went wrong and what to do, as two texts. */
export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const hint = "hint" in error && typeof error.hint === "string" ? ` ${error.hint}` : "";
  const message = error.message.replace(/\.$/, "");
  return `${message.charAt(0).toUpperCase()}${message.slice(1)}.${hint}`;
}

/** Return the name that people choose a precision by. */
export function precisionName(precision: string): string {
  return precision === "int8" ? "INT8" : precision === "fp32" ? "float" : precision;
}
