import { defineOperation, type Keyspace, type Operation } from '../../engine/operation.ts';
import { storedFormatCode } from '../../engine/reply.ts';
import {
  encodePolicy,
  operationsByAlgorithms,
  type PoliciesLua,
  type PolicyArgs,
} from './policies-script.ts';
import { decodeReplies, PACK_REPLY, packDoubles, type TakeReply } from './take.ts';

export interface WaitArgs {
  readonly cost: number;
  /** The longest time, in milliseconds, that the request may wait. */
  readonly mostMs: number;
  readonly policies: readonly PolicyArgs[];
}

/*
 * Takes units for a request that may wait: grants them for the earliest time at which they fit after all units that are
 * granted already, if that is within `most`. So requests are served in the order of their arrival, to within the
 * resolution of a window, in all processes, and each with one command. The request continues when the longest wait in the
 * reply is over.
 *
 * KEYS   one per policy, all with the same hash tag
 * ARGV   1 time, 2 cost, 3 most, then per policy: algorithm, limit, span, rate
 * reply  as that of limit-take; `wait` is the time until the units are granted, or until they would be
 *
 * When the stored value of one policy has a newer format, no policy is charged.
 */
const luaOf = ({ open, each }: PoliciesLua) => /* lua */ `
local cost, most, refused, reply = ARGV[2] + 0, ARGV[3] + 0, false, {}
${open('4 * i')}
local longest, allowed, readable = 0, true, true
${each(
  ({ wait, turn = '' }) => /* lua */ `
  ${wait}
  ${turn}
  longest = math.max(longest, wait)
  allowed = allowed and wait >= 0 and wait <= most
  readable = readable and found ~= 2`,
)}
local due = now + longest
local is_charged = readable and allowed and cost > 0
${each(
  ({ skip, charge, postpone = '', refuse, result, save }) => /* lua */ `
  local stored, stamp, position, counted, reset = 2 * found, 0, 0, 0, 0
  if wait >= 0 and wait <= most then stored = stored + 1 end
  if is_charged then
    ${skip === undefined ? '' : `if longest > 0 then ${skip} end`}
    ${charge}
    ${postpone}
  end
  ${refuse === undefined ? '' : `if readable and not allowed then ${refuse} end`}
  ${result}
  if readable then ${save} end
  ${PACK_REPLY}`,
)}
return table.concat(reply)
`;

export const limitWait: (policies: readonly PolicyArgs[]) => Operation<WaitArgs, readonly TakeReply[]> =
  operationsByAlgorithms((policies) =>
    defineOperation({
      name: 'limit-wait',
      lua: luaOf(policies),
      encode: ({ cost, mostMs, policies: args }) => [
        String(cost),
        String(mostMs),
        ...args.flatMap(encodePolicy),
      ],
      runInMemory,
      decode: decodeReplies,
    }),
  );

function runInMemory(
  memory: Keyspace,
  keys: readonly string[],
  now: number,
  { cost, mostMs, policies }: WaitArgs,
): Buffer {
  const states = policies.map(({ algorithm, numbers }, index) => {
    const state = algorithm.open(memory, keys[index] ?? '', now, numbers);
    const wait = state.turnMs(cost);
    return { state, wait, fits: wait >= 0 && wait <= mostMs };
  });
  const longest = Math.max(0, ...states.map(({ wait }) => wait));
  const isAllowed = states.every(({ fits }) => fits);
  const isReadable = states.every(({ state }) => state.found !== 'newer');
  const reply = states.flatMap(({ state, wait, fits }) => {
    let charge = { stamp: 0, position: 0 };
    if (isReadable && isAllowed && cost > 0) {
      if (longest > 0) state.skipTo?.(now + longest);
      charge = state.charge(cost, false, now + longest);
    }
    if (isReadable && !isAllowed) state.refuse();
    const stored = (fits ? 1 : 0) + 2 * storedFormatCode(state.found);
    return [stored, state.used(), wait, state.resetMs(), charge.stamp, charge.position];
  });
  if (isReadable) for (const { state } of states) state.save();
  return packDoubles(reply);
}
