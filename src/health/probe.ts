import { performance } from 'node:perf_hooks';
import type { Keys } from '../base/keys.ts';
import type { Connection } from '../connection/connection.ts';
import { eventLoopTimeMs } from '../engine/event-loop-time.ts';
import type { Argument, RawReply } from '../engine/operation.ts';

/** Sends one command to one master. */
export type SendToMaster = (command: readonly Argument[], timeoutMs: number) => Promise<RawReply>;

export interface Probe {
  /** All masters; empty if they cannot be reached. */
  readonly masters: readonly SendToMaster[];
  /** How long the slowest master took to answer. */
  readonly latencyMs: number;
  /** Why a master cannot be used; undefined if all can. */
  readonly error: unknown;
}

/**
 * Sends each master a write that changes nothing, as each feature sends its commands: within the timeout, and not to a
 * node whose circuit breaker is open. A PING would also succeed on a replica, on a full server, and in a cluster that
 * is down. Never rejects.
 */
export async function probeMasters(connection: Connection, keys: Keys, timeoutMs: number): Promise<Probe> {
  const until = eventLoopTimeMs() + timeoutMs;
  let masters: readonly SendToMaster[] = [];
  let sentAt = performance.now();
  try {
    masters = await connection.masters(timeoutMs);
    sentAt = performance.now();
    const leftMs = until - eventLoopTimeMs();
    await Promise.all(
      keysOfNodes(connection, keys, masters.length).map((key) =>
        // `XX`: a key that does not exist is not set.
        connection.send(key, ['SET', key, '', 'XX'], leftMs),
      ),
    );
    return { masters, latencyMs: since(sentAt), error: undefined };
  } catch (error) {
    return { masters, latencyMs: since(sentAt), error };
  }
}

function since(sentAt: number): number {
  return Math.round((performance.now() - sentAt) * 100) / 100;
}

/** The most keys that are tried: a master may serve only a few of the slots, or none. */
const MAX_TRIES = 16_384;

/** One key for each master. */
function keysOfNodes(connection: Connection, keys: Keys, count: number): readonly string[] {
  const found = new Map<string, string>();
  for (let id = 0; id < MAX_TRIES && found.size < count; id++) {
    const key = keys.health(id);
    const node = connection.nodeOf(key);
    if (!found.has(node)) found.set(node, key);
  }
  return [...found.values()];
}
