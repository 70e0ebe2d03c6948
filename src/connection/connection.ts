import { performance } from 'node:perf_hooks';
import type { Emitter } from '../base/emitter.ts';
import { ConnectionError, closedError, StoreError } from '../base/errors.ts';
import type { KitEvents } from '../base/events.ts';
import { eventLoopTimeMs } from '../engine/event-loop-time.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import { type CommandLink, ReplyError } from '../engine/port.ts';
import type { PubSub } from '../engine/pub-sub.ts';
import type { Adapter, AdapterListener, Status } from './adapter.ts';
import { Breaker } from './breaker.ts';
import { Listener } from './listener.ts';
import { Timeouts } from './timeouts.ts';

/** How long `ready()` waits for the first connection. */
const CONNECT_DEADLINE_MS = 5_000;

/** Between two tries of a command that Redis did not run; doubled from the first to the longest. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 100;

/**
 * A connected client with manners: a command is sent only to a node that is ready, settles within its deadline,
 * and is not even tried while the node's breaker is open. It is sent again only where Redis says that it did not run.
 */
export class Connection implements CommandLink {
  readonly #adapter: Adapter;
  readonly #events: Emitter<KitEvents>;
  readonly #commandTimeoutMs: number;
  readonly #timeouts = new Timeouts();
  readonly #breakers = new Map<string, Breaker>();
  readonly #waiting = new Set<() => void>();
  readonly #listener: Listener;
  #isClosed = false;
  #isTold: 'up' | 'down' | undefined;
  #closed: Promise<void> | undefined;

