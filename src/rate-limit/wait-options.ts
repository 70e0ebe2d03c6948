import type { OptionReader } from '../base/option-reader.ts';
import { waitOption } from '../base/timed-options.ts';
import type { PolicySettings } from './policy.ts';
import type { WaitSettings } from './wait-queue.ts';

/** The most grains of a token bucket (see token-bucket.ts) that may come back while a request waits. */
const MAX_GRAINS = 2 ** 51;

/** Reads the options `wait` and `maxQueue`. Undefined if no request waits. */
export function waitOptions(
  reader: OptionReader,
  policies: () => readonly { readonly policy: PolicySettings; readonly key: unknown }[],
): WaitSettings | undefined {
  const waitMs = waitOption(reader, 0);
  const maxQueue = reader.integer('maxQueue', { min: 1, max: 1_000_000 });
  if (waitMs === 0) {
    if (maxQueue === undefined) return undefined;
    throw reader.error('maxQueue', 'no request waits without `wait`; give `wait`, or leave `maxQueue` out');
  }
  if (reader.value('onDenied') === 'count') {
    throw reader.error(
      'wait',
      "with `onDenied: 'count'` a refused request would delay those that wait; leave one of the two out",
    );
  }
  if (reader.has('block')) {
    throw reader.error('wait', 'a client that may wait is not blocked; remove `block` or `wait`');
  }
  for (const { policy, key } of policies()) {
    if (key !== undefined) {
      throw reader.error(
        'wait',
        'one command decides when a request continues, so all policies must count one identity; leave the `key` of the policies out',
      );
    }
    if ((policy.refill?.tokens ?? 0) * waitMs > MAX_GRAINS) {
      throw reader.error(
        'wait',
        'in ms, times the tokens of `refill`, it must not exceed 2^51, where whole numbers are exact',
      );
    }
  }
  return { waitMs, maxQueue: maxQueue ?? 100, isDryRun: reader.boolean('shadow', false) };
}
