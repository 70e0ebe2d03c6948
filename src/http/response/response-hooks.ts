import type { OutgoingHttpHeader, ServerResponse } from 'node:http';
import { type ErrorCode, RedisKitError } from '../../base/errors.ts';
import { type Problem, sendProblem, sendUnavailable } from '../problem-details.ts';

/** The order in which hooks run, whatever the order of the middleware that registered them. */
const PHASES = ['capture', 'session', 'idempotency', 'lock'] as const;

type Phase = (typeof PHASES)[number];

/**
 * What a room wants to do before a response is out. A hook that returns nothing costs the response no turn of the
 * event loop; one that returns a promise is waited for, so it must settle within the request's deadline. One that
 * throws or rejects turns a response that has not begun into a 503. The headers are the handler's: what a hook
 * changes in them after it waited is undone.
 */
export interface ResponseHook {
  readonly phase: Phase;
  /** Each piece of the body, as the handler wrote it. */
  chunk?(chunk: Buffer): void;
  /** Before the headers leave, with the first write or the end. */
  beforeHeaders?(): undefined | Promise<void>;
  /**
   * Before the last bytes leave, once. `hasBegun`: the headers left with an earlier write. `ranOn`: the handler ran on
   * since `beforeHeaders`, also where the headers were withheld.
   */
  beforeEnd?(hasBegun: boolean, ranOn: boolean): undefined | Promise<void>;
  /**
   * The head is about to pass to Node, the replacement's where there is one: what is set here is sent, also after a hook has
   * waited.
   */
  headLeaves?(): void;
  /**
   * Node has the head of the handler's response, or of a replacement that this or another hook chose, and none of it has
   * left. `late` is what the middleware above the kit did to it on that way.
   */
  headLeft?(late: LateHeaders): void;
  /** The handler's response is not sent: a hook failed, or Node refused it. `headLeft` does not come. */
  notSent?(): void;
  /** No byte that would complete the response may leave before `beforeEnd` is through. */
  readonly withholdsLastBytes?: boolean;
  /** `beforeEnd` waits for the handler's end also where a refusal takes the place of what the handler streams. */
  readonly outlastsRefusal?: boolean;
  /**
   * What is sent instead of the handler's response. Asked when its head is about to leave, and again at its end while
   * nothing has left; the hooks hear the handler's response all the same, and it goes no further.
   */
  instead?(): Replacement | undefined;
  /** The connection closed and `end()` was not called; it still may be. */
  closedEarly?(): void;
  /**
   * The handler broke its response off with `destroy()` in place of ending it, as `stream.pipeline` does when its source
   * fails. A client that goes away is another thing: Node does not call `destroy()` for it.
   */
  abandoned?(): void;
}

/** Headers by their names in lower case; undefined for one that was removed. */
export type LateHeaders = ReadonlyMap<string, OutgoingHttpHeader | undefined>;

/** Answers on a response that has the handler's status and headers; `reset` takes the headers off that came from below. */
export type Replacement = (res: ServerResponse, reset: () => void) => void;

/** Failures of a hook for which no store is to blame. */
const NO_OUTAGE: Partial<Record<ErrorCode, Problem>> = {
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

interface Step {
  readonly hook: ResponseHook;
  readonly isPreparation: boolean;
}

/** The hooks of one response. */
export class ResponseHooks {
  readonly #hooks: ResponseHook[];
  /** The hooks that have seen the headers. */
  readonly #prepared: ResponseHook[] = [];
  #ranOn = false;
  #failure: { readonly phase: Phase; readonly error: unknown } | undefined;

  constructor(...hooks: ResponseHook[]) {
    this.#hooks = hooks;
  }

  /** A room tells of its failure itself; here it means that the handler's response is not sent. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** What answers in the handler's place: a refusal, by what failed first, or what a hook has to say. */
  instead(): Replacement | undefined {
    if (this.#failure === undefined) {
      for (const hook of this.#hooks) {
        const replacement = hook.instead?.();
        if (replacement !== undefined) return replacement;
      }
      return undefined;
    }
    return (res, reset) => {
      reset();
      this.#refuse(res, this.#failure);
    };
  }

  #refuse(
    res: ServerResponse,
    failure: { readonly phase: Phase; readonly error: unknown } | undefined,
  ): void {
    const { phase, error } = failure ?? { phase: 'response', error: undefined };
    const problem = error instanceof RedisKitError ? NO_OUTAGE[error.code] : undefined;
    if (problem === undefined) sendUnavailable(res, phase);
    else sendProblem(res, problem);
  }

  get withholdLastBytes(): boolean {
    return this.#hooks.some((hook) => hook.withholdsLastBytes === true);
  }

  get outlastRefusal(): boolean {
    return this.#hooks.some((hook) => hook.outlastsRefusal === true);
  }

  get hearHeadLeave(): boolean {
    return !this.hasFailed && this.#hooks.some((hook) => hook.headLeft !== undefined);
  }

  add(hook: ResponseHook): void {
    this.#hooks.push(hook);
    if (this.#hooks.length > 1) this.#hooks.sort((a, b) => PHASES.indexOf(a.phase) - PHASES.indexOf(b.phase));
  }

  hear(chunk: string | Uint8Array, encoding: BufferEncoding | undefined): void {
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

  closedEarly(): void {
    for (const hook of this.#hooks) hook.closedEarly?.();
  }

  abandoned(): void {
    for (const hook of this.#hooks) hook.abandoned?.();
  }

  headLeaves(): void {
    for (const hook of this.#hooks) hook.headLeaves?.();
  }

  headLeft(late: LateHeaders): void {
    for (const hook of this.#hooks) hook.headLeft?.(late);
  }

  notSent(): void {
    for (const hook of this.#hooks) hook.notSent?.();
  }

  /** Runs the steps in order, also after a failure; a promise only where a step waits. */
  #run(steps: readonly Step[], hasBegun = false): undefined | Promise<void> {
    for (const [index, step] of steps.entries()) {
      try {
        const wait = this.#take(step, hasBegun);
        if (wait === undefined) continue;
        const rest = () => this.#run(steps.slice(index + 1), hasBegun);
        return wait.catch((error: unknown) => this.#fail(step, error)).then(rest);
      } catch (error) {
        this.#fail(step, error);
      }
    }
    return undefined;
  }

  #take({ hook, isPreparation }: Step, hasBegun: boolean): undefined | Promise<void> {
    if (!isPreparation) return hook.beforeEnd?.(hasBegun, this.#ranOn);
    if (this.hasFailed || this.#prepared.includes(hook)) return undefined;
    this.#prepared.push(hook);
    return hook.beforeHeaders?.();
  }

  #fail({ hook: { phase } }: Step, error: unknown): void {
    this.#failure ??= { phase, error };
  }
}
