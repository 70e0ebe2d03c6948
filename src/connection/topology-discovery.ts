import { performance } from 'node:perf_hooks';
import { COMMAND_OPTIONS } from './node-redis.ts';
import type { NodeClient } from './node-redis-subscriber.ts';

const DISCOVER_EVERY_MS = 500;

/** A command for a slot that no node serves waits this long for the answer. */
const ANSWER_WITHIN_MS = 200;

/** A cluster client of node-redis, which discovers the topology by itself only when it connects and after MOVED. */
export interface DiscoveringClient {
  /** The only way to ask for the topology. A version without this method follows MOVED alone. */
  readonly _slots?: {
    rediscover?(startWith: NodeClient): Promise<unknown>;
  };
}

/** Asks the nodes of a cluster which master serves which slot. */
export class TopologyDiscovery {
  readonly #cluster: DiscoveringClient;
  readonly #finished: () => void;
  #startedAt = Number.NEGATIVE_INFINITY;
  #isUnanswered = false;

  constructor(cluster: DiscoveringClient, finished: () => void) {
    this.#cluster = cluster;
    this.#finished = finished;
  }

  get isRunning(): boolean {
    return this.#isUnanswered && performance.now() - this.#startedAt < ANSWER_WITHIN_MS;
  }

  /** Asks the first node that answers a PING: a question to a frozen node would delay all further ones. */
  start(nodes: readonly NodeClient[]): void {
    if (performance.now() - this.#startedAt < DISCOVER_EVERY_MS) return;
    this.#startedAt = performance.now();
    this.#isUnanswered = true;
    const finished = () => {
      this.#isUnanswered = false;
      this.#finished();
    };
    // The client emits its errors by itself.
    this.#discover(nodes).then(finished, finished);
  }

  async #discover(nodes: readonly NodeClient[]): Promise<void> {
    const answering = nodes.map(async (node) => {
      await node.sendCommand(['PING'], COMMAND_OPTIONS);
      return node;
    });
    await this.#cluster._slots?.rediscover?.(await Promise.any(answering));
  }
}
