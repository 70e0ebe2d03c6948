import { performance } from 'node:perf_hooks';
import type { Emitter } from '../base/emitter.ts';
import { ConnectionError, closedError, StoreError } from '../base/errors.ts';
import type { KitEvents } from '../base/events.ts';
import { eventLoopTimeMs } from '../engine/event-loop-time.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import { type CommandLink, ReplyError } from '../engine/port.ts';
import type { Adapter, Status } from './adapter.ts';
import type { Breaker } from './breaker.ts';
import { CommandSignal } from './command-signal.ts';
import { NodeBreakers } from './node-breakers.ts';
import { OwnSubscriptions } from './own-subscriptions.ts';
import { refusalOf } from './refusal.ts';
import { unreachable, WrongServerReplies } from './remedies.ts';
import { StatusEvents } from './status-events.ts';
import { Timeouts } from './timeouts.ts';
import type { Transport } from './transport.ts';

export const READY_TIMEOUT_MS = 5_000;

/** The pause before a command that Redis did not run is sent again. The pause doubles, up to `LONGEST_PAUSE_MS`. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 100;

/** A command, with the time until which it must be settled. */
interface Call {
  readonly key: string;
  readonly command: readonly Argument[];
  readonly timeoutMs: number;
  /** On the clock of `eventLoopTimeMs()`. */
  readonly until: number;
}

/**
 * Sends commands to nodes that are ready and whose circuit breaker is not open, and settles each within its timeout. A
 * command is sent again only if Redis replied that it had no effect.
 */
export class Connection implements CommandLink {
  readonly #adapter: Adapter;
  readonly #events: Emitter<KitEvents>;
  readonly #commandTimeoutMs: number;
  readonly #timeouts = new Timeouts();
  readonly #breakers: NodeBreakers;
  readonly #status: StatusEvents;
  readonly #waiting = new Set<() => void>();
  /** Pub/Sub for all features of the kit. */
  readonly pubSub: OwnSubscriptions;
  readonly #wrongServer: WrongServerReplies;
  readonly #leave: () => void;
  #isClosed = false;
  #closed: Promise<void> | undefined;

