import { BoundedMap } from '../base/bounded-map.ts';
import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { kindOf } from '../base/identity.ts';
import type { Keys } from '../base/keys.ts';
import { blockOf, type GroupPolicy, type PolicyGroup } from './decision.ts';
import { type PolicySettings, refillDuring } from './policy.ts';

/** A policy with the limit that applies to one call. */
export interface PolicyWithLimit {
  readonly policy: PolicySettings;
  readonly limit: number;
}

interface GroupSettings {
  readonly policies: readonly PolicySettings[];
  /** The length of a block in milliseconds; undefined for a limiter that blocks no identity. */
  readonly block: number | undefined;
  readonly reserve: { readonly holdMs: number } | undefined;
}

/** The most memory for the groups of recent identities. */
const RECENT_BYTES = 4 * 2 ** 20;

/** Makes the policy groups of one limiter. */
export class GroupFactory {
  readonly #policies: readonly PolicySettings[];
  readonly #block: number | undefined;
  readonly #holdMs: number;
  readonly #keys: Keys;
  /** The groups of recent identities, so that their keys are not built for each request. */
  readonly #recent = new BoundedMap<PolicyGroup>(RECENT_BYTES, bytesOf);

  constructor({ policies, block, reserve }: GroupSettings, keys: Keys) {
    this.#policies = policies;
    this.#block = block;
    this.#holdMs = reserve?.holdMs ?? 0;
    this.#keys = keys;
  }

  of(id: string, policies: readonly PolicyWithLimit[]): PolicyGroup {
    checkId(id);
    const group = {
      id,
      denyKey: this.#keys.rateOwner(id),
      policies: policies.map((each) => this.#policy(each)),
      keys: policies.map(({ policy }) => this.#keys.rate(id, policy.name)),
    };
    if (this.#block === undefined) return group;
    return {
      ...group,
      policies: [...group.policies, blockOf(this.#block)],
      keys: [...group.keys, this.#blockKey(id)],
    };
  }

  /** The group of all policies. `limit`: the option of the call, which replaces the limit of the only policy. */
  ofAll(id: string, limit?: unknown): PolicyGroup {
    checkId(id);
    if (limit === undefined) return this.#recentOf(id);
    if (this.#policies.length > 1) {
      throw new ConfigError(
        `a limiter's option \`limit\` is ${describe(limit)}; it does not say to which of several policies it applies, so leave it out`,
      );
    }
    return this.of(
      id,
      this.#policies.map((policy) => ({ policy, limit: limit as number })),
    );
  }

  #recentOf(id: string): PolicyGroup {
    let group = this.#recent.get(id);
    if (group === undefined) {
      const policies = this.#policies.map((policy) => ({ policy, limit: fixedLimit(policy) }));
      group = this.of(id, policies);
      this.#recent.set(id, group);
    }
    return group;
  }

  /** All keys of an id. */
  keysOf(id: string): readonly string[] {
    checkId(id);
    const keys = this.#policies.map(({ name }) => this.#keys.rate(id, name));
    return this.#block === undefined ? keys : [...keys, this.#blockKey(id)];
  }

  #policy({ policy, limit: given }: PolicyWithLimit): GroupPolicy {
    const { name, algorithm } = policy;
    const [all, span, rate] = policy.numbers(given);
    // A batch may be used at the end of its hold, in addition to the tokens that have come back during the hold.
    const limit = this.#holdMs === 0 ? all : Math.max(0, all - refillDuring(policy, this.#holdMs));
    return { name, limit, algorithm, numbers: [limit, span, rate] };
  }

  #blockKey(id: string): string {
    return this.#keys.rateBlock(id, this.#policies[0]?.name ?? '');
  }
}

function checkId(id: unknown): void {
  if (typeof id === 'string') return;
  throw new ConfigError(
    `a limiter's id is ${kindOf(id)}; it must be a string, so that no two clients share one by mistake`,
  );
}

function bytesOf({ keys, denyKey }: PolicyGroup): number {
  return [denyKey, ...keys].reduce((sum, key) => sum + 2 * key.length, 300 * (1 + keys.length));
}

function fixedLimit(policy: PolicySettings): number {
  if (typeof policy.limit === 'number') return policy.limit;
  throw new ConfigError(
    `the limit of '${policy.name}' is a function of the request, and this call has no request; pass a number: { limit: 100 }`,
  );
}
