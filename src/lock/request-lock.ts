import { AsyncResource } from 'node:async_hooks';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import { LockLostError } from '../base/errors.ts';
import { isThenable } from '../base/thenable.ts';
import type { Deadline } from '../engine/deadline.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { addResponseHook, type ResponseHook } from '../http/response/guarded-response.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import { callInBackground } from '../http/run-middleware.ts';
import { Alarm, type AlarmTask } from '../waiting/alarm.ts';
import type { KitLockHandle } from './handle.ts';
import type { LockSettings } from './options.ts';
import { addRequestHandle, type RequestHandleLink, removeRequestHandle } from './reentry.ts';

interface LockedRequest {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly handle: KitLockHandle;
  readonly deadline: Deadline;
}

/** The lock that a request holds until its response ends or its handler is done, and for at most `maxHold`. */
class RequestLock implements AlarmTask {
  readonly #request: LockedRequest;
  readonly #maxHold: number;
  readonly #alarm: Alarm = new Alarm(this);

  constructor(request: LockedRequest, { maxHold, onLost }: LockSettings, failed: (error: unknown) => void) {
    this.#request = request;
    this.#maxHold = maxHold;
    this.#alarm.set(performance.now() + maxHold);
    if (onLost === undefined) return;
    const { req, res, handle } = request;
    // A timer or a message of another process shows the loss, outside of the request's async context.
    handle.onLost = AsyncResource.bind((error: Error) =>
      callInBackground(() => onLost(asExpress(req), res as Res, error), failed),
    );
  }

  /** Takes the lock away from a request that has held it for `maxHold`. */
  due(): void {
    const { handle } = this.#request;
    handle.lose(
      new LockLostError(`the request held the lock ${handle.quotedKeys} for more than ${this.#maxHold} ms`),
    );
    void this.release();
  }

  async release(): Promise<void> {
    const { handle, deadline } = this.#request;
    this.#alarm.clear();
    await handle.release(deadline);
  }
}

/** A lock that the response guard releases when the handler ends the response, even if the client has disconnected. */
class ResponseLock extends RequestLock implements ResponseHook {
  readonly phase = 'lock';
  readonly withholdsLastBytes = true;
  readonly outlastsRefusal = true;
  readonly #link: RequestHandleLink;

  constructor(request: LockedRequest, settings: LockSettings, failed: (error: unknown) => void) {
    super(request, settings, failed);
    this.#link = addRequestHandle(request.handle);
  }

  beforeEnd(): Promise<void> {
    return this.release();
  }

  override release(): Promise<void> {
    removeRequestHandle(this.#link);
    return super.release();
  }
}

/** Holds the lock of a request until the response ends. */
export function holdUntilResponse(
  request: LockedRequest,
  settings: LockSettings,
  failed: (error: unknown) => void,
): void {
  const lock = new ResponseLock(request, settings, failed);
  addResponseHook(request.res, lock);
  whenUnserved(request.res, () => void lock.release());
}

/**
 * Calls the handler, and releases the lock when the handler's promise settles or, without a promise, when the response
 * ends. A response that the handler ends in its last statement is sent after the release, so that the client's next
 * request is not refused because of this lock; a response that ends earlier does not wait for the handler. Rejects with
 * the handler's error.
 */
export async function holdUntilHandled(
  request: LockedRequest,
  settings: LockSettings,
  { handler, failed }: { readonly handler: () => unknown; readonly failed: (error: unknown) => void },
): Promise<void> {
  const lock = new RequestLock(request, settings, failed);
  let returnsPromise = false;
  let released: Promise<void> | undefined;
  const release = (): Promise<void> => {
    released ??= lock.release();
    return released;
  };
  addResponseHook(request.res, {
    phase: 'lock',
    withholdsLastBytes: true,
    outlastsRefusal: true,
    beforeEnd: async () => {
      // If `end()` is the last statement of the handler, the handler's promise settles within this turn of the event
      // loop.
      await new Promise((resolve) => setImmediate(resolve));
      await (returnsPromise ? released : release());
    },
  });
  // If the client disconnects while later middleware waits, `next` is never called, and a handler that awaits that call
  // never settles.
  whenUnserved(request.res, () => void release());
  try {
    const result = handler();
    returnsPromise = isThenable(result);
    await result;
  } catch (error) {
    returnsPromise = true;
    throw error;
  } finally {
    if (returnsPromise) await release();
  }
}
