/** Packs bytes, given in parts, and a JSON value that describes them: `[length of meta u32][meta as JSON][body]`. */
export function packFrame(meta: unknown, ...body: readonly Buffer[]): Buffer {
  const json = JSON.stringify(meta);
  const metaLength = Buffer.byteLength(json);
  let length = 4 + metaLength;
  for (const part of body) length += part.length;
  const frame = Buffer.allocUnsafe(length);
  frame.writeUInt32BE(metaLength, 0);
  let at = 4 + frame.write(json, 4);
  for (const part of body) at += part.copy(frame, at);
  return frame;
}

/** Returns undefined for bytes that are no frame. The body is a view of `packed`, not a copy. */
export function unpackFrame(packed: Buffer): { readonly meta: unknown; readonly body: Buffer } | undefined {
  if (packed.length < 4) return undefined;
  const bodyAt = 4 + packed.readUInt32BE(0);
  if (bodyAt > packed.length) return undefined;
  try {
    return { meta: JSON.parse(packed.toString('utf8', 4, bodyAt)), body: packed.subarray(bodyAt) };
  } catch {
    return undefined;
  }
}
