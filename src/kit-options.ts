import { type Clock, systemClock } from './base/clock.ts';
import type { Duration } from './base/duration.ts';
import { ConfigError } from './base/errors.ts';
import { renamed } from './base/foreign-options.ts';
import { Keys } from './base/keys.ts';
import { consoleLogger, guardedLogger, type Logger, silentLogger } from './base/logger.ts';
import type { OptionReader } from './base/option-reader.ts';
import { readSettings } from './base/settings.ts';
import { type CachePolicies, type CachePolicy, resolveCachePolicies } from './cache/index.ts';
import { warningsAbout } from './connection/client-settings.ts';
import { findInstance, type Instance, type InstanceSettings } from './connection/instances.ts';
import {
  CONNECTION_OPTION_NAMES,
  type ConnectionOptions,
  FOREIGN_CONNECTION_NAMES,
  resolveConnection,
} from './connection/options.ts';

export type KitOptions<Client = unknown> = ConnectionOptions<Client> & {
  /** The first part of every Redis key: letters, digits, `.`, `_`, `-` and `:`. Default `kit`. */
  readonly prefix?: string | undefined;
  /** The time that one request may wait for Redis, in all kit middleware together; default `'500ms'`. */
  readonly commandTimeout?: Duration | undefined;
  /** Receives warnings and errors; default: the console. `false` logs nothing. */
  readonly logger?: Logger | false | undefined;
  /** Named lifetimes for the option `policy` of `kit.cache` and `kit.remember`. */
  readonly cachePolicies?: Readonly<Record<string, CachePolicy>> | undefined;
  /** The clock of a `memory:` kit, for your own tests. */
  readonly clock?: Clock | undefined;
};

export interface KitSettings {
  readonly connection: InstanceSettings;
  /** The instance that has this connection, if the kit shares it. */
  readonly instance: Instance | undefined;
  readonly keys: Keys;
  readonly commandTimeoutMs: number;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly cachePolicies: CachePolicies;
  /** Messages about settings that work but should be changed. */
  readonly warnings: readonly string[];
}

const NAMES = [...CONNECTION_OPTION_NAMES, 'prefix', 'commandTimeout', 'logger', 'cachePolicies', 'clock'];

/** Hints for option names of other packages. */
const FOREIGN_NAMES = {
  ...renamed('prefix', 'keyPrefix'),
  ...FOREIGN_CONNECTION_NAMES,
  ...renamed('commandTimeout', 'timeout', 'socketTimeout'),
  ttl: 'each feature has lifetimes of its own; caches have `cachePolicies`',
  key: 'put a TLS key in `tls`; the prefix of Redis keys is `prefix`',
};

const MAX_COMMAND_TIMEOUT_MS = 60_000;

export function resolveKitOptions(options: KitOptions, env: NodeJS.ProcessEnv): KitSettings {
  return readSettings('createRedisKit', options, { known: NAMES, elsewhere: FOREIGN_NAMES }, (reader) => ({
    connection: () => connectionOption(reader, env).settings,
    instance: () => connectionOption(reader, env).instance,
    keys: () => new Keys(reader.string('prefix') ?? 'kit'),
    commandTimeoutMs: () => commandTimeoutOption(reader),
    logger: () => resolveLogger(reader),
    clock: () => resolveClock(reader, env),
    cachePolicies: () => resolveCachePolicies(reader.value('cachePolicies')),
    warnings: () => warningsOf(connectionOption(reader, env).settings, env),
  }));
}

function connectionOption(
  reader: OptionReader,
  env: NodeJS.ProcessEnv,
): { readonly settings: InstanceSettings; readonly instance: Instance | undefined } {
  // A wrong prefix is reported once, by the setting `keys`.
  const prefix = reader.value('prefix');
  const settings = resolveConnection(reader, env, typeof prefix === 'string' ? prefix : 'kit');
  if (settings.kind !== 'instance') return { settings, instance: undefined };
  const instance = findInstance(reader, settings.name);
  return { settings: instance.settings, instance };
}

function commandTimeoutOption(reader: OptionReader): number {
  const commandTimeoutMs = reader.duration('commandTimeout', '500ms');
  if (commandTimeoutMs <= MAX_COMMAND_TIMEOUT_MS) return commandTimeoutMs;
  throw reader.error(
    'commandTimeout',
    `it must be at most ${MAX_COMMAND_TIMEOUT_MS} ms, since requests wait this long while Redis is down`,
  );
}

function warningsOf(connection: InstanceSettings, env: NodeJS.ProcessEnv): readonly string[] {
  const { kind } = connection;
  if (kind === 'borrowed') return warningsAbout(connection.client);
  if (kind !== 'memory' || env.NODE_ENV !== 'production') return [];
  return [
    "createRedisKit runs on 'memory:' with NODE_ENV=production: sessions, limits, locks and caches are not shared with other processes and are lost when this one ends; set the `url` of a Redis server",
  ];
}

function resolveLogger(reader: OptionReader): Logger {
  const logger = reader.value('logger');
  if (logger === undefined) return consoleLogger;
  if (logger === false) return silentLogger;
  if (hasMethods<Logger>(logger, 'debug', 'info', 'warn', 'error')) return guardedLogger(logger);
  throw reader.error('logger', 'it must have the methods debug, info, warn and error, or be false');
}

function resolveClock(reader: OptionReader, env: NodeJS.ProcessEnv): Clock {
  const clock = reader.value('clock');
  if (clock === undefined) return systemClock;
  if (connectionOption(reader, env).settings.kind !== 'memory') {
    throw new ConfigError(
      'createRedisKit: option `clock` is for `memory:` only; Redis has a clock of its own',
    );
  }
  if (hasMethods<Clock>(clock, 'now')) return clock;
  throw reader.error('clock', 'it must have a method now()');
}

function hasMethods<Shape>(value: unknown, ...names: readonly (keyof Shape & string)[]): value is Shape {
  if (typeof value !== 'object' || value === null) return false;
  return names.every((name) => typeof (value as Readonly<Record<string, unknown>>)[name] === 'function');
}
