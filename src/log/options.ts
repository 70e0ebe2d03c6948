import type { Duration } from '../base/duration.ts';
import { AMOUNT_NAMES, LIFETIME_NAMES, renamed } from '../base/foreign-options.ts';
import type { OptionReader } from '../base/option-reader.ts';
import { readSettings } from '../base/settings.ts';
import { ttlOption } from '../base/timed-options.ts';
import { resolveWorkOptions, type WorkOptions, type WorkSettings } from '../waiting/work-options.ts';
import type { LogEntry } from './entry.ts';
import { checkHooks, type Hook } from './hooks.ts';

export interface LogOptions<Event> {
  /** The most entries per id, from 1 to 1,000,000; each append removes the oldest above. Default 1,000. */
  readonly limit?: number | undefined;
  /** How long a log is kept after its last append; `null` keeps it for ever. */
  readonly ttl: Duration | null;
  /**
   * Runs around each append, in the order of the array. A hook may replace `context.event`. The event is stored when
   * the last hook calls `next()`, so a hook that does not call it refuses the event, and `append` resolves to its result.
   */
  readonly onAppend?: readonly Hook<{ readonly id: string; event: Event }, string | undefined>[] | undefined;
  /**
   * Runs around each read, also for followers, in the order of the array. A hook may replace `context.events`, or return
   * other entries than `next()` resolves to.
   */
  readonly onRead?:
    | readonly Hook<{ readonly id: string; events: LogEntry<Event>[] }, LogEntry<Event>[]>[]
    | undefined;
  /**
   * Appends in the background: `append` resolves to undefined as soon as the event is in a bounded queue of this process.
   * Events that wait are lost if the process ends without `kit.close()`.
   */
  readonly writeBehind?: WriteBehindOptions<Event> | undefined;
}

/** An event that was not stored. */
export interface LostEvent<Event> {
  readonly id: string;
  readonly event: Event;
}

export type WriteBehindOptions<Event = unknown> = WorkOptions<LostEvent<Event>>;

export interface LogSettings<Event> {
  readonly writeBehind: WorkSettings<LostEvent<Event>> | undefined;
  readonly name: string;
  readonly limit: number;
  /** Null for a log that does not expire. */
  readonly ttlMs: number | null;
  readonly onAppend: NonNullable<LogOptions<Event>['onAppend']>;
  readonly onRead: NonNullable<LogOptions<Event>['onRead']>;
}

export const MAX_ENTRIES = 1_000_000;

const OPTIONS = ['limit', 'ttl', 'onAppend', 'onRead', 'writeBehind'] as const;

/** Options of other packages, for which the error names the option of the kit. */
const ELSEWHERE = {
  ...renamed('limit', ...AMOUNT_NAMES, 'maxlen', 'maxLength', 'maxEntries', 'capacity'),
  ...renamed('ttl', ...LIFETIME_NAMES.filter((name) => name !== 'ttl'), 'retention'),
};

export function resolveLogOptions<Event>(name: string, options: LogOptions<Event>): LogSettings<Event> {
  return readSettings('kit.log', options, { known: OPTIONS, elsewhere: ELSEWHERE }, (reader) => ({
    name: () => name,
    limit: () => reader.integer('limit', { min: 1, max: MAX_ENTRIES }) ?? 1_000,
    ttlMs: () => ttlOption(reader),
    onAppend: () => hooksOption<LogSettings<Event>['onAppend']>(reader, 'onAppend') ?? [],
    writeBehind: () => writeBehindOption<Event>(reader),
    onRead: () => hooksOption<LogSettings<Event>['onRead']>(reader, 'onRead') ?? [],
  }));
}

function writeBehindOption<Event>(reader: OptionReader): LogSettings<Event>['writeBehind'] {
  if (!reader.has('writeBehind')) return undefined;
  const options = reader.value('writeBehind') as WriteBehindOptions<Event>;
  return resolveWorkOptions('kit.log: option `writeBehind`', options, { timeout: '2s', retries: 10 });
}

function hooksOption<Hooks extends readonly unknown[]>(
  reader: OptionReader,
  name: string,
): Hooks | undefined {
  return checkHooks<Hooks>(reader.value(name), (remedy) => reader.error(name, remedy));
}
