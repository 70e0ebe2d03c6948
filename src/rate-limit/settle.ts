import { asError } from '../base/errors.ts';
import type { GroupDecision, RateLimitDeps } from './decision.ts';
import { limitTake } from './operations/take.ts';
import type { PolicySettings } from './policy.ts';

/** The charge of an allowed decision, with the time at which its replies arrived. */
export interface DecisionCharge {
  readonly groups: readonly GroupDecision[];
  readonly at: number;
}

/**
 * Charges further units to the policies of a decision, one command per identity, even if the units do not fit. Leaves
 * out the policies whose whole quota has come back since the decision: the units would have come back as well. A block
 * is no policy and is left out, too.
 */
export async function chargeRest(
  { groups, at }: DecisionCharge,
  units: number,
  policies: readonly PolicySettings[],
  deps: Pick<RateLimitDeps, 'now' | 'reporter'>,
): Promise<void> {
  const ageMs = deps.now() - at;
  const isOver = ({ name, limit }: { readonly name: string; readonly limit: number }) =>
    ageMs >= (policies.find((policy) => policy.name === name)?.windowMs(limit) ?? 0);
  await Promise.all(
    groups.map(async ({ group, engine, batch }) => {
      if (batch?.spend(units) === true) return;
      const open = group.policies
        .map((policy, index) => ({ policy, key: group.keys[index] ?? '' }))
        .filter(({ policy }) => !isOver(policy));
      if (engine === undefined || open.length === 0) return;
      const args = { mode: 'force', costs: [units], policies: open.map(({ policy }) => policy) } as const;
      try {
        await engine.run(
          limitTake(args.policies),
          open.map(({ key }) => key),
          args,
        );
      } catch (error) {
        deps.reporter.failure('rate', asError(error));
      }
    }),
  );
}
