import { defineOperation, type Keyspace, type Operation, type RawReply } from '../../engine/operation.ts';
import { bytesAt, storedFormatCode } from '../../engine/reply.ts';
import {
  encodePolicy,
  operationsByAlgorithms,
  type PoliciesLua,
  type PolicyArgs,
} from './policies-script.ts';
import { decodeReplies, PACK_REPLY, packDoubles, type TakeReply } from './take.ts';

export interface ReserveArgs {
  /** The fewest units of use to the caller. */
  readonly least: number;
  /** The most units to take. */
  readonly most: number;
  /** How long, in milliseconds, the units may be used. */
  readonly holdMs: number;
  readonly policies: readonly PolicyArgs[];
}

export interface ReserveReply {
  /** The units that were taken: as many as are left from `least` to `most`, or 0 for a refusal. */
  readonly units: number;
  readonly replies: readonly TakeReply[];
}

/*
 * Takes a batch of units, which a process uses up during the hold. In a sliding window, the units count until hold and
 * window have passed, since each may be used at any time of the hold. For a token bucket, the caller lowers the capacity
 * by the refill during the hold: the whole bucket may be used at the end of the hold.
 *
 * KEYS   one per policy, all with the same hash tag
 * ARGV   1 time, 2 least, 3 most, 4 hold, then per policy: algorithm, limit, span, rate
 * reply  a double, the units that were taken; then as the reply of limit-take for `least` units
 *
 * When the stored value of one policy has a newer format, no policy is charged.
 */
const luaOf = ({ open, each }: PoliciesLua) => /* lua */ `
local least, most, due, refused, reply = ARGV[2] + 0, ARGV[3] + 0, now + ARGV[4], false, {}
${open('4 * i + 1')}
local cost, units, allowed, readable = least, most, true, true
${each(
  ({ wait, result }) => /* lua */ `
  local counted, reset
  ${wait}
  ${result}
  allowed = allowed and wait == 0
  readable = readable and found ~= 2
  units = math.min(units, limit - counted)`,
)}
cost = allowed and units or 0
${each(
  ({ charge, postpone = '', refuse, result, save }) => /* lua */ `
  local stored, stamp, position, counted, reset = (wait == 0 and 1 or 0) + 2 * found, 0, 0, 0, 0
  if readable and cost > 0 then
    ${charge}
    ${postpone}
  end
  ${refuse === undefined ? '' : `if readable and not allowed then ${refuse} end`}
  ${result}
  if readable then ${save} end
  ${PACK_REPLY}`,
)}
return struct.pack('<d', cost) .. table.concat(reply)
`;

export const limitReserve: (policies: readonly PolicyArgs[]) => Operation<ReserveArgs, ReserveReply> =
  operationsByAlgorithms((policies) =>
    defineOperation({
      name: 'limit-reserve',
      lua: luaOf(policies),
      encode: ({ least, most, holdMs, policies: args }) => [
        ...[least, most, holdMs].map(String),
        ...args.flatMap(encodePolicy),
      ],
      runInMemory,
      decode,
    }),
  );

function runInMemory(
  memory: Keyspace,
  keys: readonly string[],
  now: number,
  { least, most, holdMs, policies }: ReserveArgs,
): Buffer {
  const states = policies.map(({ algorithm, numbers }, index) => {
    const state = algorithm.open(memory, keys[index] ?? '', now, numbers);
    return { state, wait: state.waitMs(least), left: numbers[0] - state.used() };
  });
  const isAllowed = states.every(({ wait }) => wait === 0);
  const isReadable = states.every(({ state }) => state.found !== 'newer');
  const units = isAllowed ? Math.min(most, ...states.map(({ left }) => left)) : 0;
  const reply = states.flatMap(({ state, wait }) => {
    let charge = { stamp: 0, position: 0 };
    if (isReadable && units > 0) charge = state.charge(units, false, now + holdMs);
    if (isReadable && !isAllowed) state.refuse();
    const stored = (wait === 0 ? 1 : 0) + 2 * storedFormatCode(state.found);
    return [stored, state.used(), wait, state.resetMs(), charge.stamp, charge.position];
  });
  if (isReadable) for (const { state } of states) state.save();
  return packDoubles([units, ...reply]);
}

function decode(reply: RawReply): ReserveReply {
  const bytes = bytesAt([reply], 0) ?? Buffer.alloc(8);
  return { units: bytes.readDoubleLE(0), replies: decodeReplies(bytes.subarray(8)) };
}
