/**
 * Read the zip archive of a bundle. It may be hostile: whatever its own records show is refused before anything is
 * unpacked, and nothing is unpacked beyond the size that the manifest records. The limits are those of Python's
 * `edgedenoise/bundles/archive.py`.
 */

import { inflateSync } from "fflate";

import { IntegrityError } from "./errors.js";

export const MANIFEST = "manifest.json";
const MAX_FILES = 10_000;
const MAX_TOTAL_BYTES = 2 ** 31;
/** Largest accepted expansion of one file; our own archives are not compressed. */
const MAX_RATIO = 200;
/** Largest accepted expansion of a whole archive, beyond the first megabytes. */
const MAX_TOTAL_RATIO = 20;
const FREE_BYTES = 4 << 20;
const MAX_DIRECTORY_BYTES = 16 << 20;
const STORED = 0;
const DEFLATED = 8;
const END_BYTES = 22;
const REGULAR = 0o100000;
const FOLDER = 0o040000;
const HINT = "A bundle is a zip archive with a manifest.json, made by: edgedenoise pack";

interface Member {
  readonly name: string;
  readonly method: number;
  readonly flags: number;
  readonly crc: number;
  readonly packedBytes: number;
  readonly sizeBytes: number;
  readonly offset: number;
}

/** The files of an archive in memory. */
export class Archive {
  private constructor(
    private readonly data: Uint8Array,
    private readonly members: ReadonlyMap<string, Member>,
    /** What messages call the bundle. */
    readonly source: string,
  ) {}

  /**
   * Read the table of contents of an archive and check all that it says.
   *
   * @throws IntegrityError the archive is damaged or hostile
   */
  static open(data: Uint8Array, source: string): Archive {
    const listed = directory(data, source);
    checkMembers(listed, data.length, source);
    const members = new Map(listed.filter((member) => !member.name.endsWith("/")).map((member) => [member.name, member]));
    if (!members.has(MANIFEST)) throw unreadable(source, `it has no ${MANIFEST}`);
    return new Archive(data, members, source);
  }

  has(name: string): boolean {
    return this.members.has(name);
  }

  /**
   * Return the content of a file.
   *
   * @param name - one of the files
   * @param largest - most bytes that are accepted
   * @throws IntegrityError the file is damaged or larger
   */
  read(name: string, largest: number): Uint8Array {
    const member = this.members.get(name);
    if (member === undefined) throw new IntegrityError(`${this.source}: the file ${name} is missing`, { hint: HINT });
    if (member.sizeBytes > largest) {
      throw new IntegrityError(`${this.source}: ${name} has ${member.sizeBytes} bytes; expected at most ${largest}`);
    }
    const packed = this.packed(member);
    const content = member.method === STORED ? packed : this.inflated(packed, member);
    if (content.length !== member.sizeBytes) {
      throw unreadable(this.source, `${name} has ${content.length} bytes; expected ${member.sizeBytes}`);
    }
    if (crc32(content) !== member.crc) throw unreadable(this.source, `${name} has a wrong checksum`);
    return content;
  }

  private packed(member: Member): Uint8Array {
    const view = viewOf(this.data);
    const at = member.offset;
    if (at < 0 || at + 30 > this.data.length || view.getUint32(at, true) !== 0x04034b50) {
      throw unreadable(this.source, `${member.name} has no header`);
    }
    if (member.flags & 1) throw unreadable(this.source, `${member.name} is encrypted`);
    const nameBytes = view.getUint16(at + 26, true);
    const start = at + 30 + nameBytes + view.getUint16(at + 28, true);
    if (nameText(this.data.subarray(at + 30, at + 30 + nameBytes), view.getUint16(at + 6, true)) !== member.name) {
      throw unreadable(this.source, `${member.name} has another name in its header`);
    }
    if (start + member.packedBytes > this.data.length) throw unreadable(this.source, `${member.name} is cut short`);
    return this.data.subarray(start, start + member.packedBytes);
  }