  constructor(
    makeAdapter: (listener: AdapterListener) => Adapter,
    events: Emitter<KitEvents>,
    commandTimeoutMs: number,
  ) {
    this.#events = events;
    this.#commandTimeoutMs = commandTimeoutMs;
    this.#adapter = makeAdapter({ changed: () => this.#changed() });
    this.#listener = new Listener(
      () => this.#adapter.listen(),
      (error) => this.#events.emit('error', { feature: 'connection', error }),
    );
    this.#adapter.open();
    this.#changed();
  }

  /** Hears what is published, on a connection of its own that all rooms share. */
  get pubSub(): PubSub {
    return this.#listener;
  }

  get client(): unknown {
    return this.#adapter.client;
  }

  /** Resolves with the first connection; one that comes after the rejection is used all the same. */
  async ready(): Promise<void> {
    await this.#whenUp(() => this.#adapter.overallStatus(), CONNECT_DEADLINE_MS, false);
  }

  async send(key: string, command: readonly Argument[], deadlineMs: number): Promise<RawReply> {
    // An EVAL goes on with an EVALSHA that was under way when the kit was closed.
    if (this.#isClosed && command[0] !== 'EVAL') throw closedError();
    const until = eventLoopTimeMs() + deadlineMs;
    let refusal: unknown;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      let breaker = this.#closedBreaker(key);
      if (this.#adapter.status(key) !== 'up') {
        await this.#waitForUp(key, until - eventLoopTimeMs());
        // Only now is the topology known, or another node serves the key since a failover.
        breaker = this.#closedBreaker(key);
      }
      const left = until - eventLoopTimeMs();
      if (left <= 0) {
        if (refusal !== undefined) throw this.#failure(refusal, breaker, deadlineMs);
        throw new ConnectionError('no time is left to ask Redis; nothing was sent');
      }
      try {
        const reply = await this.#timeouts.race(this.#adapter.send(key, command), left, () =>
          this.#late(deadlineMs),
        );
        breaker.succeeded();
        return reply;
      } catch (error) {
        const isRetried = hasNotRun(error) && !breaker.isOnTrial && until - eventLoopTimeMs() > pauseMs;
        if (!isRetried) throw this.#failure(error, breaker, hasNotRun(error) ? deadlineMs : left);
        // A pause may take longer than it should.
        refusal = error;
      }
      await this.#timeouts.pause(pauseMs);
    }
  }

  /** Counts a failure for the breaker, and gives it the error that the caller gets. `spentMs` is what it had to wait. */
  #failure(error: unknown, breaker: Breaker, spentMs: number): unknown {
    if (error instanceof ReplyError && !hasNotRun(error)) {
      breaker.succeeded();
      return error;
    }
    // A request that had spent its deadline elsewhere says nothing about the node.
    if (spentMs * 2 >= this.#commandTimeoutMs) breaker.failed();
    if (error instanceof ReplyError || error instanceof StoreError) return error;
    return new StoreError('ERR_REDIS_KIT_CONNECTION', 'the connection was lost before Redis answered', {
      cause: error,
    });
  }

  masters(): readonly ((command: readonly Argument[], deadlineMs: number) => Promise<RawReply>)[] {
    if (this.#isClosed) throw closedError();
    return this.#adapter
      .masters()
      .map(
        (send) => (command, deadlineMs) =>
          this.#timeouts.race(send(command), deadlineMs, () => this.#late(deadlineMs)),
      );
  }

  /** Lets commands in flight finish, up to the timeout, and then closes what the kit opened. */
  close(timeoutMs: number): Promise<void> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#isClosed = true;
    this.#listener.close();
    for (const check of this.#waiting) check();
    const until = performance.now() + timeoutMs;
    while (this.#timeouts.size > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const breaker of this.#breakers.values()) breaker.stop();
    this.#adapter.close();
  }

  async #waitForUp(key: string, deadlineMs: number): Promise<void> {
    try {
      await this.#whenUp(() => this.#adapter.status(key), deadlineMs, true);
    } catch (error) {
      // To be told at once that it is down costs nothing; only a wait in vain counts.
      const waited = this.#adapter.status(key) === 'connecting';
      if (waited && deadlineMs * 2 >= this.#commandTimeoutMs) {
        this.#breaker(this.#adapter.nodeOf(key)).failed();
      }
      throw error;
    }
  }

  /** Waits for the status to be up; with `failFast` only as long as it is not known to be down. */
  async #whenUp(statusNow: () => Status, deadlineMs: number, failFast: boolean): Promise<void> {
    let check: () => void = () => undefined;
    const up = new Promise<void>((resolve, reject) => {
      check = () => {
        const status = statusNow();
        if (this.#isClosed) reject(closedError());
        else if (status === 'up') resolve();
        else if (status === 'down' && failFast) reject(this.#unreachable('Redis cannot be reached'));
      };
    });
    this.#waiting.add(check);
    try {
      check();
      await this.#timeouts.race(up, deadlineMs, () =>
        this.#unreachable(`Redis was not ready within ${Math.round(deadlineMs)} ms`),
      );
    } finally {
      this.#waiting.delete(check);
    }
  }

  #unreachable(what: string): ConnectionError {
    const cause = this.#adapter.lastError;
    return new ConnectionError(cause === undefined ? what : `${what}: ${cause.message || cause.name}`, {
      cause,
    });
  }

  #late(deadlineMs: number): StoreError {
    return new StoreError(
      'ERR_REDIS_KIT_TIMEOUT',
      `Redis did not answer within ${Math.round(deadlineMs)} ms`,
    );
  }

  /** Of the node that serves the key now; refuses while it is spared. */
  #closedBreaker(key: string): Breaker {
    const node = this.#adapter.nodeOf(key);
    const breaker = this.#breaker(node);
    if (breaker.isOpen) throw new ConnectionError(`${node} does not answer; nothing is sent until it does`);
    return breaker;
  }

  #breaker(node: string): Breaker {
    let breaker = this.#breakers.get(node);
    if (breaker === undefined) {
      breaker = new Breaker({
        deadlineMs: this.#commandTimeoutMs,
        probe: () => this.#ping(node),
        changed: (isOpen) =>
          this.#events.emit('connection:breaker', { node, state: isOpen ? 'open' : 'closed' }),
      });
      this.#breakers.set(node, breaker);
    }
    return breaker;
  }

  #ping(node: string): Promise<unknown> | undefined {
    const answer = this.#adapter.ping(node);
    // Its slots are served by others now, which have breakers of their own.
    if (answer === undefined) this.#breakers.delete(node);
    return answer;
  }

  #changed(): void {
    if (this.#isClosed) return;
    for (const check of this.#waiting) check();
    for (const breaker of this.#breakers.values()) breaker.hurry();
    const status = this.#adapter.overallStatus();
    if (status === 'connecting' || status === this.#isTold) return;
    this.#isTold = status;
    if (status === 'up') this.#events.emit('connection:up', { mode: this.#adapter.mode });
    else this.#events.emit('connection:down', { error: this.#unreachable('Redis cannot be reached') });
  }
}

/**
 * Whether the server refused a command before it ran, for a reason that passes: it checks these before anything of a
 * command or script is executed. An error from inside a script names the script.
 */
function hasNotRun(error: unknown): boolean {
  if (!(error instanceof ReplyError)) return false;
  return /^(?:TRYAGAIN|CLUSTERDOWN|LOADING|MASTERDOWN|BUSY) (?!.*script: )/.test(error.message);
}
