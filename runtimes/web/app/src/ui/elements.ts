/** The elements of the page. */

/** Return the element of an id; the page is written with them. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no element ${id}`);
  return found as T;
}

/** Set a text, and hide the element where it is empty. */
export function setText(id: string, text: string): void {
  const found = element(id);
  if (found.textContent !== text) found.textContent = text;
  found.hidden = text === "";
}

/** Offer a file for download. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
