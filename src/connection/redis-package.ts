import { createRequire } from 'node:module';

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
