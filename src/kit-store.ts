import { performance } from 'node:perf_hooks';
import { closedError } from './base/errors.ts';
import type { Events, KitEvents } from './base/events.ts';
import { connect } from './connection/connect.ts';
import type { Connection } from './connection/connection.ts';
import type { Listening } from './engine/listening.ts';
import { memoryEngine } from './engine/memory-engine.ts';
import { MemoryKeyspace } from './engine/memory-keyspace.ts';
import type { Engine } from './engine/port.ts';
import { redisEngine } from './engine/redis-engine.ts';
import type { KitSettings } from './kit-options.ts';

/** Where a kit keeps everything: Redis, or the memory of this process. */
export interface Store {
  /** Undefined on `memory:`. */
  readonly connection: Connection | undefined;
  readonly engine: Engine;
  readonly listening: Listening;
  /** The clock of what is held in the process. */
  readonly now: () => number;
  ready(): Promise<void>;
  close(timeoutMs: number): Promise<void>;
}

export function openStore(
  { connection: where, clock, commandTimeoutMs }: KitSettings,
  events: Events<KitEvents>,
): Store {
  if (where.kind === 'memory') return memoryStore(clock);
  const connection = connect(where, events, commandTimeoutMs);
  return {
    connection,
    engine: redisEngine(connection, { commandTimeoutMs }),
    listening: connection.listening,
    now: () => performance.now(),
    ready: () => connection.ready(),
    close: (timeoutMs) => connection.close(timeoutMs),
  };
}

function memoryStore(clock: KitSettings['clock']): Store {
  let isClosed = false;
  const checkOpen = () => {
    if (isClosed) throw closedError();
  };
  const memory = new MemoryKeyspace(clock);
  return {
    connection: undefined,
    engine: memoryEngine(memory, clock, checkOpen),
    listening: memory,
    now: () => clock.now(),
    ready: async () => checkOpen(),
    close: async () => {
      isClosed = true;
    },
  };
}
