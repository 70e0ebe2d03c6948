import type { OptionReader } from './check.ts';
import type { Duration } from './duration.ts';

/** A lease is renewed every third of it; below this, a slow moment of the event loop would lose it. */
const MIN_LEASE_MS = 100;

/** What Node's timers can do (2^31 - 1 ms); one that is set further goes off at once. */
const LONGEST_MS = 24 * 86_400_000;

/** The option `lease`: how long something that is renewed outlives a process that died. */
export function leaseOption(reader: OptionReader, fallback: Duration): number {
  const lease = timerOption(reader, 'lease', fallback);
  if (lease < MIN_LEASE_MS) throw reader.error('lease', `it must be at least ${MIN_LEASE_MS} ms`);
  return lease;
}

/** A span that a timer of this process waits for. */
export function timerOption(reader: OptionReader, name: string, fallback: Duration): number {
  const ms = reader.duration(name, fallback);
  if (ms > LONGEST_MS) throw reader.error(name, `it must be at most ${LONGEST_MS / 86_400_000} days`);
  return ms;
}

/** 0 is not to wait at all. */
export function waitOption(reader: OptionReader, fallback: Duration): number {
  return (reader.value('wait') ?? fallback) === 0 ? 0 : timerOption(reader, 'wait', fallback);
}
