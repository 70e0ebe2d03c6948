import type { IncomingMessage, ServerResponse } from 'node:http';
import { checkedBoolean } from '../base/checked-boolean.ts';
import { asError } from '../base/errors.ts';
import type { Reporter } from '../base/reporter.ts';
import type { Deadline } from '../engine/deadline.ts';
import { originalUrl } from '../http/middleware.ts';
import { DisconnectWatch } from '../http/response/disconnect-watch.ts';
import { addResponseHook, type ResponseHook } from '../http/response/guarded-response.ts';
import { type HandlerHeaders, watchHandlerHeaders } from '../http/response/handler-headers.ts';
import { whenUnserved } from '../http/response/unserved.ts';
import type { Attempt } from './attempt.ts';
import type { IdempotencySettings } from './options.ts';
import { packResponse, type RecordedHead } from './recorded-response.ts';

interface RecorderDeps {
  readonly settings: IdempotencySettings;
  readonly deadline: Deadline;
  readonly reporter: Reporter;
}

/** Headers that are not recorded: middleware sets a retry's cookies, and the replay sets the length of its body. */
function isNotRecorded(name: string): boolean {
  return name === 'set-cookie' || name === 'content-length';
}

/** Records the response of an attempt before its last byte is sent. */
export function recordResponse(
  req: IncomingMessage,
  res: ServerResponse,
  attempt: Attempt,
  deps: RecorderDeps,
): void {
  const recorder = new ResponseRecorder(req, res, attempt, deps);
  // The recorder reads the response of the handler, so its hook runs before the hooks that wait.
  addResponseHook(res, recorder);
  // The response guard, which addResponseHook() installs, must listen for the end of the connection first.
  recorder.watchClient();
  addResponseHook(res, new AttemptEnd(recorder, attempt));
  whenUnserved(res, () => recorder.discard());
}

/** Ends the attempt of a response, in the phase of the hooks that wait. */
class AttemptEnd implements ResponseHook {
  readonly phase = 'idempotency';
  readonly withholdsLastBytes = true;
  readonly outlastsRefusal = true;
  readonly #recorder: ResponseRecorder;
  readonly #attempt: Attempt;

  constructor(recorder: ResponseRecorder, attempt: Attempt) {
    this.#recorder = recorder;
    this.#attempt = attempt;
  }

  beforeEnd(): Promise<void> {
    return this.#recorder.record();
  }

  abandoned(): void {
    this.#attempt.leave();
  }
}

class ResponseRecorder implements ResponseHook {
  readonly phase = 'capture';
  readonly #req: IncomingMessage;
  readonly #res: ServerResponse;
  readonly #attempt: Attempt;
  readonly #deps: RecorderDeps;
  readonly #ownHeaders: () => HandlerHeaders;
  #head: RecordedHead | undefined;
  #chunks: Buffer[] = [];
  #size = 0;
  #isUnserved = false;
  #disconnect: DisconnectWatch | undefined;
  #isCutShort = false;

  constructor(req: IncomingMessage, res: ServerResponse, attempt: Attempt, deps: RecorderDeps) {
    this.#req = req;
    this.#res = res;
    this.#attempt = attempt;
    this.#deps = deps;
    this.#ownHeaders = watchHandlerHeaders(res, isNotRecorded);
  }

  watchClient(): void {
    this.#disconnect = new DisconnectWatch(this.#req, this.#res);
  }

  closedEarly(): void {
    this.#disconnect?.disconnected();
  }

  beforeEnd(): undefined {
    this.#isCutShort = this.#disconnect?.mayBeCutShort(this.#deps.settings.onDisconnect) === true;
  }

  beforeHeaders(): undefined {
    this.#head = this.#readHead();
  }

  chunk(chunk: Buffer): void {
    this.#size += chunk.length;
    if (this.#size > this.#deps.settings.maxBody) this.#chunks = [];
    else this.#chunks.push(chunk);
  }

  /** Called when the request reached no handler. The attempt is counted, since other middleware may have done work. */
  discard(): void {
    this.#isUnserved = true;
    void this.#attempt.discard(this.#deps.deadline);
  }

  record(): Promise<void> {
    if (this.#isUnserved) return Promise.resolve();
    const { settings, deadline } = this.#deps;
    const head = this.#head ?? this.#readHead();
    if (this.#isCutShort || !this.#isFinal(head.status)) return this.#attempt.discard(deadline);
    if (this.#size > settings.maxBody) {
      this.#reportUnkept();
      return this.#attempt.complete(undefined, deadline);
    }
    return this.#attempt.complete(packResponse(head, this.#chunks, this.#size), deadline);
  }

  #readHead(): RecordedHead {
    const { set: headers, removed } = this.#ownHeaders();
    return { status: this.#res.statusCode, headers, removed };
  }

  #isFinal(status: number): boolean {
    const { settings, reporter } = this.#deps;
    try {
      return checkedBoolean('kit.idempotency: option `store`', settings.store(status));
    } catch (error) {
      // A response is final when `store` fails: the request has run, and only `store` could allow another attempt.
      reporter.failure('idempotency', asError(error));
      return true;
    }
  }

  #reportUnkept(): void {
    const { settings, reporter } = this.#deps;
    const { maxBody } = settings;
    reporter.warning(
      `kit.idempotency: the response to a ${this.#req.method} request is larger than \`maxBody\` (${maxBody} bytes) and is not recorded, so its retries are refused; the event 'idempotency:unkept' reports each such response`,
    );
    const url = originalUrl(this.#req);
    reporter.events.emit('idempotency:unkept', { key: this.#attempt.key, url, bytes: this.#size });
  }
}
