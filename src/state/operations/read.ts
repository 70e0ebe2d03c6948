import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
  textsAt,
} from '../../engine/reply.ts';
import { StoredFields } from './stored-fields.ts';

export interface StateReadArgs {
  /** The TTL that the read sets; 0 leaves the TTL as it is. */
  readonly touch: number;
}

export interface StateGetArgs extends StateReadArgs {
  readonly field: string;
}

export interface StateGetReply {
  readonly found: StoredFormat;
  /** The JSON of the field; null for an absent field. */
  readonly json: string | null;
}

/*
 * Reads one field.
 *
 * KEYS   1 the scope
 * ARGV   1 time, 2 TTL in ms or 0 to leave it, 3 field
 * reply  {found, JSON or nil}
 */
const getLua = /* lua */ `
local json = read('HGET', KEYS[1], ARGV[3])
if type(json) == 'table' then return { 1, false } end
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return { 0, json }
`;

export const stateGet: Operation<StateGetArgs, StateGetReply> = defineOperation({
  name: 'state-get',
  lua: getLua,
  encode: ({ touch, field }) => [String(touch), field],
  runInMemory(memory, [key = ''], _now, { touch, field }) {
    const stored = new StoredFields(memory, key);
    if (touch > 0) stored.touch(touch);
    return [storedFormatCode(stored.isCorrupt ? 'corrupt' : 'fine'), stored.hash?.get(field) ?? null];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { found: storedFormatAt(fields, 0), json: bytesAt(fields, 1)?.toString() ?? null };
  },
});

export interface StateAllReply {
  readonly found: StoredFormat;
  readonly entries: readonly (readonly [field: string, json: string])[];
}

/*
 * Reads all fields.
 *
 * KEYS   1 the scope
 * ARGV   1 time, 2 TTL in ms or 0 to leave it
 * reply  {found, {field, JSON, ...}}
 */
const allLua = /* lua */ `
if type(read('HLEN', KEYS[1])) == 'table' then return { 1, {} } end
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return { 0, redis.call('HGETALL', KEYS[1]) }
`;

export const stateAll: Operation<StateReadArgs, StateAllReply> = defineOperation({
  name: 'state-all',
  lua: allLua,
  encode: ({ touch }) => [String(touch)],
  runInMemory(memory, [key = ''], _now, { touch }) {
    const stored = new StoredFields(memory, key);
    if (touch > 0) stored.touch(touch);
    const entries = stored.hash?.entries() ?? [];
    return [
      storedFormatCode(stored.isCorrupt ? 'corrupt' : 'fine'),
      entries.flatMap(([field, json]) => [Buffer.from(field), json]),
    ];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    const texts = textsAt(fields, 1);
    const entries = [];
    for (let at = 0; at < texts.length; at += 2)
      entries.push([texts[at] ?? '', texts[at + 1] ?? ''] as const);
    return { found: storedFormatAt(fields, 0), entries };
  },
});
