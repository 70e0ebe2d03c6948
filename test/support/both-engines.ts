import { randomUUID } from 'node:crypto';
import type { Collection } from '../../src/engine/collection.ts';
import { memoryEngine } from '../../src/engine/memory-engine.ts';
import { MemoryKeyspace } from '../../src/engine/memory-keyspace.ts';
import type { CollectionEdit } from '../../src/engine/operation.ts';
import type { Engine, Publisher } from '../../src/engine/port.ts';
import { redisEngine } from '../../src/engine/redis-engine.ts';
import { openConnection } from './connection.ts';
import { redisUrl } from './context.ts';
import { connectPlainClient, type PlainClient } from './plain-client.ts';

/** A clock that a test advances. */
export class TestClock {
  time: number;

  constructor(time = 1_700_000_000_000) {
    this.time = time;
  }

  now(): number {
    return this.time;
  }
}

/**
 * Records the TTL of each key, and expires no key: the clock of the test does not expire keys in Redis either, so the
 * deadlines inside the values must suffice.
 */
class RecordingKeyspace extends MemoryKeyspace {
  readonly ttls = new Map<string, number>();

  override set(key: string, value: Buffer, ttlMs: number): void {
    this.ttls.set(key, ttlMs);
    super.set(key, value, 10 * 365 * 86_400_000);
  }

  override change<Type extends Collection, Result>(
    key: string,
    type: new () => Type,
    edit: CollectionEdit<Type, Result>,
  ): Result {
    if (edit.ttlMs !== undefined) this.ttls.set(key, edit.ttlMs);
    const ttlMs = edit.ttlMs === undefined ? undefined : 10 * 365 * 86_400_000;
    return super.change(key, type, { ...edit, ttlMs });
  }

  /** As in Redis, whose own clock hardly advances during a run. */
  override ttl(key: string): number | undefined {
    return this.get(key) === undefined ? undefined : this.ttls.get(key);
  }
}

/** Both engines on one injected clock, and the data of each. */
export interface BothEngines {
  readonly clock: TestClock;
  readonly memory: Engine & Publisher;
  readonly redis: Engine & Publisher;
  readonly keyspace: RecordingKeyspace;
  readonly client: PlainClient;
  /** The prefix of all keys of this run. */
  readonly prefix: string;
  stop(): Promise<void>;
}

export async function startBothEngines(url: string = redisUrl()): Promise<BothEngines> {
  const clock = new TestClock();
  const connection = openConnection({ url }, 10_000);
  await connection.ready();
  const client = await connectPlainClient(url);
  const keyspace = new RecordingKeyspace(clock);
  return {
    clock,
    memory: memoryEngine(keyspace, clock),
    redis: redisEngine(connection, { commandTimeoutMs: 10_000, now: () => clock.time }),
    keyspace,
    client,
    prefix: `t-${randomUUID().slice(0, 8)}`,
    async stop() {
      client.destroy();
      await connection.close(1_000);
    },
  };
}
