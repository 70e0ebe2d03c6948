import { setTimeout as pause } from 'node:timers/promises';
import { asError, ConnectionError, RedisKitError } from '../base/errors.ts';
import { eventLoopTimeMs } from '../engine/event-loop-time.ts';
import { ReplyError } from '../engine/port.ts';
import { type Connection, READY_TIMEOUT_MS } from './connection.ts';

const RETRY_EVERY_MS = 50;

/**
 * Resolves when every master has answered a PING: a server that is frozen accepts connections too. Rejects after 5 s; a
 * connection that succeeds later is still used.
 */
export async function whenAnswering(connection: Connection): Promise<void> {
  const until = eventLoopTimeMs() + READY_TIMEOUT_MS;
  const leftMs = () => Math.max(1, until - eventLoopTimeMs());
  for (;;) {
    await connection.ready(leftMs());
    try {
      await pingMasters(connection, leftMs());
      return;
    } catch (error) {
      if (error instanceof RedisKitError && error.code === 'ERR_REDIS_KIT_CLOSED') throw error;
      if (until - eventLoopTimeMs() <= RETRY_EVERY_MS) {
        throw new ConnectionError(
          `Redis was not ready within ${READY_TIMEOUT_MS} ms: ${asError(error).message}`,
          {
            cause: error,
          },
        );
      }
      await pause(RETRY_EVERY_MS);
    }
  }
}

async function pingMasters(connection: Connection, timeoutMs: number): Promise<void> {
  const masters = await connection.masters(timeoutMs);
  await Promise.all(
    masters.map((send) =>
      send(['PING'], timeoutMs).catch((error: unknown) => {
        if (!isAnswer(error)) throw error;
      }),
    ),
  );
}

/** Whether an error is a reply of a server that can serve commands, such as a refusal of PING itself. */
function isAnswer(error: unknown): boolean {
  return error instanceof ReplyError && !/^(?:LOADING|MASTERDOWN|BUSY) /.test(error.message);
}
