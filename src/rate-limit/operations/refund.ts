import { defineOperation, type Operation } from '../../engine/operation.ts';
import type { Charge } from './algorithm.ts';
import { ALGORITHMS_LUA, encodePolicy, type PolicyArgs } from './take.ts';

export interface RefundArgs {
  readonly policies: readonly (PolicyArgs & Charge & { readonly units: number })[];
}

/*
 * Refunds earlier charges, as far as their units still count.
 *
 * KEYS   one per policy, all with the same hash tag
 * ARGV   1 time, then per policy: algorithm, limit, span, rate, stamp, position, units
 * reply  1
 */
const lua = /* lua */ `${ALGORITHMS_LUA}
for i, key in ipairs(KEYS) do
  local at = 7 * i - 5
  local algorithm, s = open(key, at)
  if s.found == 0 then algorithm.refund(s, tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])) end
end
return 1
`;

export const limitRefund: Operation<RefundArgs, void> = defineOperation({
  name: 'limit-refund',
  lua,
  encode({ policies }) {
    return policies.flatMap(({ stamp, position, units, ...policy }) => {
      return [...encodePolicy(policy), ...[stamp, position, units].map(String)];
    });
  },
  runInMemory(memory, keys, now, { policies }) {
    policies.forEach(({ algorithm, numbers, units, ...charge }, index) => {
      const state = algorithm.open(memory, keys[index] ?? '', now, numbers);
      if (state.found === 'fine') state.refund(charge, units);
    });
    return 1;
  },
  decode: () => undefined,
});
