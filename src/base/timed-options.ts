import type { Duration } from './duration.ts';
import type { OptionReader } from './option-reader.ts';

/** A lease is renewed after a third of its time; a shorter lease could end during a short delay of the event loop. */
const MIN_LEASE_MS = 100;

/** Just below the limit of Node's timers (2^31 - 1 ms): a timer for a longer time fires at once. */
const LONGEST_MS = 24 * 86_400_000;

/** Reads the option `lease`: how long a lock, slot or attempt outlives a process that dies. */
export function leaseOption(reader: OptionReader, fallback: Duration): number {
  const lease = timerOption(reader, 'lease', fallback);
  if (lease < MIN_LEASE_MS) throw reader.error('lease', `it must be at least ${MIN_LEASE_MS} ms`);
  return lease;
}

/** Reads a duration for which this process sets a timer. */
export function timerOption(reader: OptionReader, name: string, fallback: Duration): number {
  const ms = reader.duration(name, fallback);
  if (ms > LONGEST_MS) throw reader.error(name, `it must be at most ${LONGEST_MS / 86_400_000} days`);
  return ms;
}

/** Reads the option `wait`; 0 means not to wait. */
export function waitOption(reader: OptionReader, fallback: Duration): number {
  return (reader.value('wait') ?? fallback) === 0 ? 0 : timerOption(reader, 'wait', fallback);
}

/** Reads the option `ttl`, in milliseconds. It is required, so that data is kept for ever only by a decision: null. */
export function ttlOption(reader: OptionReader): number | null {
  if (reader.value('ttl') === null) return null;
  if (reader.has('ttl')) return reader.requiredDuration('ttl');
  throw reader.error(
    'ttl',
    "it is required, for example '30d', or null to keep the data until it is deleted",
  );
}
