import { callListener } from '../base/emitter.ts';
import { asError } from '../base/errors.ts';
import type { ChannelListener, ChannelPattern, PubSub } from '../engine/pub-sub.ts';

/** The subscriptions of one kit, on a Pub/Sub that other kits may share. `close()` ends the subscriptions of this kit. */
export class OwnSubscriptions implements PubSub {
  readonly #shared: PubSub;
  readonly #report: (error: Error) => void;
  readonly #ends = new Set<() => void>();
  #isClosed = false;

  /** `report` receives the errors of listeners. */
  constructor(shared: PubSub, report: (error: Error) => void) {
    this.#shared = shared;
    this.#report = report;
  }

  subscribe(channel: string | ChannelPattern, listener: ChannelListener): () => void {
    if (this.#isClosed) return () => undefined;
    let isUp = false;
    const notify = (status: boolean) => {
      isUp = status;
      this.#call(() => listener.onStatus(status));
    };
    const unsubscribe = this.#shared.subscribe(channel, {
      onMessage: (message, name) => this.#call(() => listener.onMessage(message, name)),
      onStatus: notify,
      onRefused: (error) => this.#call(() => listener.onRefused?.(error)),
    });
    const end = () => {
      unsubscribe();
      // The listener must discard its state, since it receives no more messages.
      if (isUp) notify(false);
    };
    this.#ends.add(end);
    return () => {
      this.#ends.delete(end);
      unsubscribe();
    };
  }

  close(): void {
    this.#isClosed = true;
    for (const end of this.#ends) end();
    this.#ends.clear();
  }

  #call(call: () => unknown): void {
    callListener(call, (error) => this.#report(asError(error)));
  }
}
