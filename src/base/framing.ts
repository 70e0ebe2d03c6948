/** Packs bytes and a JSON value that describes them: `[length of meta u32][meta as JSON][body]`. */
export function packFrame(meta: unknown, body: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(meta));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(json.length);
  return Buffer.concat([length, json, body]);
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
