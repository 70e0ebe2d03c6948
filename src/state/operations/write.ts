import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { type LifetimeArgs, StoredFields, ttlArgument, WRITE_FIELDS_LUA } from './stored-fields.ts';

export interface StateSetArgs extends LifetimeArgs {
  /** The most fields of the scope. */
  readonly maxFields: number;
  readonly values: readonly (readonly [field: string, json: string])[];
}

export interface StateSetReply {
  readonly found: StoredFormat;
  /** False if the scope would have too many fields; nothing was written then. */
  readonly isWritten: boolean;
}

/*
 * Sets fields and the TTL.
 *
 * KEYS   1 the scope
 * ARGV   1 time, 2 TTL in ms or 0 for none, 3 most fields, then each field and its JSON
 * reply  {found, 1 written or 0 too many fields}
 */
const setLua = /* lua */ `${WRITE_FIELDS_LUA}
local most, count = tonumber(ARGV[3]), size
if size + (#ARGV - 3) / 2 > most then
  for i = 4, #ARGV, 2 do count = count + 1 - redis.call('HEXISTS', KEY, ARGV[i]) end
  if count > most and count > size then return { found, 0 } end
end
for i = 4, #ARGV, 2 do redis.call('HSET', KEY, ARGV[i], ARGV[i + 1]) end
keep(ARGV[2])
return { found, 1 }
`;

export const stateSet: Operation<StateSetArgs, StateSetReply> = defineOperation({
  name: 'state-set',
  lua: setLua,
  encode: (args) => [ttlArgument(args), String(args.maxFields), ...args.values.flat()],
  runInMemory(memory, [key = ''], _now, args) {
    const stored = new StoredFields(memory, key);
    const found = storedFormatCode(stored.isCorrupt ? 'corrupt' : 'fine');
    const count = stored.size + args.values.filter(([field]) => !stored.has(field)).length;
    if (count > args.maxFields && count > stored.size) {
      if (stored.isCorrupt) memory.delete(key);
      return [found, 0];
    }
    stored.set(args.values, args);
    return [found, 1];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { found: storedFormatAt(fields, 0), isWritten: integerAt(fields, 1) === 1 };
  },
});

export interface StateDeleteArgs extends LifetimeArgs {
  readonly fields: readonly string[];
}

export interface StateDeleteReply {
  readonly found: StoredFormat;
  /** The number of fields that existed. */
  readonly count: number;
}

/*
 * Deletes fields and sets the TTL.
 *
 * KEYS   1 the scope
 * ARGV   1 time, 2 TTL in ms or 0 for none, then the fields
 * reply  {found, number of fields that existed}
 */
const deleteLua = /* lua */ `${WRITE_FIELDS_LUA}
local count = 0
for i = 3, #ARGV do count = count + redis.call('HDEL', KEY, ARGV[i]) end
keep(ARGV[2])
return { found, count }
`;

export const stateDelete: Operation<StateDeleteArgs, StateDeleteReply> = defineOperation({
  name: 'state-delete',
  lua: deleteLua,
  encode: (args) => [ttlArgument(args), ...args.fields],
  runInMemory(memory, [key = ''], _now, args) {
    const stored = new StoredFields(memory, key);
    return [storedFormatCode(stored.isCorrupt ? 'corrupt' : 'fine'), stored.delete(args.fields, args)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return { found: storedFormatAt(fields, 0), count: integerAt(fields, 1) };
  },
});
