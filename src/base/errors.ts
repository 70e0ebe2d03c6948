/**
 * Every error that redis-kit makes. `code` is stable and safe to compare; the message is for people and may
 * change. Each code has a heading in docs/errors.md.
 */
export class RedisKitError extends Error {
  readonly code: ErrorCode;
  /** What Express's own error handler, and most others, answer with; undefined for the app's own mistakes: 500. */
  declare readonly status?: number;
  /** The same as `status`; NestJS, Fastify and others read this name. */
  declare readonly statusCode?: number;
  /** Whether a client may read the message, as `http-errors` has it: below 500. NestJS needs all three fields. */
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

/** Redis is needed and absent (503), or the user may have no more of what was asked for (409). */
const STATUS: Partial<Record<ErrorCode, number>> = {
  ERR_REDIS_KIT_CONNECTION: 503,
  ERR_REDIS_KIT_TIMEOUT: 503,
  ERR_REDIS_KIT_REPLY: 503,
  ERR_REDIS_KIT_NEWER_FORMAT: 503,
  ERR_REDIS_KIT_FULL: 503,
  ERR_REDIS_KIT_CLOSED: 503,
  ERR_REDIS_KIT_LOCK_TIMEOUT: 503,
  ERR_REDIS_KIT_SESSION_LIMIT: 409,
};

/** What was given is wrong: an option where something is made, or what a callback answered for one request. */
export class ConfigError extends RedisKitError {
  /** Everything that is wrong with the call, in one sentence each; `message` has them all. */
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

/** Redis could not be reached. The command was not handed over, so it has certainly not run. */
export class ConnectionError extends RedisKitError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('ERR_REDIS_KIT_CONNECTION', message, options);
  }
}

/**
 * An operation on the store failed. With `ERR_REDIS_KIT_TIMEOUT` and `ERR_REDIS_KIT_REPLY` the command may have
 * run all the same: nobody can tell, so it is never sent a second time.
 */
export class StoreError extends RedisKitError {}

/** The kit was closed, on whatever store. */
export function closedError(): StoreError {
  return new StoreError('ERR_REDIS_KIT_CLOSED', 'the kit is closed');
}

/** The lock is no longer ours, or may no longer be: stop writing what it protects. */
export class LockLostError extends RedisKitError {
  constructor(message: string, options?: { readonly cause?: unknown }) {
    super('ERR_REDIS_KIT_LOCK_LOST', message, options);
  }
}

/** Somebody else held the lock for as long as it was worth waiting for. The place in the line is given up. */
export class LockTimeoutError extends RedisKitError {
  /** The key that was not free, of those that were asked for. */
  readonly key: string;

  constructor(key: string, message: string) {
    super('ERR_REDIS_KIT_LOCK_TIMEOUT', message);
    this.key = key;
  }
}

/** A thrown value as an Error, for code that must hand on whatever it caught. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
}
