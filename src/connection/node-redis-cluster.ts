import { setTimeout as wait } from 'node:timers/promises';
import { createCluster } from 'redis';
import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../operations/operation.ts';
import { type Adapter, type AdapterListener, reconnectDelay, SocketPhase, type Status } from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import { keySlot } from './key-slot.ts';
import {
  COMMAND_OPTIONS,
  type CommandOptions,
  OWN_CLIENT_OPTIONS,
  readReply,
  socketOptions,
} from './node-redis.ts';
import type { ConnectionSettings } from './options.ts';

interface ClusterMaster {
  readonly address: string;
  readonly client?: { readonly isReady: boolean } | undefined;
}

/** What this adapter calls on a cluster client, ours or borrowed. */
interface ClusterClient extends BorrowedClient {
  readonly slots: readonly ({ readonly master: ClusterMaster } | undefined)[];
  readonly masters: readonly ClusterMaster[];
  nodeClient(master: ClusterMaster): Promise<unknown>;
  sendCommand(
    firstKey: string,
    isReadonly: boolean,
    command: readonly Argument[],
    options: CommandOptions,
  ): Promise<unknown>;
  connect(): Promise<unknown>;
  destroy(): void;
}

/** A failed master is looked for elsewhere this long after its socket began to reconnect. */
const TOPOLOGY_REFRESH_MS = 200;

export function openCluster(
  settings: Extract<ConnectionSettings, { kind: 'cluster' }>,
  listener: AdapterListener,
): Adapter {
  const { nodes, username, password, tls } = settings;
  const cluster: BorrowedClient = createCluster({
    rootNodes: nodes.map(({ host, port }) => ({ socket: { host, port } })),
    defaults: {
      ...OWN_CLIENT_OPTIONS,
      socket: socketOptions(tls),
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
    },
    commandOptions: OWN_CLIENT_OPTIONS.commandOptions,
    // Nodes are connected below, one by one: eagerly, a single dead master would hold up the whole cluster.
    minimizeConnections: true,
    topologyRefreshOnReconnectionAttemptStrategy: TOPOLOGY_REFRESH_MS,
  });
  return new NodeRedisCluster(cluster as ClusterClient, true, listener);
}

export function borrowCluster(client: BorrowedClient, listener: AdapterListener): Adapter {
  return new NodeRedisCluster(client as ClusterClient, false, listener);
}

class NodeRedisCluster implements Adapter {
  readonly mode = 'cluster';
  readonly client: ClusterClient;
  readonly #isOurs: boolean;
  readonly #listener: AdapterListener;
  readonly #phases = new Map<string, SocketPhase>();
  readonly #closing = new AbortController();
  readonly #handlers: Readonly<Record<string, Parameters<BorrowedClient['on']>[1]>>;
  /** Whether the last attempt to learn the topology failed. */
  #isLost = false;
  lastError: Error | undefined;

  constructor(client: ClusterClient, isOurs: boolean, listener: AdapterListener) {
    this.client = client;
    this.#isOurs = isOurs;
    this.#listener = listener;
    this.#handlers = {
      'node-ready': (node: { host: string; port: number }) => this.#note(node, (phase) => phase.ready()),
      'node-reconnecting': (node: { host: string; port: number }) =>
        this.#note(node, (phase) => phase.reconnecting()),
      'node-error': (error: unknown, node: { host: string; port: number }) => {
        this.#failed(error);
        this.#note(node, (phase) => phase.failed());
      },
      connect: () => listener.changed(),
      error: (error: unknown) => this.#failed(error),
    };
    for (const [event, handler] of Object.entries(this.#handlers)) client.on(event, handler);
  }

  open(): void {
    if (this.#isOurs) void this.#connect();
  }

  nodeOf(key: string): string {
    return this.client.slots[keySlot(key)]?.master.address ?? 'cluster';
  }

  status(key: string): Status {
    const master = this.client.slots[keySlot(key)]?.master;
    return master === undefined ? this.#unknownStatus() : this.#masterStatus(master);
  }

  overallStatus(): Status {
    const statuses = this.client.masters.map((master) => this.#masterStatus(master));
    if (statuses.length === 0) return this.#unknownStatus();
    if (statuses.includes('down')) return 'down';
    return statuses.includes('connecting') ? 'connecting' : 'up';
  }

  send(key: string, command: readonly Argument[]): Promise<RawReply> {
    return readReply(this.client.sendCommand(key, false, command, COMMAND_OPTIONS));
  }

  close(): void {
    this.#closing.abort();
    if (this.#isOurs) this.client.destroy();
    else for (const [event, handler] of Object.entries(this.#handlers)) this.client.off(event, handler);
  }

  #unknownStatus(): Status {
    return this.#isLost ? 'down' : 'connecting';
  }

  #masterStatus(master: ClusterMaster): Status {
    if (master.client === undefined) this.#connectNode(master);
    return this.#phase(master.address).status(master.client?.isReady === true);
  }

  /** Unlike a single client, a cluster that finds no node at first gives up; its users would have to restart. */
  async #connect(): Promise<void> {
    for (let attempts = 0; !this.#closing.signal.aborted; attempts++) {
      try {
        await this.client.connect();
        this.#isLost = false;
        for (const master of this.client.masters) this.#connectNode(master);
        this.#listener.changed();
        return;
      } catch (error) {
        this.#isLost = true;
        this.#failed(error);
      }
      const delay = wait(reconnectDelay(attempts), undefined, { signal: this.#closing.signal });
      await delay.catch(() => undefined);
    }
  }

  #connectNode(master: ClusterMaster): void {
    this.client.nodeClient(master).catch((error: unknown) => {
      this.#failed(
        new ConnectionError(`cluster node ${master.address}: ${asError(error).message}`, { cause: error }),
      );
    });
  }

  #phase(address: string): SocketPhase {
    let phase = this.#phases.get(address);
    if (phase === undefined) {
      phase = new SocketPhase();
      this.#phases.set(address, phase);
    }
    return phase;
  }

  #note({ host, port }: { host: string; port: number }, change: (phase: SocketPhase) => void): void {
    change(this.#phase(`${host}:${port}`));
    this.#listener.changed();
  }

  #failed(error: unknown): void {
    this.lastError = asError(error);
    this.#listener.failed(this.lastError);
    this.#listener.changed();
  }
}
