/**
 * The base class of all errors of redis-kit. `code` is stable, for programs to compare; `message` is for people and may
 * change. docs/errors.md has a heading for each code.
 */
export class RedisKitError extends Error {
  readonly code: ErrorCode;
  /** The HTTP status that error handlers, such as Express's, send; undefined if the default (500) is right. */
  declare readonly status?: number;
  /** The same as `status`, under the name that NestJS and Fastify read. */
  declare readonly statusCode?: number;
  /** Whether clients may see the message, as in `http-errors`. NestJS requires `status`, `statusCode` and `expose`. */
  declare readonly expose?: boolean;

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
    const status = STATUS[code];
    if (status === undefined) return;
    this.status = status;
    this.statusCode = status;
    this.expose = status < 500;
  }
}

export type ErrorCode =
  | 'ERR_REDIS_KIT_CONFIG'
  | 'ERR_REDIS_KIT_CONNECTION'
  | 'ERR_REDIS_KIT_TIMEOUT'
  | 'ERR_REDIS_KIT_REPLY'
  | 'ERR_REDIS_KIT_CORRUPT'
  | 'ERR_REDIS_KIT_NEWER_FORMAT'
  | 'ERR_REDIS_KIT_FULL'
  | 'ERR_REDIS_KIT_CLOSED'
  | 'ERR_REDIS_KIT_QUEUE_FULL'
  | 'ERR_REDIS_KIT_JOB_TIMEOUT'
  | 'ERR_REDIS_KIT_TOO_LARGE'
  | 'ERR_REDIS_KIT_CONFLICT'
  | 'ERR_REDIS_KIT_NO_INTEGER'
  | 'ERR_REDIS_KIT_NO_IDENTITY'
  | 'ERR_REDIS_KIT_LATE_SESSION'
  | 'ERR_REDIS_KIT_SESSION_DATA'
  | 'ERR_REDIS_KIT_SESSION_GONE'
  | 'ERR_REDIS_KIT_SESSION_CONFLICT'
  | 'ERR_REDIS_KIT_SESSION_LIMIT'
  | 'ERR_REDIS_KIT_LOAD_CYCLE'
  | 'ERR_REDIS_KIT_LOCK_LOST'
  | 'ERR_REDIS_KIT_LOCK_TIMEOUT'
  | 'ERR_REDIS_KIT_LOCK_REENTRY'
  | 'ERR_REDIS_KIT_LOCK_FENCES';

/**
 * 503: the store cannot serve the request, a lock is not free, or a document changes too often. 409: the user has
 * `maxPerUser` sessions. 413: the value is usually the client's.
 */
const STATUS: Partial<Record<ErrorCode, number>> = {
  ERR_REDIS_KIT_CONNECTION: 503,
  ERR_REDIS_KIT_TIMEOUT: 503,
  ERR_REDIS_KIT_REPLY: 503,
  ERR_REDIS_KIT_NEWER_FORMAT: 503,
  ERR_REDIS_KIT_FULL: 503,
  ERR_REDIS_KIT_CLOSED: 503,
  ERR_REDIS_KIT_QUEUE_FULL: 503,
  ERR_REDIS_KIT_TOO_LARGE: 413,
  ERR_REDIS_KIT_CONFLICT: 503,
  ERR_REDIS_KIT_LOCK_TIMEOUT: 503,
  ERR_REDIS_KIT_SESSION_LIMIT: 409,
};

/** An invalid option or argument, or an invalid result of a callback. */
export class ConfigError extends RedisKitError {
  /** One sentence per problem of the call; `message` contains all of them. */
  readonly problems: readonly string[];

  constructor(problem: string | readonly string[], options?: { readonly cause?: unknown }) {
    const problems = typeof problem === 'string' ? [problem] : problem;
    const [only = ''] = problems;
    super('ERR_REDIS_KIT_CONFIG', problems.length > 1 ? listed(problems) : only, options);
    this.problems = problems;
  }
}

function listed(problems: readonly string[]): string {
  return `${problems.length} options are wrong:${problems.map((problem) => `\n- ${problem}`).join('')}`;
}

/** Redis was unreachable. A command that rejects with this error certainly did not run. */
export class ConnectionError extends RedisKitError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('ERR_REDIS_KIT_CONNECTION', message, options);
  }
}

/**
 * An operation on the store failed. With `ERR_REDIS_KIT_TIMEOUT`, `ERR_REDIS_KIT_REPLY` or `ERR_REDIS_KIT_CONNECTION`
 * the command may have run, so the kit does not send it again.
 */
export class StoreError extends RedisKitError {}

export function closedError(): StoreError {
  return new StoreError('ERR_REDIS_KIT_CLOSED', 'the kit is closed');
}

/** This process has lost the lock, or cannot know whether it still holds it: stop writing to what the lock protects. */
export class LockLostError extends RedisKitError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('ERR_REDIS_KIT_LOCK_LOST', message, options);
  }
}

/** Another holder kept the lock for as long as the caller wanted to wait. The caller has left the queue. */
export class LockTimeoutError extends RedisKitError {
  /** The key that was not free, of all keys that the caller requested. */
  readonly key: string;

  constructor(key: string, message: string) {
    super('ERR_REDIS_KIT_LOCK_TIMEOUT', message);
    this.key = key;
  }
}

export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}
