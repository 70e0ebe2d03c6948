import { createRequire } from 'node:module';
import type { RedisClientOptions, RedisClientType } from 'redis';

type RedisPackage = typeof import('redis');

let loaded: RedisPackage | undefined;

/**
 * The package `redis`, loaded with the first connection that the kit opens. The package takes longer to load than the
 * whole kit, and neither `memory:` nor a client of the app needs it.
 */
export function redisPackage(): RedisPackage {
  loaded ??= createRequire(import.meta.url)('redis') as RedisPackage;
  return loaded;
}

type None = Record<never, never>;

export type OwnClient = RedisClientType<None, None, None, 3, None>;

let template: OwnClient | undefined;

/** The duplicate of a client would share the registered field sets of HIMPORT. */
const OWN_FIELD_SETS: object = { himportRegistry: undefined };

/**
 * Creates a client. `createClient()` of node-redis builds a class with all commands for each new set of options, which
 * takes 10 ms and the memory of a thousand functions; duplicates of one client share its class.
 */
export function createNodeRedisClient(options: RedisClientOptions<None, None, None, 3, None>): OwnClient {
  template ??= redisPackage().createClient<None, None, None, 3, None>();
  // The declarations of `duplicate()` leave out the modules that each client of the package has.
  return template.duplicate({ ...OWN_FIELD_SETS, ...options }) as OwnClient;
}
