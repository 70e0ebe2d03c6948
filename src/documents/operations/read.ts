import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { headOf, jsonOfDocument } from '../stored-document.ts';

export interface DocumentReadReply {
  readonly found: StoredFormat;
  /** Empty for an absent or unreadable document. */
  readonly revision: string;
  /** Null for an absent or unreadable document. */
  readonly json: string | null;
}

/*
 * Reads a document.
 *
 * KEYS   1 the document
 * ARGV   1 time
 * reply  {found (0 or 1), the stored value or nil}
 */
const lua = /* lua */ `
local raw = read('GET', KEYS[1])
if type(raw) == 'table' then return { 1, false } end
return { 0, raw }
`;

export const documentRead: Operation<undefined, DocumentReadReply> = defineOperation({
  name: 'document-read',
  lua,
  encode: () => [],
  runInMemory: (memory, [key = '']) => [storedFormatCode('fine'), memory.get(key) ?? null],
  decode(reply) {
    const fields = arrayOf(reply);
    const value = bytesAt(fields, 1);
    if (storedFormatAt(fields, 0) === 'corrupt') return { found: 'corrupt', revision: '', json: null };
    const head = headOf(value ?? undefined);
    if (head.found === 'newer') throw newerFormat('document');
    return { ...head, json: value === null || head.revision === '' ? null : jsonOfDocument(value) };
  },
});
