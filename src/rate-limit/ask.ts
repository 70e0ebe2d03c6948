import { asError, StoreError } from '../base/errors.ts';
import type { Keys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import type { Engine } from '../engine/port.ts';
import type { PolicyNumbers } from './operations/algorithm.ts';
import { limitTake, type TakeArgs, type TakeReply } from './operations/take.ts';
import type { PolicySettings } from './policy.ts';

/** What happens when Redis cannot be asked. */
export type RateLimitOnError = 'memory' | 'allow' | 'deny';

/** What every limiter of a kit shares. */
export interface RateLimitDeps {
  readonly engine: Engine;
  /** Decides in this process while Redis cannot. */
  readonly fallbackEngine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
}

/** The policies that count for one identity, and so are decided together by one command. */
export interface Share {
  readonly id: string;
  /** The id in a form that is short. */
  readonly owner: string;
  readonly policies: readonly {
    readonly policy: PolicySettings;
    readonly limit: number;
    readonly numbers: PolicyNumbers;
  }[];
  readonly keys: readonly string[];
}

export interface Answer {
  readonly share: Share;
  readonly replies: readonly TakeReply[];
  /** Who answered; undefined when nobody was asked (`onError: 'allow'`). */
  readonly engine: Engine | undefined;
}

/** Asks Redis, or whoever the failure policy names. */
export async function askStore(
  share: Share,
  { mode, cost }: Pick<TakeArgs, 'mode' | 'cost'>,
  onError: RateLimitOnError,
  { engine, fallbackEngine, reporter }: RateLimitDeps,
  deadline: Deadline | undefined,
): Promise<Answer> {
  const policies = share.policies.map(({ policy, numbers }) => ({ algorithm: policy.algorithm, numbers }));
  const args = { mode, cost, policies };
  try {
    const replies = await engine.run(limitTake, share.keys, args, deadline);
    if (replies.some((reply) => reply.found === 'corrupt')) reporter.failure('rate', corrupt(share.keys));
    return { share, replies, engine };
  } catch (thrown) {
    const error = asError(thrown);
    reporter.failure('rate', error);
    if (onError === 'deny') throw error;
    if (reporter.isNewlyDegraded('rate')) reporter.events.emit('rate:degraded', { error });
    if (onError === 'memory') {
      return {
        share,
        replies: await fallbackEngine.run(limitTake, share.keys, args),
        engine: fallbackEngine,
      };
    }
    return { share, replies: policies.map(() => ALLOWED), engine: undefined };
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

function corrupt(keys: readonly string[]): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CORRUPT',
    `a value under ${keys.join(', ')} cannot be read and counts as absent`,
  );
}
