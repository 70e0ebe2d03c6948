import { performance } from 'node:perf_hooks';
import expressSession from 'express-session';
import { dataOf, payloadOf } from './content.ts';
import { hasOtherLife } from './cookie-life.ts';
import { sessionRead } from './operations/read.ts';
import { unpackPayload } from './payload.ts';
import type { SessionData, StoreWork } from './public-store.ts';
import type { SessionRecords, StoredSession } from './record.ts';
import { noSeal } from './seal.ts';
import type { SessionDeps } from './user-index.ts';

interface Known {
  readonly stored: StoredSession;
  /** When the store was last asked, and so the expiry slid. */
  readonly at: number;
}

/**
 * Our sessions under somebody else's express-session. It tells its store neither of the request nor of what was
 * loaded; but the sessions that it saves are those that were made of what it got.
 */
export function ownStoreWork(
  records: SessionRecords,
  settings: { readonly idle: number; readonly touchAfter: number },
  { engine, keys }: SessionDeps,
): StoreWork {
  const known = new WeakMap<object, Known>();

  function remember(session: object, stored: StoredSession): void {
    known.set(session, { stored, at: performance.now() });
  }

  /** One that nobody has loaded: new, where express-session has made it; else it may be there or not. */
  async function store(id: string, session: SessionData): Promise<StoredSession | undefined> {
    const payload = payloadOf(session);
    if (session instanceof expressSession.Session) return records.create(id, payload);
    const there = await records.read(id);
    return there === undefined ? records.create(id, payload) : records.update(id, there, payload);
  }

  return {
    async get(id) {
      const stored = await records.read(id);
      if (stored === undefined) return null;
      const data = dataOf(stored);
      remember(data, stored);
      return data;
    },
    made(session, data) {
      const before = known.get(data);
      if (before !== undefined) known.set(session, before);
    },
    async set(id, session) {
      const before = known.get(session)?.stored;
      const stored =
        before === undefined
          ? await store(id, session)
          : await records.update(id, before, payloadOf(session));
      if (stored !== undefined) remember(session, stored);
    },
    async touch(id, session) {
      const before = known.get(session);
      if (before !== undefined && hasOtherLife(session.cookie, before.stored.meta.cookie)) {
        await this.set(id, session);
        return;
      }
      const { idle, touchAfter } = settings;
      const life = before === undefined ? idle : records.idleOf(before.stored.meta);
      const isDue =
        before === undefined || performance.now() - before.at >= touchAfter * Math.min(1, life / idle);
      if (isDue) await records.touch(id);
    },
    destroy: (id) => records.destroy(id),
    async *names() {
      const pattern = keys.sessionPattern();
      for await (const page of engine.scan(pattern)) {
        yield page.map((key) => key.slice(pattern.start.length + 1, -pattern.end.length));
      }
    },
    async peek(handle) {
      const key = keys.sessionOfHandle(handle) ?? '';
      const { data, seen } = await engine.run(sessionRead, [key], { touchAfter: 0, idle: 0 });
      const payload = data === null ? undefined : unpackPayload(noSeal.open(data, handle));
      return payload === undefined ? null : dataOf(payload, seen);
    },
    async remove(handle) {
      await engine.delete([keys.sessionOfHandle(handle) ?? '']);
    },
  };
}
