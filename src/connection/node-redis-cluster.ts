import { performance } from 'node:perf_hooks';
import { setTimeout as wait } from 'node:timers/promises';
import { createCluster } from 'redis';
import { asError, ConnectionError } from '../base/errors.ts';
import type { Argument, RawReply } from '../engine/operation.ts';
import {
  type Adapter,
  type AdapterListener,
  type ListeningSocket,
  reconnectDelay,
  SocketPhase,
  type Status,
} from './adapter.ts';
import type { BorrowedClient } from './borrowed-client.ts';
import { keySlot } from './key-slot.ts';
import {
  COMMAND_OPTIONS,
  type CommandOptions,
  type DestructibleClient,
  destroyClient,
  OWN_CLIENT_OPTIONS,
  readReply,
  socketOptions,
  tellable,
} from './node-redis.ts';
import { type DuplicableClient, NodeRedisListening } from './node-redis-listening.ts';
import type { ConnectionSettings } from './options.ts';
import { listen } from './shared-listeners.ts';

interface NodeClient extends DestructibleClient, DuplicableClient {
  readonly isReady: boolean;
  sendCommand(command: readonly Argument[], options: CommandOptions): Promise<unknown>;
}

interface ClusterMaster {
  readonly address: string;
  readonly client?: NodeClient | undefined;
}

/** What this adapter calls on a cluster client, ours or borrowed. */
interface ClusterClient extends BorrowedClient {
  readonly slots: readonly ({ readonly master: ClusterMaster } | undefined)[];
  readonly masters: readonly ClusterMaster[];
  nodeClient(master: ClusterMaster): Promise<NodeClient>;
  sendCommand(
    firstKey: string,
    isReadonly: boolean,
    command: readonly Argument[],
    options: CommandOptions,
  ): Promise<unknown>;
  connect(): Promise<unknown>;
  destroy(): void;
}

/** A lender's cluster may give a node up at once; asking it again for each command would be a loop without a pause. */
const CONNECT_NODE_EVERY_MS = 200;

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
  /** When each node was last asked for its connection. */
  readonly #askedAt = new Map<string, number>();
  readonly #unlisten: () => void;
  /** The master that was listened on last. */
  #listenedOn: string | undefined;
  /** Whether the last attempt to learn the topology failed. */
  #isLost = false;
  lastError: Error | undefined;

  constructor(client: ClusterClient, isOurs: boolean, listener: AdapterListener) {
    this.client = client;
    this.#isOurs = isOurs;
    this.#listener = listener;
    this.#unlisten = listen(client, {
      'node-ready': (node: { host: string; port: number }) => this.#note(node, (phase) => phase.ready()),
      'node-reconnecting': (node: { host: string; port: number }) =>
        this.#note(node, (phase) => phase.reconnecting()),
      'node-error': (error: unknown, node: { host: string; port: number }) => {
        this.lastError = tellable(asError(error));
        this.#note(node, (phase) => phase.failed());
      },
      connect: () => listener.changed(),
      error: (error: unknown) => this.#failed(error),
    });
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

  masters(): readonly ((command: readonly Argument[]) => Promise<RawReply>)[] {
    return this.client.masters.map(({ address, client }) => async (command) => {
      if (client?.isReady !== true) throw new ConnectionError(`cluster node ${address} cannot be reached`);
      return readReply(client.sendCommand(command, COMMAND_OPTIONS));
    });
  }

  /** To the node itself: node-redis sends a PING for the cluster to all its nodes, of which others may be down. */
  ping(node: string): Promise<unknown> | undefined {
    const { masters } = this.client;
    if (masters.length === 0) return Promise.reject(new ConnectionError('no node of the cluster is known'));
    const master = masters.find(({ address }) => address === node);
    if (master === undefined) return undefined;
    if (this.#masterStatus(master) !== 'up' || master.client === undefined) {
      return Promise.reject(new ConnectionError(`cluster node ${node} cannot be reached`));
    }
    return readReply(master.client.sendCommand(['PING'], COMMAND_OPTIONS));
  }

  /** On any master, since what is published on one is passed on to all. */
  listen(): ListeningSocket | undefined {
    const isMaster = (address: string) => this.client.masters.some((master) => master.address === address);
    const ready = this.client.masters.filter((master) => this.#masterStatus(master) === 'up');
    // Who asks again has lost the last one. By chance, so that processes spread over the masters.
    const others = ready.filter(({ address }) => address !== this.#listenedOn);
    const choice = others.length > 0 ? others : ready;
    const { address, client } = choice[Math.floor(Math.random() * choice.length)] ?? {};
    if (address === undefined || client === undefined) return undefined;
    this.#listenedOn = address;
    return new NodeRedisListening(client, () => isMaster(address));
  }

  close(): void {
    this.#closing.abort();
    if (this.#isOurs) this.#destroy();
    else this.#unlisten();
  }

  #destroy(): void {
    for (const { client } of this.client.masters) if (client !== undefined) destroyClient(client);
    this.client.destroy();
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
        // It may have found its nodes only after it was closed, and would keep them.
        if (this.#closing.signal.aborted) this.#destroy();
        this.#isLost = false;
        for (const master of this.client.masters) this.#connectNode(master);
        this.#listener.changed();
        return;
      } catch (error) {
        this.#isLost = true;
        // It only says that no node would do; why, the last node's own error has told.
        this.#failed(this.lastError ?? error);
      }
      const delay = wait(reconnectDelay(attempts), undefined, { signal: this.#closing.signal });
      await delay.catch(() => undefined);
    }
  }

  #connectNode(master: ClusterMaster): void {
    const now = performance.now();
    if (now - (this.#askedAt.get(master.address) ?? -CONNECT_NODE_EVERY_MS) < CONNECT_NODE_EVERY_MS) return;
    this.#askedAt.set(master.address, now);
    this.client.nodeClient(master).catch((error: unknown) => {
      const cause = tellable(asError(error));
      this.#failed(new ConnectionError(`cluster node ${master.address}: ${cause.message}`, { cause }));
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
    this.lastError = tellable(asError(error));
    this.#listener.changed();
  }
}
