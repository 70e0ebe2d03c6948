import type { BorrowedClient } from './borrowed-client.ts';
import type { IoredisCommand, IoredisNode } from './ioredis.ts';

/** The members that the adapter uses of a cluster client of ioredis or iovalkey. */
export interface IoredisClusterClient extends BorrowedClient {
  readonly status: string;
  /** The addresses of the nodes that serve each slot, the master first. */
  readonly slots: readonly (readonly string[] | undefined)[];
  nodes(role: 'all'): readonly IoredisNode[];
  connect(): Promise<unknown>;
  refreshSlotsCache(): void;
  sendCommand(command: IoredisCommand): Promise<unknown>;
  natMapper(address: string): object;
  readonly connectionPool: { findOrCreate(address: object): IoredisNode | { readonly redis: IoredisNode } };
}

/** The addresses of the masters that serve slots. */
export function mastersOf({ slots }: IoredisClusterClient): ReadonlySet<string> {
  const masters = new Set<string>();
  let last: string | undefined;
  for (const nodes of slots) {
    const master = nodes?.[0];
    if (master === last || master === undefined) continue;
    masters.add(master);
    last = master;
  }
  return masters;
}
