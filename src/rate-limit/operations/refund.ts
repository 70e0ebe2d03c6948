import { defineOperation, type Operation } from '../../engine/operation.ts';
import type { Charge } from './algorithm.ts';
import {
  encodePolicy,
  operationsByAlgorithms,
  type PoliciesLua,
  type PolicyArgs,
} from './policies-script.ts';

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
const luaOf = ({ open, each }: PoliciesLua) => /* lua */ `
${open('7 * i - 5')}
${each(
  ({ refund }) => /* lua */ `
if found == 0 then
  local stamp, position, units = ARGV[7 * i - 1] + 0, ARGV[7 * i] + 0, ARGV[7 * i + 1] + 0
  ${refund}
end`,
)}
return 1
`;

export const limitRefund: (policies: readonly PolicyArgs[]) => Operation<RefundArgs, void> =
  operationsByAlgorithms((policies) =>
    defineOperation({
      name: 'limit-refund',
      lua: luaOf(policies),
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
    }),
  );
