import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  bytesAt,
  integerAt,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import { type LifetimeArgs, StoredFields, ttlArgument, WRITE_FIELDS_LUA } from './stored-fields.ts';

export interface StateIncrementArgs extends LifetimeArgs {
  /** The most fields of the scope. */
  readonly maxFields: number;
  readonly field: string;
  /** A safe integer. */
  readonly by: number;
}

export interface StateIncrementReply {
  readonly found: StoredFormat;
  /**
   * `too-many`: the scope would have too many fields. `no-integer`: the field has another value. `unsafe`: the result
   * would exceed the safe integers. Only `written` changes the field.
   */
  readonly outcome: 'too-many' | 'written' | 'no-integer' | 'unsafe';
  /** The new value. */
  readonly value: number;
}

const OUTCOMES = ['too-many', 'written', 'no-integer', 'unsafe'] as const;

/** Lua computes with doubles, as JavaScript does: a sum is exact up to this number. */
const MOST = Number.MAX_SAFE_INTEGER;

/*
 * Adds to the integer in a field, which is 0 if the field is absent, and sets the TTL.
 *
 * KEYS   1 the scope
 * ARGV   1 time, 2 TTL in ms or 0 for none, 3 most fields, 4 field, 5 integer to add
 * reply  {found, outcome (0 too many fields, 1 written, 2 no integer, 3 unsafe), new value in digits}
 *
 * The new value is no integer of the protocol: node-redis computes those inexactly just below 2^53.
 */
const lua = /* lua */ `${WRITE_FIELDS_LUA}
local json = redis.call('HGET', KEY, ARGV[4])
if not json and size >= tonumber(ARGV[3]) then return { found, 0, '' } end
local value = 0
if json then
  if not string.match(json, '^-?%d+$') or math.abs(tonumber(json)) > ${MOST} then return { found, 2, '' } end
  value = tonumber(json)
end
value = value + ARGV[5]
if math.abs(value) > ${MOST} then return { found, 3, '' } end
local sum = string.format('%.0f', value)
redis.call('HSET', KEY, ARGV[4], sum)
keep(ARGV[2])
return { found, 1, sum }
`;

export const stateIncrement: Operation<StateIncrementArgs, StateIncrementReply> = defineOperation({
  name: 'state-increment',
  lua,
  encode: (args) => [ttlArgument(args), String(args.maxFields), args.field, String(args.by)],
  runInMemory(memory, [key = ''], _now, args) {
    const stored = new StoredFields(memory, key);
    const found = storedFormatCode(stored.isCorrupt ? 'corrupt' : 'fine');
    const json = stored.hash?.get(args.field)?.toString();
    const value = Number(json ?? 0) + args.by;
    const refusal = refusalOf(json, value, stored.size >= args.maxFields);
    if (refusal !== undefined) {
      if (stored.isCorrupt) memory.delete(key);
      return [found, OUTCOMES.indexOf(refusal), Buffer.alloc(0)];
    }
    const sum = String(value);
    stored.set([[args.field, sum]], args);
    return [found, OUTCOMES.indexOf('written'), Buffer.from(sum)];
  },
  decode(reply) {
    const fields = arrayOf(reply);
    return {
      found: storedFormatAt(fields, 0),
      outcome: OUTCOMES[integerAt(fields, 1)] ?? 'no-integer',
      value: Number(bytesAt(fields, 2)?.toString()),
    };
  },
});

function refusalOf(
  json: string | undefined,
  value: number,
  isFull: boolean,
): StateIncrementReply['outcome'] | undefined {
  if (json === undefined && isFull) return 'too-many';
  if (json !== undefined && !(/^-?\d+$/.test(json) && Math.abs(Number(json)) <= MOST)) return 'no-integer';
  return Math.abs(value) > MOST ? 'unsafe' : undefined;
}
