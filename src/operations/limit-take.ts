import type { LimitAlgorithm, PolicyNumbers } from './limit-algorithm.ts';
import { defineOperation, type Operation } from './operation.ts';
import { arrayOf, type Found, foundAt, foundCode, integerAt, newerFormat } from './reply.ts';
import { slidingWindow } from './sliding-window.ts';
import { tokenBucket } from './token-bucket.ts';

/** One policy as an operation takes it; its key stands at the same place in KEYS. */
export interface PolicyArgs {
  readonly algorithm: LimitAlgorithm;
  readonly numbers: PolicyNumbers;
}

export interface TakeArgs {
  /** `take` charges when every policy allows it, `peek` never, `force` always. */
  readonly mode: 'take' | 'peek' | 'force';
  readonly cost: number;
  readonly policies: readonly PolicyArgs[];
}

/** What one policy answers. `stamp` names the charge for a refund; 0 when nothing was charged. */
export interface TakeReply {
  readonly used: number;
  readonly waitMs: number;
  readonly resetMs: number;
  readonly stamp: number;
  readonly found: Found;
}

/** Both algorithms' functions, for every script that works on policies. */
export const ALGORITHMS_LUA: string = `local algorithms = {}\n${slidingWindow.lua}${tokenBucket.lua}`;

/*
 * Decides all policies of one identity at once: first evaluate all, then charge all or none.
 *
 * KEYS   one per policy, all of one hash tag
 * ARGV   1 time, 2 mode, 3 cost, then per policy: algorithm, limit, span, rate
 * reply  per policy {used, wait ms (0 allows, -1 never will), reset ms, stamp, found}
 *
 * A value of a newer format charges nothing anywhere.
 */
const lua = `${ALGORITHMS_LUA}
local mode, cost = ARGV[2], tonumber(ARGV[3])
local states, waits, allowed, readable = {}, {}, true, true
for i, key in ipairs(KEYS) do
  local algorithm = algorithms[ARGV[4 * i]]
  local s = algorithm.open(key, tonumber(ARGV[4 * i + 1]), tonumber(ARGV[4 * i + 2]), tonumber(ARGV[4 * i + 3]))
  s.algorithm, states[i], waits[i] = algorithm, s, algorithm.wait_for(s, cost)
  if waits[i] ~= 0 then allowed = false end
  if s.found == 2 then readable = false end
end
local charge = readable and cost > 0 and (mode == 'force' or (mode == 'take' and allowed))
local reply = {}
for i, s in ipairs(states) do
  local stamp = 0
  if charge then
    stamp = s.algorithm.charge(s, cost)
  elseif mode ~= 'peek' and readable then
    s.algorithm.settle(s)
  end
  reply[i] = { s.algorithm.used(s), waits[i], s.algorithm.until_more(s), stamp, s.found }
end
return reply
`;

export const limitTake: Operation<TakeArgs, readonly TakeReply[]> = defineOperation({
  name: 'limit-take',
  lua,
  encode({ mode, cost, policies }) {
    return [
      mode,
      String(cost),
      ...policies.flatMap(({ algorithm, numbers }) => [algorithm.code, ...numbers.map(String)]),
    ];
  },
  twin(memory, keys, now, { mode, cost, policies }) {
    const states = policies.map(({ algorithm, numbers }, index) =>
      algorithm.open(memory, keys[index] ?? '', now, numbers),
    );
    const waits = states.map((state) => state.waitFor(cost));
    const readable = states.every((state) => state.found !== 'newer');
    const allowed = mode === 'force' || (mode === 'take' && waits.every((wait) => wait === 0));
    const charge = readable && cost > 0 && allowed;
    return states.map((state, index) => {
      const stamp = charge ? state.charge(cost) : 0;
      if (!charge && mode !== 'peek' && readable) state.settle();
      const found = foundCode(state.found);
      return [state.used(), waits[index] ?? 0, state.untilMore(), stamp, found];
    });
  },
  decode(reply) {
    return arrayOf(reply).map((each) => {
      const fields = arrayOf(each);
      const found = foundAt(fields, 4);
      if (found === 'newer') throw newerFormat('rate-limit');
      return {
        used: integerAt(fields, 0),
        waitMs: integerAt(fields, 1),
        resetMs: integerAt(fields, 2),
        stamp: integerAt(fields, 3),
        found,
      };
    });
  },
});