  constructor(transport: Transport, events: Emitter<KitEvents>, commandTimeoutMs: number) {
    this.#events = events;
    this.#commandTimeoutMs = commandTimeoutMs;
    this.#adapter = transport.adapter;
    this.#breakers = new NodeBreakers(this.#adapter, events, commandTimeoutMs, {
      refusalsChanged: () => this.#status.update(),
      // The subscriber may still be connected to the node that was replaced.
      nodeReplaced: () => transport.pubSub.reconnect(),
    });
    this.#status = new StatusEvents(this.#adapter, this.#breakers, events);
    const failed = (error: Error) => this.#events.emit('error', { feature: 'connection', error });
    this.pubSub = new OwnSubscriptions(transport.pubSub, failed);
    this.#wrongServer = new WrongServerReplies(failed);
    this.#leave = transport.join({ changed: () => this.#changed(), failed });
    // Deferred: the client may be connected already, and the app adds its listeners after it has created the kit.
    queueMicrotask(() => this.#changed());
  }

  get client(): unknown {
    return this.#adapter.client;
  }

  get mode(): Adapter['mode'] {
    return this.#adapter.mode;
  }

  /** The name of the master that serves a key. */
  nodeOf(key: string): string {
    return this.#adapter.nodeOf(key);
  }

  /** Resolves when the kit is connected, or rejects after `timeoutMs`. A later connection is still used. */
  async ready(timeoutMs: number = READY_TIMEOUT_MS): Promise<void> {
    await this.#whenUp(() => this.#adapter.overallStatus(), timeoutMs, false);
  }

  send(key: string, command: readonly Argument[], timeoutMs: number): Promise<RawReply> {
    // An EVAL completes an EVALSHA that was sent before the kit was closed.
    if (this.#isClosed && command[0] !== 'EVAL') return Promise.reject(closedError());
    const call = { key, command, timeoutMs, until: eventLoopTimeMs() + timeoutMs };
    const breaker = this.#breakers.of(key);
    const isUp = !breaker.isOpen && this.#adapter.status(key) === 'up';
    return isUp && timeoutMs > 0 ? this.#sendNow(call, breaker, timeoutMs) : this.#sendWhenUp(call);
  }

  /** Sends a command to a node that is up: one promise and one timeout, since each request does this. */
  #sendNow(call: Call, breaker: Breaker, leftMs: number): Promise<RawReply> {
    return new Promise((resolve, reject) => {
      const signal = new CommandSignal();
      const sent = this.#adapter.send(call.key, call.command, signal);
      const timeout = this.#timeouts.start(leftMs, () => {
        signal.abort();
        reject(this.#failure(this.#late(call.timeoutMs), call, breaker, leftMs));
      });
      sent.then(
        (reply) => {
          if (!this.#timeouts.stop(timeout)) return;
          breaker.succeeded();
          resolve(reply);
        },
        (thrown: unknown) => {
          if (!this.#timeouts.stop(timeout)) return;
          const error = this.#adapter.errorOf(thrown);
          if (this.#handleRefusal(error, call, FIRST_PAUSE_MS)) resolve(this.#sendWhenUp(call, error));
          else reject(this.#failure(error, call, breaker, leftMs));
        },
      );
    });
  }

  /** Waits until the node is up, and sends the command until Redis runs it. `refusal`: why Redis did not run it yet. */
  async #sendWhenUp(call: Call, refusal?: unknown): Promise<RawReply> {
    const { key, command, timeoutMs, until } = call;
    let lastRefusal = refusal;
    let pauseMs = FIRST_PAUSE_MS;
    for (;;) {
      if (lastRefusal !== undefined) {
        await this.#timeouts.pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
      }
      let breaker = this.#breakers.passable(key);
      if (this.#adapter.status(key) !== 'up') {
        await this.#waitForUp(key, until - eventLoopTimeMs());
        // The breaker is looked up again: another node may serve the key now.
        breaker = this.#breakers.passable(key);
      }
      const left = until - eventLoopTimeMs();
      if (left <= 0) {
        if (lastRefusal !== undefined) throw this.#failure(lastRefusal, call, breaker, timeoutMs);
        throw new ConnectionError('no time is left for a command to Redis; nothing was sent');
      }
      try {
        const signal = new CommandSignal();
        const late = () => {
          signal.abort();
          return this.#late(timeoutMs);
        };
        const reply = await this.#timeouts.race(this.#adapter.send(key, command, signal), left, late);
        breaker.succeeded();
        if (lastRefusal !== undefined && refusalOf(lastRefusal)?.scope !== 'command') breaker.accepted();
        return reply;
      } catch (thrown) {
        const error = this.#adapter.errorOf(thrown);
        if (!this.#handleRefusal(error, call, pauseMs)) throw this.#failure(error, call, breaker, left);
        // The refusal is kept in case the pause outlasts the timeout.
        lastRefusal = error;
      }
    }
  }

  /** Records that a command was refused, and returns whether it can be sent again within its time. */
  #handleRefusal(error: unknown, call: Call, pauseMs: number): boolean {
    const refusal = refusalOf(error);
    if (refusal === undefined || !(error instanceof ReplyError)) return false;
    const breaker = this.#breakers.refused(call.key, refusal, error);
    if (breaker.isOpen || breaker.isOnTrial) return false;
    return refusal.mayRetry && call.until - eventLoopTimeMs() > pauseMs;
  }

  /** Records a command's failure, and returns the caller's error. The command was allowed to wait for `spentMs`. */
  #failure(error: unknown, call: Call, breaker: Breaker, spentMs: number): unknown {
    const refusal = refusalOf(error);
    if (error instanceof ReplyError && refusal?.mayRetry !== true) {
      breaker.succeeded();
      return this.#wrongServer.explain(error, this.#adapter.mode);
    }
    // The breaker of a node that refuses commands opens by itself. A command that had little time left says nothing.
    const isNodeSilent = refusal === undefined || refusal.scope === 'command';
    const allowedMs = refusal === undefined ? spentMs : call.timeoutMs;
    if (isNodeSilent && allowedMs * 2 >= this.#commandTimeoutMs) breaker.failed(call.key);
    if (refusal !== undefined && error instanceof Error) {
      return new ConnectionError(`${error.message} (the command did not run)`, { cause: error });
    }
    if (error instanceof StoreError) return error;
    return new StoreError('ERR_REDIS_KIT_CONNECTION', 'the connection was lost before Redis answered', {
      cause: error,
    });
  }

  async masters(timeoutMs: number): ReturnType<CommandLink['masters']> {
    if (this.#isClosed) throw closedError();
    const overallStatus = () => this.#adapter.overallStatus();
    await this.#whenUp(overallStatus, timeoutMs, true);
    return this.#adapter.masters().map((send) => async (command, limitMs) => {
      const until = eventLoopTimeMs() + limitMs;
      // A socket that is being replaced would lose the command.
      if (overallStatus() === 'connecting') await this.#whenUp(overallStatus, limitMs, true);
      return this.#timeouts.race(send(command), until - eventLoopTimeMs(), () => this.#late(limitMs));
    });
  }

  /** Waits for running commands, up to the timeout, and then leaves the transport, which the last user closes. */
  close(timeoutMs: number): Promise<void> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#isClosed = true;
    this.pubSub.close();
    for (const check of this.#waiting) check();
    const until = performance.now() + timeoutMs;
    while (this.#timeouts.size > 0 && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    this.#breakers.stop();
    this.#status.stop();
    this.#leave();
  }

  async #waitForUp(key: string, timeoutMs: number): Promise<void> {
    try {
      await this.#whenUp(() => this.#adapter.status(key), timeoutMs, true);
    } catch (error) {
      // An immediate rejection costs the caller nothing; only a wait without success is a failure for the breaker.
      const waited = this.#adapter.status(key) === 'connecting';
      if (waited && timeoutMs * 2 >= this.#commandTimeoutMs) {
        this.#breakers.of(key).failed(key);
      }
      throw error;
    }
  }

  /** Waits until the status is `up`; with `failFast`, rejects once it is `down`. */
  async #whenUp(statusNow: () => Status, timeoutMs: number, failFast: boolean): Promise<void> {
    this.#adapter.wake?.();
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
      await this.#timeouts.race(up, timeoutMs, () =>
        this.#unreachable(`Redis was not ready within ${Math.round(timeoutMs)} ms`),
      );
    } finally {
      this.#waiting.delete(check);
    }
  }

  #unreachable(what: string): ConnectionError {
    return unreachable(what, this.#adapter.lastError, this.#status.wasUp);
  }

  #late(timeoutMs: number): StoreError {
    return new StoreError('ERR_REDIS_KIT_TIMEOUT', `Redis did not answer within ${Math.round(timeoutMs)} ms`);
  }

  #changed(): void {
    if (this.#isClosed) return;
    for (const check of this.#waiting) check();
    this.#breakers.probeNow();
    this.#status.update();
  }
}
