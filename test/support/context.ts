import { describe, inject } from 'vitest';
import type { CompiledKit } from './compiled-kit.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    readonly redisUrl: string;
    readonly canStartServers: boolean;
    /** The kit that was compiled from `src/` for this run. */
    readonly compiledKit: Pick<CompiledKit, 'url' | 'tsconfig'>;
    readonly clusterNodes: readonly { readonly host: string; readonly port: number }[];
  }
}

/**
 * The URL of the server that all test files share. Keys begin with `t-` and have a TTL, which is checked at the end of the
 * run. Keys of a test itself begin with `outside-`, and the test deletes them.
 */
export function redisUrl(): string {
  return inject('redisUrl');
}

/** The nodes of the shared Cluster, with the same rules; empty if `canStartServers` is false. */
export function clusterNodes(): readonly { readonly host: string; readonly port: number }[] {
  return inject('clusterNodes');
}

/** Whether `startRedis` and `startCluster` work, which need a server binary on the PATH. */
export function canStartServers(): boolean {
  return inject('canStartServers');
}

/** A `describe` for tests that start servers. Without a server binary it is skipped, with the reason in its name. */
export function describeWithServers(name: string, tests: () => void): void {
  const isPossible = canStartServers();
  const reason = isPossible ? '' : ' (left out: neither redis-server nor valkey-server is on the PATH)';
  describe.skipIf(!isPossible)(name + reason, tests);
}
