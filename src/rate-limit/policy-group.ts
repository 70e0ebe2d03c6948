import { asError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { PolicyNumbers } from './operations/algorithm.ts';
import { limitTake, type TakeArgs, type TakeReply } from './operations/take.ts';
import type { PolicySettings } from './policy.ts';

/** How a limiter decides while Redis is unavailable. */
export type RateLimitOnError = 'memory' | 'allow' | 'deny';

/** The parts of a kit that its limiters use. */
export interface RateLimitDeps {
  readonly engine: Engine;
  /** The in-process fallback, which decides while Redis is unavailable. */
  readonly fallbackEngine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

/** The policies that count one identity. One command decides all of them. */
export interface PolicyGroup {
  readonly id: string;
  /** Identifies the id in the deny cache. It is short even for a long id. */
  readonly denyKey: string;
  readonly policies: readonly {
    readonly policy: PolicySettings;
    readonly limit: number;
    readonly numbers: PolicyNumbers;
  }[];
  readonly keys: readonly string[];
}

export interface GroupDecision {
  readonly group: PolicyGroup;
  readonly replies: readonly TakeReply[];
  /** The engine that decided; undefined when `onError: 'allow'` did. */
  readonly engine: Engine | undefined;
}

interface GroupCall extends Pick<TakeArgs, 'mode' | 'cost'> {
  readonly onError: RateLimitOnError;
  readonly deadline: Deadline | undefined;
}

/** Decides a group in Redis, or by the failure policy when Redis is unavailable. */
export async function decideGroup(
  group: PolicyGroup,
  { mode, cost, onError, deadline }: GroupCall,
  { engine, fallbackEngine, reporter }: RateLimitDeps,
): Promise<GroupDecision> {
  const policies = group.policies.map(({ policy, numbers }) => ({ algorithm: policy.algorithm, numbers }));
  const args = { mode, cost, policies };
  try {
    const replies = await engine.run(limitTake, group.keys, args, deadline);
    if (replies.some((reply) => reply.found === 'corrupt')) {
      reporter.failure('rate', corruptError(`a value under ${group.keys.join(', ')}`));
    }
    return { group, replies, engine };
  } catch (thrown) {
    const error = asError(thrown);
    reporter.failure('rate', error);
    if (onError === 'deny') throw error;
    if (reporter.isNewlyDegraded('rate')) reporter.events.emit('rate:degraded', { error });
    if (onError === 'memory') {
      return {
        group,
        replies: await fallbackEngine.run(limitTake, group.keys, args),
        engine: fallbackEngine,
      };
    }
    return { group, replies: policies.map(() => ALLOWED), engine: undefined };
  }
}

const ALLOWED: TakeReply = {
  allowed: true,
  used: 0,
  waitMs: 0,
  resetMs: 0,
  stamp: 0,
  position: 0,
  found: 'fine',
};

/** `value` names the stored value that cannot be read. */
export function corruptError(value: string): StoreError {
  return new StoreError('ERR_REDIS_KIT_CORRUPT', `${value} cannot be read and counts as absent`);
}
