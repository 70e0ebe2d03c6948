import type { ListeningSocket, ListeningSocketEvents } from './adapter.ts';
import { CONNECT_TIMEOUT_MS, readReply, replyErrorOf } from './node-redis.ts';

/** A client for commands, ours or borrowed, of which another is made that listens. */
export interface DuplicableClient {
  readonly isReady: boolean;
  readonly options?: { readonly socket?: object | undefined } | undefined;
  duplicate(overrides: object): ListeningClient;
}

interface ListeningClient {
  on(event: 'error', listener: (error: unknown) => void): unknown;
  unref(): void;
  connect(): Promise<unknown>;
  subscribe(channel: string, listener: (message: string, channel: string) => void): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  sendCommand(command: readonly string[]): Promise<unknown>;
  destroy(): void;
}

/** What a lender set for commands, and would only disturb here. */
const OVERRIDES = {
  disableOfflineQueue: true,
  commandsQueueMaxLength: undefined,
  commandOptions: { typeMapping: {}, timeout: 0 },
  // A cache of the lender's would be emptied whenever our socket is lost.
  clientSideCache: undefined,
  emitInvalidate: false,
  // It would change the socket beneath us.
  maintNotifications: 'disabled',
  // The heartbeat is ours: node-redis takes a socket for alive as long as it writes to it itself.
  pingInterval: 0,
} as const;

/** A duplicate of a client that is connected, and so with the same way in. */
export class NodeRedisListening implements ListeningSocket {
  readonly #client: ListeningClient;
  readonly #closing = new AbortController();
  readonly #hear = (message: string, channel: string) => this.#events?.heard(channel, message);
  readonly isWellPlaced: () => boolean;
  #events: ListeningSocketEvents | undefined;

  constructor(client: DuplicableClient, isWellPlaced: () => boolean) {
    this.isWellPlaced = isWellPlaced;
    this.#client = client.duplicate({
      ...OVERRIDES,
      socket: {
        ...client.options?.socket,
        connectTimeout: CONNECT_TIMEOUT_MS,
        socketTimeout: undefined,
        // node-redis subscribes to all channels in one command when it reconnects; one that is denied would deny all.
        reconnectStrategy: false,
        // node-redis loses sight of a socket that is on the way.
        signal: this.#closing.signal,
      },
    });
    this.#client.on('error', (error) => this.#events?.lost(replyErrorOf(error) ?? error));
    this.#client.unref();
  }

  connect(events: ListeningSocketEvents): Promise<unknown> {
    this.#events = events;
    return readReply(this.#client.connect());
  }

  subscribe(channel: string): Promise<unknown> {
    return readReply(this.#client.subscribe(channel, this.#hear));
  }

  unsubscribe(channel: string): Promise<unknown> {
    return readReply(this.#client.unsubscribe(channel));
  }

  ping(): Promise<unknown> {
    return readReply(this.#client.sendCommand(['PING']));
  }

  destroy(): void {
    this.#events = undefined;
    try {
      this.#client.destroy();
    } catch {
      // node-redis 5 says so when the client is closed already.
    }
    this.#closing.abort();
  }
}
