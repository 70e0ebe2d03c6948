import { performance } from 'node:perf_hooks';
import type { Deadline } from '../engine/deadline.ts';
import type { ClientCookie, WholeCookie } from './client-cookie.ts';
import type { StoredSession } from './record.ts';

/** Where a login came from, for the list of a user's sessions. */
export interface DeviceFacts {
  readonly ip: string | undefined;
  readonly userAgent: string | undefined;
}

/** What a request's sessions need of the request. */
export interface RequestScope {
  /** The deadline of what the middleware does before and after the handler. */
  readonly deadline: Deadline;
  /** The deadline of one call of the handler. */
  newDeadline(): Deadline;
  facts(): DeviceFacts;
  /** Undefined where no cookie can leave, as with a WebSocket upgrade. */
  readonly cookie: ClientCookie | undefined;
  /** The id of the session that the request has now. */
  currentId(): unknown;
}

/** What one request knows of its sessions. */
export class RequestSessions {
  readonly scope: RequestScope;
  /** As the request's first session has it, whatever the handler makes of that. */
  originalCookie: WholeCookie | undefined;
  /** The session with which the request began, as it was stored then. */
  loaded: StoredSession | undefined;
  /** The ids that are known to be in the store, with what was last seen there. */
  readonly stored: Map<string, StoredSession> = new Map();
  /** The ids that were made for this request: one that was never written has nothing to destroy. */
  readonly made: string[] = [];
  /** The ids whose save came too late: those sessions had ended elsewhere. */
  readonly ended: string[] = [];
  /** The id of the empty session that a logout left; it is not stored unless something is written to it. */
  blank: string | undefined;
  /** Redis cannot be reached and the app goes on without: nothing is written, no cookie is sent. */
  isDetached = false;
  /** The last write or destroy that was begun, as long as it is under way. */
  underWay: Promise<unknown> | undefined;
  /** When the idle deadline was last moved, by this process's clock. */
  touchedAt: number = performance.now();

  constructor(scope: RequestScope) {
    this.scope = scope;
  }

  /** Notes an id that was made for this request; one that a `genid` gives again begins anew. */
  begin(id: string): void {
    this.made.push(id);
    const at = this.ended.indexOf(id);
    if (at >= 0) this.ended.splice(at, 1);
  }

  /** Writes and destroys happen in the order of their calls: a handler need not wait for one before the next. */
  inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.underWay === undefined ? work() : this.underWay.then(work);
    const settled: Promise<unknown> = Promise.allSettled([turn]).then(() => {
      if (this.underWay === settled) this.underWay = undefined;
    });
    this.underWay = settled;
    return turn;
  }
}
