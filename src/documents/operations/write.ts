import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { DOCUMENT_LUA, HEAD_BYTES, headOf } from '../stored-document.ts';

export interface DocumentWriteArgs {
  /** The revision that the write replaces; empty for an absent document; `ANY_REVISION` for any. */
  readonly expected: string;
  /** The TTL to set; null for none. */
  readonly ttl: number | null;
  /** The packed document; empty to delete the document. */
  readonly document: string;
}

/** No token contains this character. */
export const ANY_REVISION = '*';

export interface DocumentWriteReply {
  readonly found: StoredFormat;
  /** False if the document has another revision than expected, or if there was no document to delete. */
  readonly isDone: boolean;
}

/*
 * Stores or deletes a document, if it has the expected revision. An unreadable document counts as absent.
 *
 * KEYS   1 the document
 * ARGV   1 time, 2 expected revision, '' for none or '*' for any, 3 TTL in ms or 0 for none, 4 the document or ''
 * reply  {found, 1 done or 0}
 */
const lua = /* lua */ `${DOCUMENT_LUA}
local found, revision = head_of(read('GETRANGE', KEYS[1], 0, ${HEAD_BYTES - 1}))
if found == 2 or ARGV[2] ~= '${ANY_REVISION}' and ARGV[2] ~= revision then return { found, 0 } end
if ARGV[4] == '' then
  redis.call('DEL', KEYS[1])
  return { found, revision == '' and 0 or 1 }
end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[4]) else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[3]) end
return { found, 1 }
`;

export const documentWrite: Operation<DocumentWriteArgs, DocumentWriteReply> = defineOperation({
  name: 'document-write',
  lua,
  encode: ({ expected, ttl, document }) => [expected, String(ttl ?? 0), document],
  runInMemory(memory, [key = ''], _now, { expected, ttl, document }) {
    const { found, revision } = headOf(memory.get(key));
    const code = storedFormatCode(found);
    if (found === 'newer' || (expected !== ANY_REVISION && expected !== revision)) return [code, 0];
    if (document === '') {
      memory.delete(key);
      return [code, revision === '' ? 0 : 1];
    }
    memory.set(key, Buffer.from(document), ttl ?? Number.POSITIVE_INFINITY);
    return [code, 1];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const found = storedFormatAt(fields, 0);
    if (found === 'newer') throw newerFormat('document');
    return { found, isDone: integerAt(fields, 1) === 1 };
  },
});
