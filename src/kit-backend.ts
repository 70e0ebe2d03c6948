import { performance } from 'node:perf_hooks';
import type { Emitter } from './base/emitter.ts';
import { closedError } from './base/errors.ts';
import type { KitEvents } from './base/events.ts';
import { openTransport } from './connection/connect.ts';
import { Connection } from './connection/connection.ts';
import { whenAnswering } from './connection/first-answer.ts';
import { OwnSubscriptions } from './connection/own-subscriptions.ts';
import { memoryEngine } from './engine/memory-engine.ts';
import { MemoryKeyspace } from './engine/memory-keyspace.ts';
import type { Engine, Publisher } from './engine/port.ts';
import type { PubSub } from './engine/pub-sub.ts';
import { redisEngine } from './engine/redis-engine.ts';
import type { KitSettings } from './kit-options.ts';

/** Where a kit stores its data: in Redis, or in the memory of this process. */
export interface KitBackend {
  /** Undefined on `memory:`. */
  readonly connection: Connection | undefined;
  readonly engine: Engine & Publisher;
  readonly pubSub: PubSub;
  /** The clock that in-process copies of stored data expire by, in milliseconds. */
  readonly now: () => number;
  ready(): Promise<void>;
  close(timeoutMs: number): Promise<void>;
}

export function openBackend(
  { connection: settings, instance, clock, commandTimeoutMs }: KitSettings,
  events: Emitter<KitEvents>,
): KitBackend {
  if (settings.kind === 'memory') return memoryBackend({ clock, instance }, events);
  const transport = instance === undefined ? openTransport(settings) : instance.transport();
  const connection = new Connection(transport, events, commandTimeoutMs);
  return {
    connection,
    engine: redisEngine(connection, { commandTimeoutMs }),
    pubSub: connection.pubSub,
    now: () => performance.now(),
    ready: () => whenAnswering(connection),
    close: (timeoutMs) => connection.close(timeoutMs),
  };
}

function memoryBackend(
  { clock, instance }: Pick<KitSettings, 'clock' | 'instance'>,
  events: Emitter<KitEvents>,
): KitBackend {
  let isClosed = false;
  const checkOpen = () => {
    if (isClosed) throw closedError();
  };
  const shared = instance?.joinMemory(clock);
  const memory = shared?.keyspace ?? new MemoryKeyspace(clock);
  const pubSub = new OwnSubscriptions(memory, (error) =>
    events.emit('error', { feature: 'connection', error }),
  );
  return {
    connection: undefined,
    engine: memoryEngine(memory, clock, checkOpen),
    pubSub,
    now: () => clock.now(),
    ready: async () => checkOpen(),
    close: async () => {
      isClosed = true;
      pubSub.close();
      shared?.leave();
    },
  };
}
