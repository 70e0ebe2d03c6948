import { ConfigError, StoreError } from '../base/errors.ts';
import type { Req } from '../http/middleware.ts';
import type { SessionSettings } from './options.ts';
import type { SessionRecords } from './record.ts';
import { contentOf, type RequestSessions } from './store.ts';

interface CommitContext {
  readonly sessions: RequestSessions;
  readonly records: SessionRecords;
  readonly settings: SessionSettings;
  /** The id with which the request began; another one later means that the session was regenerated. */
  readonly originalId: string;
  dropCookie(request: Req): void;
}

/**
 * Brings the store in line with `req.session`, before the headers leave and once more before the end. Undefined
 * when there is nothing to do. Rejects when the response must not go out as it is.
 */
export function commitSession(
  request: Req,
  context: CommitContext,
  hasBegun = false,
): undefined | Promise<void> {
  const { sessions, settings } = context;
  if (sessions.isDetached) return undefined;
  if (sessions.conflict) {
    context.dropCookie(request);
    return undefined;
  }
  const session: Req['session'] | null | undefined = request.session;
  if (session === null || session === undefined) {
    const id = request.sessionID;
    const isUnset = settings.unset === 'destroy' && typeof id === 'string' && sessions.stored.has(id);
    return isUnset ? settle(destroy(request, id), request, context, hasBegun) : undefined;
  }
  if (!isToBeSaved(session, context)) return undefined;
  return settle(save(request, session, context, hasBegun), request, context, hasBegun);
}

function isToBeSaved(session: Req['session'], { sessions, settings, originalId }: CommitContext): boolean {
  const content = contentOf(session);
  const stored = sessions.stored.get(session.id);
  if (stored !== undefined) return stored !== content;
  return settings.saveUninitialized || session.id !== originalId || content !== '{}';
}

async function destroy(request: Req, id: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    request.sessionStore.destroy(id, (error?: unknown) => (error ? reject(error) : resolve()));
  });
}

async function save(
  request: Req,
  session: Req['session'],
  context: CommitContext,
  hasBegun: boolean,
): Promise<void> {
  const { sessions, records, dropCookie } = context;
  const isNew = !sessions.stored.has(session.id);
  await new Promise<void>((resolve, reject) => {
    request.sessionStore.set(session.id, session, (error?: unknown) => (error ? reject(error) : resolve()));
  });
  if (sessions.conflict) {
    dropCookie(request);
  } else if (isNew && hasBegun) {
    // Its cookie should have left with the headers.
    records.failed(
      new StoreError(
        'ERR_REDIS_KIT_LATE_SESSION',
        'a session was begun after the headers had left, so its client will never send it; write to req.session before the first write',
      ),
    );
  }
}

/** Applies the failure policy to a commit that failed. */
async function settle(
  work: Promise<void>,
  request: Req,
  context: CommitContext,
  hasBegun: boolean,
): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    context.records.failed(error);
    context.sessions.isDetached = true;
    context.dropCookie(request);
    if (context.settings.onError === 'error' && !hasBegun) throw error;
  }
}
