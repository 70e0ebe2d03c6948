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

interface Step {
  readonly hook: ResponseHook;
  readonly isPreparation: boolean;
}

/** Runs the hooks of one response. */
export class ResponseHooks {
  readonly #hooks: ResponseHook[];
  /** The hooks whose `beforeHeaders` was called. */
  readonly #prepared: ResponseHook[] = [];
  #ranOn = false;
  #failure: Failure | undefined;

  constructor(...hooks: ResponseHook[]) {
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
    return this.#hooks.some((hook) => hook.withholdsLastBytes === true);
  }

  get outlastRefusal(): boolean {
    return this.#hooks.some((hook) => hook.outlastsRefusal === true);
  }

  get needsSentHead(): boolean {
    return !this.hasFailed && this.#hooks.some((hook) => hook.headLeft !== undefined);
  }

  add(hook: ResponseHook): void {
    this.#hooks.push(hook);
    if (this.#hooks.length > 1) this.#hooks.sort((a, b) => PHASES.indexOf(a.phase) - PHASES.indexOf(b.phase));
  }

  chunk(chunk: string | Uint8Array, encoding: BufferEncoding | undefined): void {
    for (const hook of this.#hooks) {
      hook.chunk?.(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : Buffer.from(chunk));
    }
  }

  beforeHeaders(): undefined | Promise<void> {
    this.#ranOn = true;
    return this.#run(this.#hooks.map((hook) => ({ hook, isPreparation: true })));
  }

  beforeEnd(hasBegun: boolean): undefined | Promise<void> {
    const steps: Step[] = [];
    for (const hook of this.#hooks) {
      if (!hasBegun) steps.push({ hook, isPreparation: true });
      steps.push({ hook, isPreparation: false });
    }
    return this.#run(steps, hasBegun);
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

  /** Runs the hooks' steps in order, even after a failure. Returns a promise only if a step waits. */
  #run(steps: readonly Step[], hasBegun = false): undefined | Promise<void> {
    for (const [index, step] of steps.entries()) {
      try {
        const wait = this.#runStep(step, hasBegun);
        if (wait === undefined) continue;
        const rest = () => this.#run(steps.slice(index + 1), hasBegun);
        return wait.catch((error: unknown) => this.#fail(step, error)).then(rest);
      } catch (error) {
        this.#fail(step, error);
      }
    }
    return undefined;
  }

  #runStep({ hook, isPreparation }: Step, hasBegun: boolean): undefined | Promise<void> {
    if (!isPreparation) return hook.beforeEnd?.(hasBegun, this.#ranOn);
    if (this.hasFailed || this.#prepared.includes(hook)) return undefined;
    this.#prepared.push(hook);
    return hook.beforeHeaders?.();
  }

  #fail({ hook: { phase } }: Step, error: unknown): void {
    this.#failure ??= { phase, error };
  }
}

function refuse(res: ServerResponse, { phase, error }: Failure): void {
  const problem = error instanceof RedisKitError ? PROBLEMS[error.code] : undefined;
  if (problem === undefined) sendUnavailable(res, phase);
  else sendProblem(res, problem);
}
