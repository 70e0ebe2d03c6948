import type { StoredFormat } from '../engine/reply.ts';

/*
 * The stored format of a document:
 *
 *   'D', version, length of revision u8, revision, then the JSON in UTF-8
 *
 * The revision is a token that each write replaces, and that no other write ever uses.
 */
const MAGIC = 0x44;
const VERSION = 1;
const HEADER = 3;

/** Defines `head_of(raw)`, which returns whether a value is readable, as in a reply, and its revision if it is. */
export const DOCUMENT_LUA: string = /* lua */ `
local function head_of(raw)
  if type(raw) == 'table' then return 1, '' end
  if raw == '' then return 0, '' end
  local magic, version, length = string.byte(raw, 1, ${HEADER})
  if magic == ${MAGIC} and version and version > ${VERSION} then return 2, '' end
  if magic ~= ${MAGIC} or version ~= ${VERSION} or not length or length == 0 or #raw < ${HEADER} + length then
    return 1, ''
  end
  return 0, string.sub(raw, ${HEADER + 1}, ${HEADER} + length)
end
`;

/** The bytes of a value that contain the whole head. */
export const HEAD_BYTES: number = HEADER + 255;

interface DocumentHead {
  readonly found: StoredFormat;
  /** Empty for an absent or unreadable document. */
  readonly revision: string;
}

export function headOf(value: Buffer | undefined): DocumentHead {
  if (value === undefined || value.length === 0) return { found: 'fine', revision: '' };
  const [magic, version, length] = value;
  if (magic === MAGIC && version !== undefined && version > VERSION) return { found: 'newer', revision: '' };
  const isReadable = magic === MAGIC && version === VERSION && length !== undefined && length > 0;
  if (!isReadable || value.length < HEADER + length) return { found: 'corrupt', revision: '' };
  return { found: 'fine', revision: value.toString('latin1', HEADER, HEADER + length) };
}

/** The JSON of a value whose head is readable. */
export function jsonOfDocument(value: Buffer): string {
  return value.toString('utf8', HEADER + (value[HEADER - 1] ?? 0));
}

/** A document as it is stored. All bytes of the head are ASCII. */
export function packDocument(revision: string, json: string): string {
  return `${String.fromCharCode(MAGIC, VERSION, revision.length)}${revision}${json}`;
}
