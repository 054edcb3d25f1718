/** XMP packets, changed by text search, so that all other bytes of them stay; as `metadata/xmp.py`. */

import { fromLatin1, latin1, view } from "./bytes.js";

/** Namespace -> names of the properties that describe data behind the image. */
const CLAIMS: Readonly<Record<string, string>> = {
  "http://ns.adobe.com/hdr-gain-map/1.0/": "\\w+",
  "http://ns.google.com/photos/1.0/container/": "Directory",
  "http://ns.google.com/photos/1.0/camera/": "(?:MotionPhoto|MicroVideo)\\w*",
};

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** Return a packet that claims no gain map, motion-photo video or other data behind the image. */
export function withoutClaims(packet: Uint8Array): Uint8Array {
  let text = latin1(packet);
  for (const [namespace, names] of Object.entries(CLAIMS)) {
    const declaration = new RegExp(`xmlns:([\\w.-]+)\\s*=\\s*["']${escaped(namespace)}["']`, "g");
    for (const [, prefix] of [...text.matchAll(declaration)]) {
      const name = `${escaped(prefix ?? "")}:${names}`;
      text = text.replace(new RegExp(`\\s+${name}\\s*=\\s*(?:"[^"]*"|'[^']*')`, "g"), "");
      text = text.replace(new RegExp(`<(${name})(?:\\s[^>]*)?(?:/>|(?<!/)>[^]*?</\\1\\s*>)\\s*`, "g"), "");
    }
  }
  return fromLatin1(text);
}

/**
 * Return a packet with the properties of its extended packet.
 *
 * @param packet - the main packet
 * @param parts - extended segments of a JPEG file, each with its digest, total length and offset in front
 * @returns one packet; the main packet as it is where the extended one is incomplete
 */
export function joined(packet: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  let text = latin1(packet);
  const digest = /HasExtendedXMP\s*(?:=\s*["']|>)\s*([0-9A-Fa-f]{32})/.exec(text)?.[1];
  if (digest === undefined) return packet;
  const pieces = parts
    .filter((part) => part.length > 40 && latin1(part.subarray(0, 32)) === digest)
    .map((part) => ({ at: view(part).getUint32(36), total: view(part).getUint32(32), body: latin1(part.subarray(40)) }))
    .sort((a, b) => a.at - b.at);
  const extended = pieces.map((piece) => piece.body).join("");
  if (pieces.length === 0 || extended.length !== pieces[0]?.total) return packet;
  const inner = /<rdf:RDF[^>]*>([^]*)<\/rdf:RDF\s*>/.exec(extended)?.[1];
  if (inner === undefined) return packet;
  text = text.replace(/\s+[\w.-]+:HasExtendedXMP\s*=\s*(?:"[^"]*"|'[^']*')/g, "");
  text = text.replace(/<([\w.-]+:HasExtendedXMP)>[^]*?<\/\1>/g, "");
  const end = text.lastIndexOf("</rdf:RDF");
  if (end < 0) {
    return fromLatin1(text.replace(/<(rdf:RDF[^>]*)\/>/g, (_, tag: string) => `<${tag}>${inner}</rdf:RDF>`));
  }
  return fromLatin1(text.slice(0, end) + inner + text.slice(end));
}
