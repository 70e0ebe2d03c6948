import { describe, inject } from 'vitest';

declare module 'vitest' {
  export interface ProvidedContext {
    readonly redisUrl: string;
    readonly canStartServers: boolean;
    /** The address of the module that was compiled from `src/index.ts` for this run. */
    readonly compiledKit: string;
    readonly clusterNodes: readonly { readonly host: string; readonly port: number }[];
  }
}

/**
 * The one server that all test files share. Its keys begin with `t-` and have a TTL, which the end of the run checks;
 * data that a test keeps there beside the kit begins with `outside-`, and the test removes it.
 */
export function redisUrl(): string {
  return inject('redisUrl');
}

/** The nodes of the one Cluster that all test files share, under the same rules; none where `canStartServers` is false. */
export function clusterNodes(): readonly { readonly host: string; readonly port: number }[] {
  return inject('clusterNodes');
}

/** Whether `startRedis` and `startCluster` work here: they need a server binary on the PATH. */
export function canStartServers(): boolean {
  return inject('canStartServers');
}

/** A `describe` for tests that start servers of their own; skipped, with the reason in its name, where none can. */
export function describeWithServers(name: string, tests: () => void): void {
  const isPossible = canStartServers();
  const reason = isPossible ? '' : ' (left out: neither redis-server nor valkey-server is on the PATH)';
  describe.skipIf(!isPossible)(name + reason, tests);
}
