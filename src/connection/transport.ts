import type { Adapter } from './adapter.ts';
import { ReconnectingPubSub } from './reconnecting-pub-sub.ts';

/** A connection that uses a transport. */
export interface TransportUser {
  /** The status of a key may have changed. */
  changed(): void;
  /** Pub/Sub failed, and no caller receives the error. */
  failed(error: Error): void;
}

/**
 * The sockets to Redis: a client for commands, and a subscriber once a channel is subscribed. Several connections may
 * share a transport. Deadlines, circuit breakers and events belong to each connection.
 */
export class Transport {
  readonly adapter: Adapter;
  /** Pub/Sub for all users, on a second socket. */
  readonly pubSub: ReconnectingPubSub;
  readonly #users = new Set<TransportUser>();
  readonly #close: () => void;

  /** Starts to connect. `closed` is called when the last user has left. */
  constructor(createAdapter: (changed: () => void) => Adapter, closed: () => void = () => undefined) {
    const adapter = createAdapter(() => {
      for (const user of [...this.#users]) user.changed();
    });
    const pubSub = new ReconnectingPubSub(
      () => adapter.createSubscriber(),
      (error) => {
        for (const user of [...this.#users]) user.failed(error);
      },
    );
    this.adapter = adapter;
    this.pubSub = pubSub;
    this.#close = () => {
      pubSub.close();
      adapter.close();
      closed();
    };
    adapter.open();
  }

  /** Adds a user; returns a function that removes it. The last user that leaves closes the transport. */
  join(user: TransportUser): () => void {
    this.#users.add(user);
    return () => {
      if (this.#users.delete(user) && this.#users.size === 0) this.#close();
    };
  }
}
