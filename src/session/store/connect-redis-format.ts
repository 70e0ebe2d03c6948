import { performance } from 'node:perf_hooks';
import { StoreError } from '../../base/errors.ts';
import { renewedCookie } from '../cookie-lifetime.ts';
import {
  type ConnectRedisSessionArgs,
  type ConnectRedisSessionReply,
  connectRedisSession,
} from '../operations/connect-redis-session.ts';
import { checkSize } from '../payload.ts';
import type { SessionDeps } from '../user-index.ts';
import type { SessionData, StoreFormat } from './callback-store.ts';
import type { StoreSettings } from './store-options.ts';

const NO_DATA = Buffer.alloc(0);

/** The format and keys of connect-redis: a session is stored as JSON and ends with the TTL of its key. */
export function connectRedisFormat(
  prefix: string,
  { idle, touchAfter, maxBytes }: StoreSettings,
  { engine, reporter }: SessionDeps,
): StoreFormat {
  /** The time at which each loaded session expires, by the clock of this process. */
  const endsAt = new WeakMap<object, number>();

  function run(
    key: string,
    args: Partial<ConnectRedisSessionArgs> & Pick<ConnectRedisSessionArgs, 'mode'>,
  ): Promise<ConnectRedisSessionReply> {
    return engine.run(connectRedisSession, [key], { ttl: 0, data: NO_DATA, ...args });
  }

  async function read(key: string): Promise<SessionData | null> {
    const { found, data, ttl } = await run(key, { mode: 'get' });
    const session = data === null ? undefined : parse(data);
    if (found === 'corrupt' || (data !== null && session === undefined)) {
      const message = 'a session in the connect-redis format cannot be read and counts as absent';
      reporter.failure('session', new StoreError('ERR_REDIS_KIT_CORRUPT', message));
    }
    if (session === undefined) return null;
    endsAt.set(session, performance.now() + ttl);
    return session;
  }

  async function remove(id: string): Promise<void> {
    await engine.delete([prefix + id]);
  }

  /** The TTL that connect-redis would set, but in milliseconds. */
  function ttlOf({ cookie }: SessionData): number {
    if (!cookie?.expires) return idle;
    return Math.ceil(Number(new Date(cookie.expires)) - Date.now());
  }

  return {
    async get(id) {
      const session = await read(prefix + id);
      if (session !== null) session.cookie = renewedCookie(session.cookie);
      return session;
    },
    noteCreated(session, data) {
      const end = endsAt.get(data);
      if (end !== undefined) endsAt.set(session, end);
    },
    async set(id, session) {
      const ttl = ttlOf(session);
      if (ttl <= 0) return remove(id);
      const data = Buffer.from(JSON.stringify(session));
      checkSize(data.length, maxBytes);
      await run(prefix + id, { mode: 'set', ttl, data });
    },
    async touch(id, session) {
      const ttl = ttlOf(session);
      const left = (endsAt.get(session) ?? Number.NEGATIVE_INFINITY) - performance.now();
      // A session with a shorter lifetime than `idle` is touched more often, in proportion.
      const isDue = Math.abs(ttl - left) >= touchAfter * Math.min(1, ttl / idle);
      if (ttl <= 0) await remove(id);
      else if (isDue) {
        await run(prefix + id, { mode: 'touch', ttl });
        endsAt.set(session, performance.now() + ttl);
      }
    },
    destroy: remove,
    async *ids() {
      for await (const page of engine.scan({ feature: 'session', start: prefix, end: '' })) {
        yield page.map((key) => key.slice(prefix.length));
      }
    },
    peek: (id) => read(prefix + id),
    remove,
  };
}

function parse(data: Buffer): SessionData | undefined {
  try {
    const session: unknown = JSON.parse(data.toString());
    const isSession = typeof session === 'object' && session !== null && 'cookie' in session;
    return isSession && typeof session.cookie === 'object' && session.cookie !== null
      ? (session as SessionData)
      : undefined;
  } catch {
    return undefined;
  }
}
