import { RedisKitError, StoreError } from '../base/errors.ts';

/** The error for work that was not done when `kit.close()` waited no longer. */
export function lateForClose(): StoreError {
  return new StoreError(
    'ERR_REDIS_KIT_CLOSED',
    'kit.close() reached its timeout before the job or event was done',
  );
}

export function fullError(queue: number): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_QUEUE_FULL',
    `the queue is full (${queue}); raise \`queue\`, \`workers\` or \`timeout\`, or choose another \`onFull\``,
  );
}

export function stuckError(key: string): RedisKitError {
  return new RedisKitError(
    'ERR_REDIS_KIT_JOB_TIMEOUT',
    `an earlier job of the key '${key}' ignores its signal and still runs, so the next job of the key cannot begin`,
  );
}
