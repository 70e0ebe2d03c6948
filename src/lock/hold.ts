import type { IncomingMessage, ServerResponse } from 'node:http';
import { LockLostError } from '../base/errors.ts';
import type { Budget } from '../engine/budget.ts';
import { beforeEnd } from '../http/before-end.ts';
import { asExpress, type Res } from '../http/middleware.ts';
import { callAside } from '../http/outcome.ts';
import type { Handle } from './handle.ts';
import type { LockSettings } from './options.ts';

interface HoldContext {
  readonly settings: LockSettings;
  failed(error: unknown): void;
  readonly budget: Budget;
}

/** Holds a lock for as long as the request's handler runs, whether or not its client is still there. */
export function holdWhileRunning(
  req: IncomingMessage,
  res: ServerResponse,
  handle: Handle,
  { settings, failed, budget }: HoldContext,
): void {
  const { maxHold, onLost } = settings;
  const tooLong = setTimeout(() => {
    handle.lose(
      new LockLostError(`the request held the lock '${handle.keys[0]}' for more than ${maxHold} ms`),
    );
    void handle.release();
  }, maxHold).unref();

  if (onLost !== undefined) {
    // What a listener of an AbortSignal throws ends the process.
    const tell = () =>
      callAside(() => onLost(asExpress(req), res as Res, handle.signal.reason as Error), failed);
    handle.signal.addEventListener('abort', tell, { once: true });
  }

  beforeEnd(res, {
    phase: 'lock',
    withholdsLastBytes: true,
    beforeEnd: () => {
      clearTimeout(tooLong);
      return handle.release(budget).then(() => undefined);
    },
  });
}
