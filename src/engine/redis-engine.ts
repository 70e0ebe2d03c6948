import { RedisKitError, StoreError } from '../base/errors.ts';
import type { Deadline } from './deadline.ts';
import { eventLoopTimeMs } from './event-loop-time.ts';
import type { Argument, RawReply } from './operation.ts';
import { type CommandLink, type Engine, ReplyError } from './port.ts';
import { arrayOf } from './reply.ts';

export interface RedisEngineSettings {
  /** The time limit of a command that is outside of any request. */
  readonly commandTimeoutMs: number;
  /** The time that scripts see, in tests; default: the server's clock. */
  readonly now?: () => number;
}

/** Runs operations as scripts: by digest (EVALSHA), or by text (EVAL) if the server does not have the script yet. */
export function redisEngine(link: CommandLink, settings: RedisEngineSettings): Engine {
  async function within<Reply>(
    what: string,
    deadline: Deadline | undefined,
    send: (remainingMs: () => number) => Promise<Reply>,
  ): Promise<Reply> {
    const started = eventLoopTimeMs();
    deadline?.begin();
    try {
      return await send(() =>
        deadline === undefined
          ? settings.commandTimeoutMs - (eventLoopTimeMs() - started)
          : deadline.remainingMs(),
      );
    } catch (error) {
      if (error instanceof RedisKitError) throw error;
      const message = error instanceof Error ? error.message : String(error);
      throw new StoreError('ERR_REDIS_KIT_REPLY', `${what} failed: ${message}`, { cause: error });
    } finally {
      deadline?.end();
    }
  }

  return {
    run(operation, keys, args, deadline) {
      return within(operation.name, deadline, async (remainingMs) => {
        const key = keys[0] ?? '';
        const tail: Argument[] = [
          String(keys.length),
          ...keys,
          settings.now === undefined ? '' : String(settings.now()),
          ...operation.encode(args),
        ];
        let reply: RawReply;
        try {
          reply = await link.send(key, ['EVALSHA', operation.sha, ...tail], remainingMs());
        } catch (error) {
          // NOSCRIPT means that nothing ran, so the script can be sent in full.
          if (!(error instanceof ReplyError) || !error.message.startsWith('NOSCRIPT')) throw error;
          reply = await link.send(key, ['EVAL', operation.lua, ...tail], remainingMs());
        }
        return operation.decode(reply);
      });
    },

    delete(keys, deadline) {
      return within('delete', deadline, async (remainingMs) => {
        const reply = await link.send(keys[0] ?? '', ['DEL', ...keys], remainingMs());
        return typeof reply === 'number' ? reply : 0;
      });
    },

    async *scan({ start, end }) {
      const match = `${escapeGlob(start)}*${escapeGlob(end)}`;
      for (const send of link.masters()) {
        let cursor = '0';
        do {
          const command = ['SCAN', cursor, 'MATCH', match, 'COUNT', '1000'];
          const page = await within('scan', undefined, async (remainingMs) => send(command, remainingMs()));
          const [next, keys] = arrayOf(page);
          cursor = String(next);
          yield arrayOf(keys).filter(Buffer.isBuffer).map(String);
        } while (cursor !== '0');
      }
    },
  };
}

function escapeGlob(text: string): string {
  return text.replace(/[*?[\]\\]/g, '\\$&');
}
