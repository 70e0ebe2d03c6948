import { connectPlainClient, type PlainClient } from '../test/support/plain-client.ts';
import { startRedis } from '../test/support/redis-server.ts';
import { Worker } from './worker.ts';

/** What Redis has used since its start, in microseconds. */
export interface RedisUse {
  readonly cpu: number;
  /** The part of it inside scripts. */
  readonly scripts: number;
}

/** The Redis server of a run. */
export class Redis {
  readonly url: string;
  readonly #client: PlainClient;
  readonly #stop: () => Promise<void>;
  readonly #proxies = new Map<
    number,
    Promise<{ readonly worker: Worker<object, object>; readonly port: number }>
  >();

  private constructor(url: string, client: PlainClient, stop: () => Promise<void>) {
    this.url = url;
    this.#client = client;
    this.#stop = stop;
  }

  static async start(): Promise<Redis> {
    const server = await startRedis();
    return new Redis(server.url, await connectPlainClient(server.url), () => server.stop());
  }

  async version(): Promise<string> {
    const info = await this.#client.info('server');
    return /(?:valkey|redis)_version:(\S+)/.exec(info)?.[1] ?? 'of an unknown version';
  }

  /** The URL of a proxy that delays each direction by this time. */
  async delayedUrl(delayMs: number): Promise<string> {
    const { port } = new URL(this.url);
    const proxy = this.#proxies.get(delayMs) ?? Worker.start(['delay.ts', port, String(delayMs)]);
    this.#proxies.set(delayMs, proxy);
    return `redis://127.0.0.1:${(await proxy).port}`;
  }

  async use(): Promise<RedisUse> {
    const [cpu, commands] = await Promise.all([this.#client.info('cpu'), this.#client.info('commandstats')]);
    const seconds = (field: string) => Number(new RegExp(`${field}:([\\d.]+)`).exec(cpu)?.[1]);
    const scripts = commands.matchAll(/^cmdstat_(?:eval|evalsha|fcall)(?:_ro)?:calls=\d+,usec=(\d+)/gm);
    return {
      cpu: (seconds('used_cpu_user') + seconds('used_cpu_sys')) * 1e6,
      scripts: [...scripts].reduce((sum, [, micros]) => sum + Number(micros), 0),
    };
  }

  /** The bytes of the largest of some thousand keys with this prefix. */
  async largestKey(prefix: string): Promise<number> {
    const { keys } = await this.#client.scan('0', { MATCH: `${prefix}*`, COUNT: 2_000 });
    const sizes = await Promise.all(keys.map((key) => this.#client.memoryUsage(key, { SAMPLES: 0 })));
    return Math.max(0, ...sizes.map((size) => size ?? 0));
  }

  async clear(): Promise<void> {
    await this.#client.flushAll();
  }

  async stop(): Promise<void> {
    for (const proxy of this.#proxies.values()) await (await proxy).worker.stop();
    this.#client.destroy();
    await this.#stop();
  }
}
