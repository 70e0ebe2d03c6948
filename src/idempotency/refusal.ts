import type { ServerResponse } from 'node:http';
import { RETRY_AFTER_MS, sendProblem } from '../http/problem-details.ts';

/** Why a request was refused. */
export interface IdempotencyRefusal {
  /**
   * `missing-key`: the header is required. `malformed-key`: it is no string that can be a key. `in-flight`: an earlier
   * request with the key still runs. `mismatch`: the key stands for another request. `unkept`: it was done, and the
   * answer was too large to be kept. `unread-body`: no parser above has read the body, for example since it takes no body
   * of this type. `deep-body`: the body is nested too deeply. Without a body a retry could not be told from another request.
   */
  readonly reason:
    | 'missing-key'
    | 'malformed-key'
    | 'in-flight'
    | 'mismatch'
    | 'unkept'
    | 'unread-body'
    | 'deep-body';
  /** What it is answered with unless a `handler` takes over. */
  readonly status: 400 | 409 | 415 | 422;
  /** Undefined where none could be read. */
  readonly key: string | undefined;
  /** For people. */
  readonly detail: string;
  /** When a retry may succeed, in milliseconds; undefined where it never will. */
  readonly retryAfterMs: number | undefined;
}

type Reason = IdempotencyRefusal['reason'];

const REFUSALS: Readonly<Record<Reason, Pick<IdempotencyRefusal, 'status' | 'detail' | 'retryAfterMs'>>> = {
  'missing-key': {
    status: 400,
    detail: 'This request needs a key by which a retry is known.',
    retryAfterMs: undefined,
  },
  'malformed-key': {
    status: 400,
    detail:
      'The key must be a string of 1 to 255 visible characters, in quotes or a plain token such as a UUID.',
    retryAfterMs: undefined,
  },
  'in-flight': {
    status: 409,
    detail: 'An earlier request with the same key is still being worked on.',
    retryAfterMs: RETRY_AFTER_MS,
  },
  mismatch: {
    status: 422,
    detail: 'The key was used for a request with another method, URL or body.',
    retryAfterMs: undefined,
  },
  unkept: {
    status: 409,
    detail:
      'The request was carried out, but its response was too large to be kept; a retry is not carried out again.',
    retryAfterMs: undefined,
  },
  'unread-body': {
    status: 415,
    detail:
      'A body of this type is not read here, so a retry with the same key could not be told from another request.',
    retryAfterMs: undefined,
  },
  'deep-body': {
    status: 400,
    detail:
      'The body is nested too deeply, so a retry with the same key could not be told from another request.',
    retryAfterMs: undefined,
  },
};

const TITLES = {
  400: 'Bad Request',
  409: 'Conflict',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
} as const;

export function refusalFor(reason: Reason, key: string | undefined): IdempotencyRefusal {
  return { reason, key, ...REFUSALS[reason] };
}

export function sendRefusal(res: ServerResponse, { status, detail, retryAfterMs }: IdempotencyRefusal): void {
  const wait = retryAfterMs === undefined ? {} : { retryAfterMs };
  sendProblem(res, { status, title: TITLES[status], detail, ...wait });
}
