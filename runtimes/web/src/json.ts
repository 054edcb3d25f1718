/**
 * JSON with its numbers as they were written.
 *
 * The digest of a manifest is the SHA-256 of its JSON values with sorted keys, where 1 and 1.0 differ. `JSON.parse`
 * loses that difference.
 */

/** A number and its shortest text; an integer has neither point nor exponent. */
export class JsonNumber {
  constructor(
    readonly value: number,
    readonly isInteger: boolean,
    readonly text: string,
  ) {}
}

export type JsonValue = null | boolean | string | JsonNumber | readonly JsonValue[] | JsonObject;
export type JsonObject = ReadonlyMap<string, JsonValue>;

const MAX_DEPTH = 500;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t",
};

/**
 * Return the value of a JSON text in UTF-8.
 *
 * @throws SyntaxError it is not JSON, nests too deeply, or has a number that 64 bits do not hold
 */
export function parseJson(data: Uint8Array): JsonValue {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    throw new SyntaxError("it is not UTF-8");
  }
  return new Parser(text).whole();
}

class Parser {
  private at = 0;

  constructor(private readonly text: string) {}

  whole(): JsonValue {
    const value = this.value(0);
    this.space();
    if (this.at < this.text.length) this.fail("characters behind the end");
    return value;
  }

  private fail(what: string): never {
    throw new SyntaxError(`JSON is malformed: ${what} (character ${this.at})`);
  }

  private space(): void {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at += 1;
  }

  private value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) this.fail(`it nests more than ${MAX_DEPTH} deep`);
    this.space();
    const sign = this.text[this.at];
    if (sign === "{") return this.object(depth);
    if (sign === "[") return this.array(depth);
    if (sign === '"') return this.string();
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  private object(depth: number): JsonObject {
    const found = new Map<string, JsonValue>();
    this.at += 1;
    this.space();
    if (this.text[this.at] === "}") {
      this.at += 1;
      return found;
    }
    for (;;) {
      this.space();
      if (this.text[this.at] !== '"') this.fail("expected a key");
      const key = this.string();
      this.space();
      if (this.text[this.at] !== ":") this.fail("expected a colon");
      this.at += 1;
      found.set(key, this.value(depth + 1));
      if (this.ends("}")) return found;
    }
  }

  private array(depth: number): JsonValue[] {
    const found: JsonValue[] = [];
    this.at += 1;
    this.space();
    if (this.text[this.at] === "]") {
      this.at += 1;
      return found;
    }
    for (;;) {
      found.push(this.value(depth + 1));
      if (this.ends("]")) return found;
    }
  }

  /** Return whether a list ends here; otherwise a comma is passed. */
  private ends(bracket: string): boolean {
    this.space();
    const sign = this.text[this.at];
    if (sign !== bracket && sign !== ",") this.fail(`expected a comma or ${bracket}`);
    this.at += 1;
    return sign === bracket;
  }

  private string(): string {
    let result = "";
    this.at += 1;
    for (;;) {
      const sign = this.text[this.at];
      if (sign === undefined || sign < " ") this.fail("a string does not end");
      this.at += 1;
      if (sign === '"') break;
      result += sign === "\\" ? this.escape() : sign;
    }
    if (/\p{Cs}/u.test(result)) this.fail("half of a surrogate pair");
    return result;
  }

  private escape(): string {
    const sign = this.text[this.at] ?? "";
    this.at += 1;
    if (sign !== "u") return ESCAPES[sign] ?? this.fail("an unknown escape");
    const digits = this.text.slice(this.at, this.at + 4);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) this.fail("an escape without four digits");
    this.at += 4;
    return String.fromCharCode(parseInt(digits, 16));
  }

  private number(): JsonNumber {
    NUMBER.lastIndex = this.at;
    const match = NUMBER.exec(this.text);
    if (match === null) this.fail("an invalid character");
    const [token, fraction, exponent] = match;
    this.at += token.length;
    if (fraction === undefined && exponent === undefined) {
      const exact = BigInt(token);
      if (exact < -(2n ** 63n) || exact >= 2n ** 64n) this.fail("an integer beyond 64 bits");
      return new JsonNumber(Number(exact), true, exact.toString());
    }
    const value = Number(token);
    if (!Number.isFinite(value)) this.fail("a number out of range");
    return new JsonNumber(value, false, floatText(value));
  }
}

/** Return the shortest text of a float, as msgspec writes it: 0.5, 100.0, 1e16, 4.1e-6. */
function floatText(value: number): string {
  if (Object.is(value, -0)) return "-0.0";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-5 || size >= 1e16)) return value.toExponential().replace("e+", "e");
  const text = String(value);
  return text.includes(".") ? text : `${text}.0`;
}

/** Return a value as JSON without spaces, keys in the order of their code points: the text that digests are of. */
export function canonicalJson(value: JsonValue): string {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (value instanceof JsonNumber) return value.text;
  if (isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const keys = [...value.keys()].sort(byCodePoint);
  return `{${keys.map((key) => `${JSON.stringify(key)}:${canonicalJson(value.get(key) ?? null)}`).join(",")}}`;
}

export function isArray(value: JsonValue | undefined): value is readonly JsonValue[] {
  return Array.isArray(value);
}

export function isObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

function byCodePoint(a: string, b: string): number {
  const first = [...a];
  const second = [...b];
  for (let i = 0; i < Math.min(first.length, second.length); i++) {
    const difference = (first[i]?.codePointAt(0) ?? 0) - (second[i]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return first.length - second.length;
}
