import { performance } from 'node:perf_hooks';
import expressSession from 'express-session';
import { hasOtherMaxAge } from '../cookie-lifetime.ts';
import { NEVER_TOUCH, sessionRead } from '../operations/read.ts';
import { dataOf, parsePayload, payloadOf } from '../payload.ts';
import { noSeal } from '../seal.ts';
import type { SessionRecords, StoredSession } from '../session-records.ts';
import type { SessionDeps } from '../user-index.ts';
import type { SessionData, StoreFormat } from './callback-store.ts';
import type { StoreSettings } from './store-options.ts';

/**
 * The kit's own format, for an app that keeps its own express-session. express-session passes neither the request nor
 * the loaded record to its store. But the session objects that express-session saves were created from loaded data, so
 * a map from these objects finds the record.
 */
export function kitFormat(
  records: SessionRecords,
  { idle, touchAfter }: StoreSettings,
  { engine, keys }: SessionDeps,
): StoreFormat {
  /** The record of each loaded session. `loadedAt`: the time of the last load or save, which moved the expiry. */
  const loaded = new WeakMap<object, { readonly stored: StoredSession; readonly loadedAt: number }>();

  function remember(session: object, stored: StoredSession): void {
    loaded.set(session, { stored, loadedAt: performance.now() });
  }

  /** Saves a session that was not loaded: a session object of express-session is new, a plain object may be stored. */
  async function saveUnknown(id: string, session: SessionData): Promise<StoredSession | undefined> {
    const payload = payloadOf(session);
    if (session instanceof expressSession.Session) return records.create(id, payload);
    const stored = await records.load(id);
    return stored === undefined ? records.create(id, payload) : records.update(stored, payload);
  }

  return {
    async get(id) {
      const stored = await records.load(id);
      if (stored === undefined) return null;
      const data = dataOf(stored);
      remember(data, stored);
      return data;
    },
    noteCreated(session, data) {
      const before = loaded.get(data);
      if (before !== undefined) loaded.set(session, before);
    },
    async set(id, session) {
      const before = loaded.get(session)?.stored;
      const stored =
        before === undefined
          ? await saveUnknown(id, session)
          : await records.update({ ...before, names: keys.sessionNames(id) }, payloadOf(session));
      if (stored !== undefined) remember(session, stored);
    },
    async touch(id, session) {
      const before = loaded.get(session);
      if (before !== undefined && hasOtherMaxAge(session.cookie, before.stored.meta.cookie)) {
        await this.set(id, session);
        return;
      }
      const ownIdle = before === undefined ? idle : records.idleOf(before.stored.meta);
      const isDue =
        before === undefined ||
        performance.now() - before.loadedAt >= touchAfter * Math.min(1, ownIdle / idle);
      if (isDue) await records.touch(id);
    },
    destroy: (id) => records.destroy(id),
    async *ids() {
      const pattern = keys.sessionPattern();
      for await (const page of engine.scan(pattern)) {
        yield page.map((key) => key.slice(pattern.start.length + 1, -pattern.end.length));
      }
    },
    async peek(handle) {
      const key = keys.sessionOfHandle(handle) ?? '';
      const { data, seen } = await engine.run(sessionRead, [key], NEVER_TOUCH);
      const payload = data === null ? undefined : parsePayload(noSeal.open(data, handle));
      return payload === undefined ? null : dataOf(payload, seen);
    },
    async remove(handle) {
      await engine.delete([keys.sessionOfHandle(handle) ?? '']);
    },
  };
}
