import { createClient } from 'redis';
import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import {
  type Adapter,
  type AdapterListener,
  type ListeningSocket,
  SocketPhase,
  type Status,
} from './adapter.ts';
import type { RedisAddress } from './address.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import {
  COMMAND_OPTIONS,
  type CommandOptions,
  destroyClient,
  OWN_CLIENT_OPTIONS,
  readReply,
  socketOptions,
  tellable,
} from './node-redis.ts';
import { type DuplicableClient, NodeRedisListening } from './node-redis-listening.ts';
import { listen } from './shared-listeners.ts';

/** What this adapter calls on a single client, ours or borrowed. */
interface SingleClient extends BorrowedClient, DuplicableClient {
  readonly isReady: boolean;
  sendCommand(command: readonly Argument[], options: CommandOptions): Promise<unknown>;
  connect(): Promise<unknown>;
  destroy(): void;
}

export function openStandalone(address: RedisAddress, listener: AdapterListener): Adapter {
  const { host, port, username, password, db, tls } = address;
  const client: BorrowedClient = createClient({
    ...OWN_CLIENT_OPTIONS,
    socket: { host, port, ...socketOptions(tls) },
    database: db,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  });
  return new NodeRedisClient(client as SingleClient, true, listener);
}

export function borrowStandalone(client: BorrowedClient, listener: AdapterListener): Adapter {
  return new NodeRedisClient(client as SingleClient, false, listener);
}

class NodeRedisClient implements Adapter {
  readonly mode = 'standalone';
  readonly client: SingleClient;
  readonly #isOurs: boolean;
  readonly #listener: AdapterListener;
  readonly #phase = new SocketPhase();
  readonly #unlisten: () => void;
  lastError: Error | undefined;

  constructor(client: SingleClient, isOurs: boolean, listener: AdapterListener) {
    this.client = client;
    this.#isOurs = isOurs;
    this.#listener = listener;
    if (client.isReady) this.#phase.ready();
    this.#unlisten = listen(client, {
      ready: () => {
        this.#phase.ready();
        listener.changed();
      },
      reconnecting: () => {
        this.#phase.reconnecting();
        listener.changed();
      },
      // Without a listener for 'error' a dropped socket would end the process.
      error: (error) => this.#failed(error),
      end: () => listener.changed(),
    });
  }

  open(): void {
    // node-redis keeps trying by itself; it rejects only when it was closed meanwhile.
    if (this.#isOurs) this.client.connect().catch((error: unknown) => this.#failed(error));
  }

  nodeOf(): string {
    return 'redis';
  }

  status(): Status {
    return this.#phase.status(this.client.isReady);
  }

  overallStatus(): Status {
    return this.status();
  }

  send(_key: string, command: readonly Argument[]): Promise<RawReply> {
    return readReply(this.client.sendCommand(command, COMMAND_OPTIONS));
  }

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return [(command) => this.send('', command)];
  }

  ping(): Promise<unknown> {
    // A lender's client may keep commands for later, and would answer for a server that is away.
    if (!this.client.isReady) return Promise.reject(new ConnectionError('Redis cannot be reached'));
    return readReply(this.client.sendCommand(['PING'], COMMAND_OPTIONS));
  }

  listen(): ListeningSocket | undefined {
    // A lender may not have connected it yet; and who closes it means the one that listens as well.
    return this.client.isReady ? new NodeRedisListening(this.client, () => this.client.isOpen) : undefined;
  }

  close(): void {
    if (this.#isOurs) destroyClient(this.client);
    else this.#unlisten();
  }

  #failed(error: unknown): void {
    this.lastError = tellable(asError(error));
    this.#phase.failed();
    this.#listener.changed();
  }
}
