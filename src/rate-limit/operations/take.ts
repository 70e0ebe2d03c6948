import { defineOperation, type Keyspace, type Operation, type RawReply } from '../../engine/operation.ts';
import {
  bytesAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import type { Charge } from './algorithm.ts';
import {
  encodePolicy,
  operationsByAlgorithms,
  type PoliciesLua,
  type PolicyArgs,
} from './policies-script.ts';

export interface TakeArgs {
  /**
   * `take` charges when every policy allows the cost, `peek` never charges, `force` always charges, and `count` decides
   * as `take` does but also charges refused requests.
   */
  readonly mode: 'take' | 'peek' | 'force' | 'count';
  /** The costs of one or several requests, which are decided one after the other, at the same time. */
  readonly costs: readonly number[];
  readonly policies: readonly PolicyArgs[];
}

/** The reply for one request and policy. */
export interface TakeReply extends Charge {
  readonly allowed: boolean;
  readonly used: number;
  /** Milliseconds, after this call's charge, until the same cost fits: 0 when it fits now, -1 when it never will. */
  readonly waitMs: number;
  readonly resetMs: number;
  readonly found: StoredFormat;
}

const NO_CHARGE: Charge = { stamp: 0, position: 0 };

/** The bytes of the reply for one request and policy: six numbers. */
const REPLY_BYTES = 48;

/** Adds the reply for one request and policy to the list `reply`. */
export const PACK_REPLY =
  "reply[#reply + 1] = struct.pack('<dddddd', stored, counted, wait, reset, stamp, position)";

/*
 * Decides all policies of one identity: evaluates all of them, then charges all or none.
 *
 * KEYS   one per policy, all with the same hash tag
 * ARGV   1 time, 2 mode, then per policy: algorithm, limit, span, rate; then the costs, separated by commas
 * reply  a string; for each cost and policy six doubles, little-endian: 1 if it is allowed (else 0) plus twice the code of
 *        the stored format, used, wait ms (-1 never), reset ms, stamp, position
 *
 * When the stored value of one policy has a newer format, no policy is charged.
 */
const luaOf = ({ open, each }: PoliciesLua) => /* lua */ `
local mode, cost, costs, reply = ARGV[2], tonumber(ARGV[#ARGV]), nil, {}
if not cost then
  costs = {}
  for each in string.gmatch(ARGV[#ARGV], '%d+') do costs[#costs + 1] = each + 0 end
end
${open('4 * i - 1')}
local readable = true
${each(() => 'readable = readable and found ~= 2')}
for turn = 1, costs and #costs or 1 do
  if costs then cost = costs[turn] end
  local allowed = true
  ${each(({ wait }) => `${wait}\nallowed = allowed and wait == 0`)}
  local refused = (mode == 'take' or mode == 'count') and not allowed
  local is_charged = mode == 'force' or mode == 'count' or (mode == 'take' and allowed)
  is_charged = is_charged and readable and cost > 0
  ${each(
    ({ wait, charge, refuse, result }) => /* lua */ `
  local stored, stamp, position, counted, reset = (wait == 0 and 1 or 0) + 2 * found, 0, 0, 0, 0
  if is_charged then
    ${charge}
    if refused then stamp, position = 0, 0 end
  end
  ${refuse === undefined ? '' : `if refused and readable then ${refuse} end`}
  ${wait}
  ${result}
  ${PACK_REPLY}`,
  )}
end
if readable and mode ~= 'peek' then
  ${each(({ save }) => save)}
end
return table.concat(reply)
`;

export const limitTake: (policies: readonly PolicyArgs[]) => Operation<TakeArgs, readonly TakeReply[]> =
  operationsByAlgorithms((policies) =>
    defineOperation({ name: 'limit-take', lua: luaOf(policies), encode, runInMemory, decode: decodeReplies }),
  );

function encode({ mode, costs, policies }: TakeArgs): string[] {
  return [mode, ...policies.flatMap(encodePolicy), costs.join()];
}

function runInMemory(
  memory: Keyspace,
  keys: readonly string[],
  now: number,
  { mode, costs, policies }: TakeArgs,
): Buffer {
  const states = policies.map(({ algorithm, numbers }, index) =>
    algorithm.open(memory, keys[index] ?? '', now, numbers),
  );
  const isReadable = states.every((state) => state.found !== 'newer');
  const reply = costs.flatMap((cost) => {
    const fits = states.map((state) => state.waitMs(cost) === 0);
    const isAllowed = !fits.includes(false);
    const isRefused = (mode === 'take' || mode === 'count') && !isAllowed;
    const isCharged = mode === 'force' || mode === 'count' || (mode === 'take' && isAllowed);
    return states.flatMap((state, index) => {
      let charge: Charge = NO_CHARGE;
      if (isReadable && isCharged && cost > 0) {
        const charged = state.charge(cost, isRefused);
        if (!isRefused) charge = charged;
      }
      if (isReadable && isRefused) state.refuse();
      const stored = (fits[index] ? 1 : 0) + 2 * storedFormatCode(state.found);
      return [stored, state.used(), state.waitMs(cost), state.resetMs(), charge.stamp, charge.position];
    });
  });
  if (isReadable && mode !== 'peek') for (const state of states) state.save();
  return packDoubles(reply);
}

/** Reads the replies of a script for each request and policy. */
export function decodeReplies(reply: RawReply): readonly TakeReply[] {
  const bytes = bytesAt([reply], 0) ?? Buffer.alloc(0);
  const replies: TakeReply[] = [];
  for (let at = 0; at < bytes.length; at += REPLY_BYTES) {
    const stored = bytes.readDoubleLE(at);
    const found = storedFormatAt([stored >> 1], 0);
    if (found === 'newer') throw newerFormat('rate-limit');
    replies.push({
      allowed: stored % 2 === 1,
      used: bytes.readDoubleLE(at + 8),
      waitMs: bytes.readDoubleLE(at + 16),
      resetMs: bytes.readDoubleLE(at + 24),
      stamp: bytes.readDoubleLE(at + 32),
      position: bytes.readDoubleLE(at + 40),
      found,
    });
  }
  return replies;
}

export function packDoubles(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 8);
  for (const [index, number] of numbers.entries()) bytes.writeDoubleLE(number, index * 8);
  return bytes;
}
