/**
 * Find weights that an ONNX model keeps in other files, which no hash protects. The protocol buffer is walked through
 * the fields that can hold a tensor, and no others; as Python's `edgedenoise/bundles/onnx_data.py`.
 */

type Kind = "model" | "graph" | "node" | "attribute" | "sparse" | "function" | "training" | "tensor";

const MESSAGES: Readonly<Record<Exclude<Kind, "tensor">, Readonly<Record<number, Kind>>>> = {
  model: { 7: "graph", 20: "training", 25: "function" },
  graph: { 1: "node", 5: "tensor", 15: "sparse" },
  node: { 5: "attribute" },
  attribute: { 5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse" },
  sparse: { 1: "tensor", 2: "tensor" },
  function: { 7: "node", 11: "attribute" },
  training: { 1: "graph", 2: "graph" },
};
const NAME = 8;
const EXTERNAL_DATA = 13;
const DATA_LOCATION = 14;
const MAX_DEPTH = 64;

/**
 * Return the name of the first tensor of a model whose data is in another file, or null.
 *
 * @throws SyntaxError the bytes are not a protocol buffer, or nest too deeply
 */
export function externalTensor(data: Uint8Array): string | null {
  const waiting: [Kind, Uint8Array, number][] = [["model", data, 0]];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const [kind, message, depth] = next;
    if (depth > MAX_DEPTH) throw new SyntaxError(`messages nest more than ${MAX_DEPTH} deep`);
    if (kind === "tensor") {
      let name = "";
      let isExternal = false;
      for (const [number, value] of fields(message)) {
        if (number === NAME && value instanceof Uint8Array) name = new TextDecoder().decode(value.subarray(0, 200));
        isExternal ||= number === EXTERNAL_DATA || (number === DATA_LOCATION && value !== 0n);
      }
      if (isExternal) return name;
      continue;
    }
    for (const [number, value] of fields(message)) {
      const inner = MESSAGES[kind][number];
      if (inner !== undefined && value instanceof Uint8Array) waiting.push([inner, value, depth + 1]);
    }
  }
  return null;
}

/** Yield the number and value of each field: an integer, or the bytes of a field with a length. */
function* fields(message: Uint8Array): Generator<[number, bigint | Uint8Array]> {
  let position = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message[position];
      if (byte === undefined) throw new SyntaxError("it is cut short");
      position += 1;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new SyntaxError("a number is longer than 10 bytes");
  };
  while (position < message.length) {
    const tag = varint();
    const number = Number((tag & 0xffffffffn) >> 3n);
    const wire = Number(tag & 7n);
    if (wire === 0) {
      yield [number, varint()];
      continue;
    }
    if (wire !== 1 && wire !== 2 && wire !== 5) throw new SyntaxError(`a field has the unknown wire type ${wire}`);
    const length = wire === 2 ? varint() : wire === 1 ? 8n : 4n;
    if (length > BigInt(message.length - position)) throw new SyntaxError("it is cut short");
    yield [number, message.subarray(position, position + Number(length))];
    position += Number(length);
  }
}
