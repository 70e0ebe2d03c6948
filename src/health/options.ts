import { renamed } from '../base/foreign-options.ts';
import { OptionReader } from '../base/option-reader.ts';
import { checkNotMounted } from '../http/mount-check.ts';

export interface HealthOptions {
  /**
   * Answer 200 whenever the process runs, without a command to Redis; default false. For a liveness probe: a restart of
   * the process does not repair Redis.
   */
  readonly liveness?: boolean | undefined;
  /**
   * Answer with everything that `kit.check()` returns; default false. Warnings and errors name hosts and versions, so
   * only your own operators should be able to read them.
   */
  readonly details?: boolean | undefined;
  /**
   * Whether the app is ready only while Redis works. Default: true, unless everything that the kit has created has a
   * failure policy that works without Redis.
   */
  readonly requireRedis?: boolean | undefined;
}

export interface HealthSettings {
  readonly isLiveness: boolean;
  readonly hasDetails: boolean;
  readonly requireRedis: boolean | undefined;
}

const NAMES = ['liveness', 'details', 'requireRedis'];

const ELSEWHERE = { ...renamed('liveness', 'live', 'alive'), ...renamed('details', 'verbose', 'warnings') };

export function resolveHealthOptions(options: HealthOptions): HealthSettings {
  checkNotMounted('kit.health', options);
  const reader = new OptionReader('kit.health', options, NAMES, ELSEWHERE);
  const isLiveness = reader.boolean('liveness', false);
  const given = ['details', 'requireRedis'].find((name) => reader.has(name));
  if (isLiveness && given !== undefined) {
    throw reader.error(
      given,
      'it has no effect with `liveness`, which does not ask Redis; leave one of them out',
    );
  }
  return {
    isLiveness,
    hasDetails: reader.boolean('details', false),
    requireRedis: reader.has('requireRedis') ? reader.boolean('requireRedis', true) : undefined,
  };
}
