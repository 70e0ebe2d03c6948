import { performance } from 'node:perf_hooks';

const DISCOVER_EVERY_MS = 500;

/** A command for a slot that no node serves waits this long for the answer. */
const ANSWER_WITHIN_MS = 200;

/** A cluster client of node-redis, which discovers the topology by itself only when it connects and after MOVED. */
export interface DiscoveringClient {
  /** The only way to ask for the topology. A version without this method follows MOVED alone. */
  readonly _slots?: {
    rediscover?(startWith: object | undefined, except: ReadonlySet<string>): Promise<unknown>;
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

  /** Asks at most twice a second: the node of `first`, or another one but `exceptNode`. */
  start(first: object | undefined, exceptNode: string): void {
    if (performance.now() - this.#startedAt < DISCOVER_EVERY_MS) return;
    this.#startedAt = performance.now();
    const answer = this.#cluster._slots?.rediscover?.(first, new Set([exceptNode]));
    if (answer === undefined) return;
    this.#isUnanswered = true;
    const finished = () => {
      this.#isUnanswered = false;
      this.#finished();
    };
    // The client emits its errors by itself.
    answer.then(finished, finished);
  }
}
