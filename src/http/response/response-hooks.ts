import type { ServerResponse } from 'node:http';
import { type ErrorCode, RedisKitError } from '../../base/errors.ts';
import { type Problem, sendProblem, sendUnavailable } from '../problem-details.ts';
import {
  type LateHeaders,
  PHASES,
  type Phase,
  type Replacement,
  type ResponseHook,
} from './response-hook.ts';

/** Responses to failures of hooks that are no outage of the store. For an outage, the response is 503. */
const PROBLEMS: Partial<Record<ErrorCode, Problem>> = {
  ERR_REDIS_KIT_SESSION_DATA: {
    status: 500,
    title: 'Internal Server Error',
    detail: 'The session cannot be stored.',
  },
  ERR_REDIS_KIT_SESSION_LIMIT: {
    status: 409,
    title: 'Conflict',
    detail: 'The user has as many sessions as are allowed.',
  },
};

interface Failure {
  readonly phase: Phase;
  readonly error: unknown;
}

/**
 * A run of the hooks' steps. Step 2n is `beforeHeaders` of the nth hook, and step 2n + 1 its `beforeEnd`. `headers`: the
 * even steps. `late end`: the odd steps, since the headers were sent. `end`: all steps.
 */
type Run = 'headers' | 'end' | 'late end';

/** Runs the hooks of one response. */
export class ResponseHooks {
  /** Replaced by `add`, so that a run that waits goes on with the hooks with which it began. */
  #hooks: readonly ResponseHook[];
  /** The hooks whose `beforeHeaders` was called. */
  #prepared: ResponseHook[] | undefined;
  #ranOn = false;
  #failure: Failure | undefined;

  constructor(...hooks: readonly ResponseHook[]) {
    this.#hooks = hooks;
  }

  /** Whether a hook failed, so that the handler's response is not sent. The hook's feature reports the failure. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** The response that replaces the handler's: a refusal after the first failure of a hook, or a hook's replacement. */
  instead(): Replacement | undefined {
    const failure = this.#failure;
    if (failure !== undefined) {
      return (res, reset) => {
        reset();
        refuse(res, failure);
      };
    }
    for (const hook of this.#hooks) {
      const replacement = hook.instead?.();
      if (replacement !== undefined) return replacement;
    }
    return undefined;
  }

  get withholdLastBytes(): boolean {
    return this.#hooks.some(withholdsLastBytes);
  }

  get outlastRefusal(): boolean {
    return this.#hooks.some(outlastsRefusal);
  }

  get needsSentHead(): boolean {
    return !this.hasFailed && this.#hooks.some(needsSentHead);
  }

  add(hook: ResponseHook): void {
    const hooks = this.#hooks;
    let at = hooks.length;
    while (at > 0 && isLater(hooks[at - 1], hook)) at--;
    this.#hooks = at === 0 ? [hook, ...hooks] : [...hooks.slice(0, at), hook, ...hooks.slice(at)];
  }

  chunk(chunk: string | Uint8Array, encoding: BufferEncoding | undefined): void {
    for (const hook of this.#hooks) {
      hook.chunk?.(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk));
    }
  }

  beforeHeaders(): undefined | Promise<void> {
    this.#ranOn = true;
    return this.#run(this.#hooks, 0, 'headers');
  }

  beforeEnd(hasBegun: boolean): undefined | Promise<void> {
    return this.#run(this.#hooks, 0, hasBegun ? 'late end' : 'end');
  }

  /** Calls the method `event` of every hook that has such a method. */
  notify(event: 'closedEarly' | 'abandoned' | 'notSent'): void {
    for (const hook of this.#hooks) hook[event]?.();
  }

  headLeaves(): void {
    for (const hook of this.#hooks) hook.headLeaves?.();
  }

  headLeft(late: LateHeaders): void {
    for (const hook of this.#hooks) hook.headLeft?.(late);
  }

  /** Runs the steps in order from a given one, even after a failure. Returns a promise only if a step waits. */
  #run(hooks: readonly ResponseHook[], from: number, run: Run): undefined | Promise<void> {
    for (let step = from; step < 2 * hooks.length; step++) {
      const hook = hooks[step >> 1];
      const isPreparation = step % 2 === 0;
      if (hook === undefined || run === (isPreparation ? 'late end' : 'headers')) continue;
      try {
        const wait = isPreparation ? this.#prepare(hook) : hook.beforeEnd?.(run === 'late end', this.#ranOn);
        if (wait === undefined) continue;
        const next = step + 1;
        return wait
          .catch((error: unknown) => this.#fail(hook, error))
          .then(() => this.#run(hooks, next, run));
      } catch (error) {
        this.#fail(hook, error);
      }
    }
    return undefined;
  }

  #prepare(hook: ResponseHook): undefined | Promise<void> {
    if (this.hasFailed || this.#prepared?.includes(hook)) return undefined;
    if (this.#prepared === undefined) this.#prepared = [hook];
    else this.#prepared.push(hook);
    return hook.beforeHeaders?.();
  }

  #fail({ phase }: ResponseHook, error: unknown): void {
    this.#failure ??= { phase, error };
  }
}

function isLater(hook: ResponseHook | undefined, other: ResponseHook): boolean {
  return hook !== undefined && PHASES.indexOf(hook.phase) > PHASES.indexOf(other.phase);
}

function withholdsLastBytes(hook: ResponseHook): boolean {
  return hook.withholdsLastBytes === true;
}

function outlastsRefusal(hook: ResponseHook): boolean {
  return hook.outlastsRefusal === true;
}

function needsSentHead(hook: ResponseHook): boolean {
  return hook.headLeft !== undefined;
}

function refuse(res: ServerResponse, { phase, error }: Failure): void {
  const problem = error instanceof RedisKitError ? PROBLEMS[error.code] : undefined;
  if (problem === undefined) sendUnavailable(res, phase);
  else sendProblem(res, problem);
}
