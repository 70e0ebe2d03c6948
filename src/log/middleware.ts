import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe } from '../base/describe.ts';
import { asError, ConfigError } from '../base/errors.ts';
import { isIdentity } from '../base/identity.ts';
import type { OpenWork } from '../base/open-work.ts';
import type { Reporter } from '../base/reporter.ts';
import { internalPurposeOf } from '../http/internal-request.ts';
import { asExpress, type Middleware, type Next, type Req, type Res } from '../http/middleware.ts';
import { onClose } from '../http/response/close-signal.ts';
import { callError } from '../http/response/complete-response.ts';
import { beginKitReads, endKitReads, isClosed } from '../http/response/kit-reads.ts';

/** Returns the event of a request and the id of its log; null for a request that is not logged. */
export type RequestEvent<Event, Request extends IncomingMessage = Req> = (
  req: Request,
  res: Res,
) => { readonly id: string; readonly event: Event } | null;

interface RequestLogDeps {
  readonly reporter: Reporter;
  /** Closing the kit waits for the events of requests that have ended. */
  readonly work: OpenWork;
}

/** Appends one event per request when its response has closed. Neither delays the response nor fails it. */
export function logMiddleware<Event>(
  eventOf: RequestEvent<Event, never>,
  append: (id: string, event: Event) => Promise<unknown>,
  { reporter, work }: RequestLogDeps,
): Middleware {
  if (typeof eventOf !== 'function') {
    throw new ConfigError(
      `log.middleware: the argument is ${describe(eventOf)}; it must be a function that returns { id, event }`,
    );
  }

  async function logRequest(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const logged = requestEvent(req, res);
    if (logged !== null) await append(logged.id, logged.event);
  }

  function requestEvent(
    req: IncomingMessage,
    res: ServerResponse,
  ): { readonly id: string; event: Event } | null {
    // The handler may still run: the callback's look at the response is not the handler's.
    beginKitReads();
    try {
      const logged: unknown = eventOf(asExpress(req) as never, res as Res);
      if (logged === null || isRequestEvent<Event>(logged)) return logged;
      throw new ConfigError(
        `log.middleware: the callback returned ${describe(logged)}; it must return { id, event } with an \`id\` that is a string and not empty, or null`,
      );
    } finally {
      endKitReads();
    }
  }

  function closed(req: IncomingMessage, res: ServerResponse): void {
    work.begin();
    work
      .runPart(() => logRequest(req, res))
      .catch((error: unknown) => reporter.failure('log', asError(error)))
      .finally(() => work.end());
  }

  return function log(req: IncomingMessage, res: ServerResponse, next: Next): void {
    const unusable = callError('log.middleware', { req, res, next });
    if (unusable !== undefined) {
      next(unusable);
      return;
    }
    // Requests that the kit itself sends to the app have no client and are not logged.
    if (internalPurposeOf(req) === undefined) {
      if (isClosed(res)) closed(req, res);
      else onClose(res, () => closed(req, res));
    }
    next();
  };
}

function isRequestEvent<Event>(value: unknown): value is { readonly id: string; readonly event: Event } {
  return (
    typeof value === 'object' && value !== null && 'event' in value && 'id' in value && isIdentity(value.id)
  );
}
