import { defineOperation, type Operation } from '../../engine/operation.ts';
import {
  arrayOf,
  integerAt,
  newerFormat,
  type StoredFormat,
  storedFormatAt,
  storedFormatCode,
} from '../../engine/reply.ts';
import type { Charge, LimitAlgorithm, PolicyNumbers } from './algorithm.ts';
import { identityBlock } from './identity-block.ts';
import { slidingWindow } from './sliding-window.ts';
import { tokenBucket } from './token-bucket.ts';

/** One policy of an operation. The policy's key has the same index in KEYS. */
export interface PolicyArgs {
  readonly algorithm: LimitAlgorithm;
  readonly numbers: PolicyNumbers;
}

export interface TakeArgs {
  /**
   * `take` charges when every policy allows the cost, `peek` never charges, `force` always charges, and `count` decides
   * as `take` does but also charges refused requests.
   */
  readonly mode: 'take' | 'peek' | 'force' | 'count';
  readonly cost: number;
  readonly policies: readonly PolicyArgs[];
}

/** The reply for one policy. */
export interface TakeReply extends Charge {
  readonly allowed: boolean;
  readonly used: number;
  /** Milliseconds, after this call's charge, until the same cost fits: 0 when it fits now, -1 when it never will. */
  readonly waitMs: number;
  readonly resetMs: number;
  readonly found: StoredFormat;
}

const NO_CHARGE: Charge = { stamp: 0, position: 0 };

/** The functions of all algorithms. `open` reads the policy at an index of ARGV and the stored count of its key. */
export const ALGORITHMS_LUA: string = /* lua */ `local algorithms = {}
${slidingWindow.lua}${tokenBucket.lua}${identityBlock.lua}
local function open(key, at)
  local algorithm = algorithms[ARGV[at]]
  local s = algorithm.open(key, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
  return algorithm, s
end
`;

/** A policy in the form that `open` reads. */
export function encodePolicy({ algorithm, numbers }: PolicyArgs): string[] {
  return [algorithm.code, ...numbers.map(String)];
}

/*
 * Decides all policies of one identity: evaluates all of them, then charges all or none.
 *
 * KEYS   one per policy, all with the same hash tag
 * ARGV   1 time, 2 mode, 3 cost, then per policy: algorithm, limit, span, rate
 * reply  per policy {allowed 0 or 1, used, wait ms (-1 never), reset ms, stamp, position, found}
 *
 * When the stored value of one policy has a newer format, no policy is charged.
 */
const lua = /* lua */ `${ALGORITHMS_LUA}
local mode, cost = ARGV[2], tonumber(ARGV[3])
local states, waits, allowed, readable = {}, {}, true, true
for i, key in ipairs(KEYS) do
  local algorithm, s = open(key, 4 * i)
  s.algorithm, states[i], waits[i] = algorithm, s, algorithm.wait_ms(s, cost)
  allowed = allowed and waits[i] == 0
  readable = readable and s.found ~= 2
end
local refused = (mode == 'take' or mode == 'count') and not allowed
local charges = mode == 'force' or mode == 'count' or (mode == 'take' and allowed)
local reply = {}
for i, s in ipairs(states) do
  local algorithm, wait, stamp, position = s.algorithm, waits[i], 0, 0
  if readable and charges and cost > 0 then
    stamp, position = algorithm.charge(s, cost, refused)
    wait = algorithm.wait_ms(s, cost)
    if refused then stamp, position = 0, 0 end
  elseif readable and mode ~= 'peek' then
    wait = algorithm.visit(s, refused) or wait
  end
  reply[i] = { waits[i] == 0 and 1 or 0, algorithm.used(s), wait, algorithm.reset_ms(s), stamp, position, s.found }
end
return reply
`;

export const limitTake: Operation<TakeArgs, readonly TakeReply[]> = defineOperation({
  name: 'limit-take',
  lua,
  encode({ mode, cost, policies }) {
    return [mode, String(cost), ...policies.flatMap(encodePolicy)];
  },
  runInMemory(memory, keys, now, { mode, cost, policies }) {
    const states = policies.map(({ algorithm, numbers }, index) =>
      algorithm.open(memory, keys[index] ?? '', now, numbers),
    );
    const fits = states.map((state) => state.waitMs(cost) === 0);
    const allowed = !fits.includes(false);
    const readable = states.every((state) => state.found !== 'newer');
    const isRefused = (mode === 'take' || mode === 'count') && !allowed;
    const charges = mode === 'force' || mode === 'count' || (mode === 'take' && allowed);
    return states.map((state, index) => {
      let charge: Charge = NO_CHARGE;
      if (readable && charges && cost > 0) {
        const charged = state.charge(cost, isRefused);
        if (!isRefused) charge = charged;
      } else if (readable && mode !== 'peek') state.visit(isRefused);
      const found = storedFormatCode(state.found);
      return [
        fits[index] ? 1 : 0,
        state.used(),
        state.waitMs(cost),
        state.resetMs(),
        charge.stamp,
        charge.position,
        found,
      ];
    });
  },
  decode(reply) {
    return arrayOf(reply).map((each) => {
      const fields = arrayOf(each);
      const found = storedFormatAt(fields, 6);
      if (found === 'newer') throw newerFormat('rate-limit');
      return {
        allowed: integerAt(fields, 0) === 1,
        used: integerAt(fields, 1),
        waitMs: integerAt(fields, 2),
        resetMs: integerAt(fields, 3),
        stamp: integerAt(fields, 4),
        position: integerAt(fields, 5),
        found,
      };
    });
  },
});
