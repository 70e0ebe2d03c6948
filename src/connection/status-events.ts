import type { Emitter } from '../base/emitter.ts';
import type { KitEvents } from '../base/events.ts';
import type { Adapter } from './adapter.ts';
import type { NodeBreakers } from './node-breakers.ts';
import { refusalOf } from './refusal.ts';
import { unreachable } from './remedies.ts';

const PING_EVERY_MS = 500;

/** Emits `connection:up` and `connection:down`, once each per outage. */
export class StatusEvents {
  readonly #adapter: Adapter;
  readonly #breakers: NodeBreakers;
  readonly #events: Emitter<KitEvents>;
  #emitted: 'up' | 'down' | undefined;
  #wasUp = false;
  #isPinging = false;
  #isStopped = false;

  constructor(adapter: Adapter, breakers: NodeBreakers, events: Emitter<KitEvents>) {
    this.#adapter = adapter;
    this.#breakers = breakers;
    this.#events = events;
  }

  get wasUp(): boolean {
    return this.#wasUp;
  }

  /** Must be called when the status of a node, or its refusal of commands, may have changed. */
  update(): void {
    const status = this.#statusNow();
    if (this.#isStopped || status === 'connecting' || status === this.#emitted) return;
    if (status === 'down') {
      this.#emitted = 'down';
      const { lastError } = this.#adapter;
      const error = this.#breakers.refusal ?? unreachable('Redis cannot be reached', lastError, this.#wasUp);
      this.#events.emit('connection:down', { error });
    } else if (this.#emitted === 'down') void this.#upOnceServed();
    else this.#up();
  }

  stop(): void {
    this.#isStopped = true;
  }

  #statusNow(): 'up' | 'down' | 'connecting' {
    return this.#breakers.refusal === undefined ? this.#adapter.overallStatus() : 'down';
  }

  #up(): void {
    this.#emitted = 'up';
    this.#wasUp = true;
    this.#events.emit('connection:up', { mode: this.#adapter.mode });
  }

  /** Ends an outage only when each master answers a PING: a server that loads its data accepts connections before. */
  async #upOnceServed(): Promise<void> {
    if (this.#isPinging) return;
    this.#isPinging = true;
    const pings = this.#adapter.masters().map((send) => send(['PING']));
    const error: unknown = await Promise.all(pings).then(
      () => undefined,
      (thrown) => thrown,
    );
    this.#isPinging = false;
    if (refusalOf(error) !== undefined) setTimeout(() => this.update(), PING_EVERY_MS).unref();
    // Any other error reply is an answer, and a lost socket has changed the status.
    else if (!this.#isStopped && this.#emitted === 'down' && this.#statusNow() === 'up') this.#up();
  }
}
