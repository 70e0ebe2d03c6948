import { describe } from 'vitest';
import type { KitOptions, Logger, RedisKit } from '../../src/index.ts';
import { canStartServers, clusterNodes, redisUrl } from './context.ts';
import { kitForTest } from './kits.ts';

/** Creates a kit with a prefix of its own, which is closed when the test ends. */
export type MakeKit = (options?: KitOptions) => RedisKit;

/** Runs the same tests on `memory:`, on Redis and on a Cluster of three masters. */
export function onEveryStore(name: string, tests: (makeKit: MakeKit) => void): void {
  describe(`${name}, on memory:`, () => tests((options) => kitForTest({ url: 'memory:', ...options })));
  describe(`${name}, on Redis`, () => tests((options) => kitForTest({ url: redisUrl(), ...options })));
  describe.skipIf(!canStartServers())(`${name}, on a Cluster`, () => {
    // node-redis builds its classes anew for each set of options, so that a name of its own makes each kit expensive.
    tests((options) => kitForTest({ cluster: { nodes: clusterNodes() }, clientName: 't', ...options }));
  });
}

/** A logger that records its lines. */
export function keepingLogger(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const keep = (message: string) => void lines.push(message);
  return { lines, debug: keep, info: keep, warn: keep, error: keep };
}