  private inflated(packed: Uint8Array, member: Member): Uint8Array {
    try {
      // With a buffer of its own size, inflateSync never allocates more than the archive's records claim.
      return inflateSync(packed, { out: new Uint8Array(member.sizeBytes) });
    } catch (error) {
      throw unreadable(this.source, `${member.name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

function unreadable(source: string, reason: string): IntegrityError {
  return new IntegrityError(`${source} is not a bundle that can be read: ${reason}`, { hint: HINT });
}

function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function nameText(bytes: Uint8Array, flags: number): string {
  if (flags & 0x800) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return "\u0000"; // which no bundle may contain
    }
  }
  return String.fromCharCode(...bytes);
}

/** Return the place of the record that ends an archive. */
function endOf(data: Uint8Array, view: DataView, source: string): number {
  const last = data.length - END_BYTES;
  // Readers take a record at the very end first, then the last one that they find.
  if (last >= 0 && view.getUint32(last, true) === 0x06054b50 && view.getUint16(last + 20, true) === 0) return last;
  for (let at = last; at >= Math.max(0, last - 65536); at--) if (view.getUint32(at, true) === 0x06054b50) return at;
  throw unreadable(source, "it is not a zip archive");
}

function directory(data: Uint8Array, source: string): Member[] {
  const view = viewOf(data);
  const end = endOf(data, view, source);
  const entries = view.getUint16(end + 10, true);
  const bytes = view.getUint32(end + 12, true);
  const offset = view.getUint32(end + 16, true);
  const is64 = end >= 20 && view.getUint32(end - 20, true) === 0x07064b50;
  if (is64 || entries > MAX_FILES || bytes > MAX_DIRECTORY_BYTES) {
    throw new IntegrityError(
      `${source} is too large: expected at most ${MAX_FILES} files and ${MAX_DIRECTORY_BYTES} bytes for their list`,
    );
  }
  const shift = end - bytes - offset; // bytes before the archive, which readers accept
  if (shift < 0) throw unreadable(source, "its list of files is elsewhere");
  const found: Member[] = [];
  for (let at = offset + shift; at < end; ) {
    if (at + 46 > end || view.getUint32(at, true) !== 0x02014b50) throw unreadable(source, "its list of files is damaged");
    const nameBytes = view.getUint16(at + 28, true);
    const next = at + 46 + nameBytes + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (next > end) throw unreadable(source, "its list of files is cut short");
    const flags = view.getUint16(at + 8, true);
    const name = nameText(data.subarray(at + 46, at + 46 + nameBytes), flags);
    const kind = (view.getUint32(at + 38, true) >>> 16) & 0o170000;
    if (kind !== 0 && kind !== REGULAR && kind !== FOLDER) {
      throw new IntegrityError(`${source} is hostile: ${JSON.stringify(name)} is a link or a special file`);
    }
    found.push({
      name,
      flags,
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      packedBytes: view.getUint32(at + 20, true),
      sizeBytes: view.getUint32(at + 24, true),
      offset: view.getUint32(at + 42, true) + shift,
    });
    at = next;
  }
  return found;
}

function checkMembers(members: readonly Member[], archiveBytes: number, source: string): void {
  let total = 0;
  const seen = new Set<string>();
  for (const member of members) {
    const shown = JSON.stringify(member.name);
    if (!isInside(member.name.replace(/\/$/, ""))) {
      throw new IntegrityError(`${source} is hostile: it names ${shown}, a path outside the bundle`);
    }
    const folded = member.name.toLowerCase();
    if (seen.has(folded)) throw new IntegrityError(`${source} is hostile: ${shown} is in it twice`);
    if (member.method !== STORED && member.method !== DEFLATED) {
      throw new IntegrityError(
        `${source} cannot be read: ${shown} has the compression ${member.method}; expected stored (0) or deflated (8)`,
        { hint: HINT },
      );
    }
    seen.add(folded);
    total += member.sizeBytes;
    if (member.sizeBytes > MAX_RATIO * Math.max(member.packedBytes, 1024)) {
      throw new IntegrityError(`${source} is hostile: ${shown} expands more than ${MAX_RATIO} times`);
    }
  }
  if (seen.size > MAX_FILES || total > MAX_TOTAL_BYTES) {
    throw new IntegrityError(
      `${source} is too large: ${seen.size} files and ${total} bytes; expected at most ${MAX_FILES} files and` +
        ` ${MAX_TOTAL_BYTES} bytes`,
    );
  }
  if (total > FREE_BYTES + MAX_TOTAL_RATIO * archiveBytes) {
    throw new IntegrityError(`${source} is hostile: it expands more than ${MAX_TOTAL_RATIO} times`);
  }
}

/** Return whether a name is a plain relative path with `/`, which cannot lead out of a folder on any system. */
export function isInside(relative: string): boolean {
  if (relative === "" || /[\\:]/.test(relative) || /[\p{C}\p{Z}]/u.test(relative.replaceAll(" ", ""))) return false;
  return relative.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

function crc32(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = CRC[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
