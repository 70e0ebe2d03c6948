import type { ServerResponse } from 'node:http';
import type { KitEvents } from '../base/events.ts';
import { RETRY_AFTER_MS, sendProblem } from '../http/problem-details.ts';

/** Why a request was refused. */
export interface IdempotencyRefusal {
  /**
   * `missing-key`: the header is required. `malformed-key`: the header does not contain a valid key. `in-flight`: the
   * first request with the key is still running. `mismatch`: the key was used for a different request. `unkept`: the
   * request has run, but its response was too large to be recorded. `unread-body`: no body parser has read the body,
   * for example because it does not accept the content type. `deep-body`: the body is nested too deeply. With either
   * body problem, a retry cannot be distinguished from another request.
   */
  readonly reason: KitEvents['idempotency:refused']['reason'];
  /** The status of the default response. */
  readonly status: 400 | 409 | 415 | 422;
  /** Undefined when the request has no valid key. */
  readonly key: string | undefined;
  /** An explanation of the refusal for people, in English. */
  readonly detail: string;
  /** Milliseconds until a retry may succeed; undefined when no retry will. */
  readonly retryAfterMs: number | undefined;
}

type Reason = IdempotencyRefusal['reason'];

const REFUSALS: Readonly<Record<Reason, Pick<IdempotencyRefusal, 'status' | 'detail'>>> = {
  'missing-key': { status: 400, detail: 'This request needs a key by which a retry is known.' },
  'malformed-key': {
    status: 400,
    detail:
      'The key must be a string of 1 to 255 visible characters, in quotes or a plain token such as a UUID.',
  },
  'in-flight': { status: 409, detail: 'An earlier request with the same key is still being worked on.' },
  mismatch: { status: 422, detail: 'The key was used for a request with another method, URL or body.' },
  unkept: {
    status: 409,
    detail:
      'The request was carried out, but its response was too large to be kept; a retry is not carried out again.',
  },
  'unread-body': {
    status: 415,
    detail:
      'A body of this type is not read here, so a retry with the same key cannot be distinguished from another request.',
  },
  'deep-body': {
    status: 400,
    detail:
      'The body is nested too deeply, so a retry with the same key cannot be distinguished from another request.',
  },
};

const TITLES = {
  400: 'Bad Request',
  409: 'Conflict',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
} as const;

export function refusalFor(reason: Reason, key: string | undefined): IdempotencyRefusal {
  const retryAfterMs = reason === 'in-flight' ? RETRY_AFTER_MS : undefined;
  return { reason, key, ...REFUSALS[reason], retryAfterMs };
}

export function sendRefusal(res: ServerResponse, { status, detail, retryAfterMs }: IdempotencyRefusal): void {
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  sendProblem(res, { status, title: TITLES[status], detail, ...wait });
}
