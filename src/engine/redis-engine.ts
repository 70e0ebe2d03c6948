import { RedisKitError, StoreError } from '../base/errors.ts';
import type { Deadline } from './deadline.ts';
import { eventLoopTimeMs } from './event-loop-time.ts';
import type { Argument, Operation, RawReply } from './operation.ts';
import { type CommandLink, type Engine, type Publisher, ReplyError } from './port.ts';
import { arrayOf } from './reply.ts';

export interface RedisEngineSettings {
  /** The time limit of a command that is outside of any request. */
  readonly commandTimeoutMs: number;
  /** The time that scripts see, in tests; default: the server's clock. */
  readonly now?: () => number;
}

/** Runs operations as scripts: by digest (EVALSHA), or by text (EVAL) if the server does not have the script yet. */
export function redisEngine(link: CommandLink, settings: RedisEngineSettings): Engine & Publisher {
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
      throw engineErrorOf(what, error);
    } finally {
      deadline?.end();
    }
  }

  function commandOf<Args, Reply>(
    { sha, encode }: Operation<Args, Reply>,
    keys: readonly string[],
    args: Args,
  ): Argument[] {
    const now = settings.now === undefined ? '' : String(settings.now());
    return ['EVALSHA', sha, String(keys.length), ...keys, now, ...encode(args)];
  }

  /** Runs a script in as few promises as possible, since each request does this. */
  function runCommand<Args, Reply>(
    { name, lua, decode }: Operation<Args, Reply>,
    key: string,
    command: Argument[],
    deadline: Deadline | undefined,
  ): Promise<Reply> {
    const timeoutMs = deadline?.begin() ?? settings.commandTimeoutMs;
    const started = deadline === undefined ? eventLoopTimeMs() : 0;
    function fail(error: unknown): never {
      deadline?.end();
      throw engineErrorOf(name, error);
    }
    function succeed(reply: RawReply): Reply {
      deadline?.end();
      try {
        return decode(reply);
      } catch (error) {
        throw engineErrorOf(name, error);
      }
    }
    return link.send(key, command, timeoutMs).then(succeed, (error) => {
      // NOSCRIPT means that nothing ran, so the script can be sent in full.
      if (!(error instanceof ReplyError) || !error.message.startsWith('NOSCRIPT')) fail(error);
      const leftMs = deadline?.remainingMs() ?? timeoutMs - (eventLoopTimeMs() - started);
      return link.send(key, ['EVAL', lua, ...command.slice(2)], leftMs).then(succeed, fail);
    });
  }

  return {
    run(operation, keys, args, deadline) {
      return runCommand(operation, keys[0] ?? '', commandOf(operation, keys, args), deadline);
    },

    runAmendable(operation, keys, args, deadline) {
      const command = commandOf(operation, keys, args);
      return {
        reply: runCommand(operation, keys[0] ?? '', command, deadline),
        amend: (argument) => {
          command[command.length - 1] = argument;
        },
      };
    },

    publish(channel, message) {
      return within('publish', undefined, async (remainingMs) => {
        // Not a script: a server that does not have the script yet would receive it after a later message.
        await link.send(channel, ['PUBLISH', channel, message], remainingMs());
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
      for (const send of await link.masters(settings.commandTimeoutMs)) {
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

function engineErrorOf(what: string, error: unknown): RedisKitError {
  if (error instanceof RedisKitError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new StoreError('ERR_REDIS_KIT_REPLY', `${what} failed: ${message}`, { cause: error });
}

function escapeGlob(text: string): string {
  return text.replace(/[*?[\]\\]/g, '\\$&');
}
