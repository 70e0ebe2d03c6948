import { type PlainClient, withPlainClient } from './plain-client.ts';
import { type RedisServer, startRedis } from './redis-server.ts';
import { until } from './until.ts';

/** A master with replicas, and the sentinels that watch it, for one test. */
export interface RedisSentinel {
  /** The name of the master. */
  readonly name: string;
  readonly sentinels: readonly RedisServer[];
  /** The first master, and then its replicas. A failover changes the roles, but not the order. */
  readonly servers: readonly RedisServer[];
  /** The master according to the sentinels. */
  master(): Promise<RedisServer>;
  /**
   * Makes a replica the master, and resolves to its server when all sentinels name it. `order`: by SENTINEL FAILOVER; the
   * old master accepts commands until the sentinels make it a replica, about a second later. `kill` and `freeze`: by the
   * failure of the master, which the sentinels notice within a second.
   */
  failOver(cause?: 'order' | 'kill' | 'freeze'): Promise<RedisServer>;
  /** Restarts or thaws the last master that failed, and resolves when it is a replica in step with the master. */
  heal(): Promise<void>;
  stop(): Promise<void>;
}

export interface RedisSentinelOptions {
  /** Default 1, which fails over by itself. */
  readonly sentinels?: number;
  /** Default 1. */
  readonly replicas?: number;
  /** The password of the master and its replicas. */
  readonly password?: string;
  readonly sentinelPassword?: string;
}

const NAME = 'test-master';

/** Without a failure, no sentinel takes a master for dead, however busy the machine is. */
const DOWN_AFTER_MS = 60_000;
const DOWN_AFTER_FAILURE_MS = 300;

/** Periods in milliseconds, for SENTINEL DEBUG of Redis 7: the defaults are seconds. */
const PERIODS = {
  'info-period': 300,
  'ping-period': 300,
  'ask-period': 100,
  'publish-period': 100,
  'min-link-reconnect-period': 100,
  'election-timeout': 1_000,
  'tilt-period': 100,
};

/** Resolves when each sentinel knows the replicas and the other sentinels. */
export async function startSentinel(options: RedisSentinelOptions = {}): Promise<RedisSentinel> {
  const started: RedisServer[] = [];
  const stop = async () => {
    await Promise.all(started.map((server) => server.stop()));
  };
  const start = async (args: readonly string[], isSentinel = false) => {
    const server = await startRedis({ args, isSentinel });
    started.push(server);
    return server;
  };
  try {
    const servers = await startReplicated(options, start);
    const sentinelArgs =
      options.sentinelPassword === undefined ? [] : ['--requirepass', options.sentinelPassword];
    const sentinels = await Promise.all(
      Array.from({ length: options.sentinels ?? 1 }, () => start(sentinelArgs, true)),
    );
    const group = new SentinelGroup(servers, sentinels, options, stop);
    await group.watch();
    return group;
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startReplicated(
  { replicas = 1, password }: RedisSentinelOptions,
  start: (args: readonly string[]) => Promise<RedisServer>,
): Promise<readonly RedisServer[]> {
  const secrets = password === undefined ? [] : ['--requirepass', password, '--masterauth', password];
  // By default the first replication waits five seconds for further replicas.
  const args = ['--repl-diskless-sync-delay', '0', ...secrets];
  const master = await start(args);
  const link = ['--replicaof', `${master.host} ${master.port}`];
  const rest = await Promise.all(Array.from({ length: replicas }, () => start([...args, ...link])));
  await until('every replica follows the master', async () => {
    const info = await withPlainClient(urlOf(master, password), (client) => client.info('replication'));
    return [...info.matchAll(/state=online/g)].length === replicas;
  });
  return [master, ...rest];
}

class SentinelGroup implements RedisSentinel {
  readonly name = NAME;
  readonly servers: readonly RedisServer[];
  readonly sentinels: readonly RedisServer[];
  readonly #options: RedisSentinelOptions;
  readonly stop: () => Promise<void>;
  #lastMaster: { readonly server: RedisServer; readonly cause: 'order' | 'kill' | 'freeze' } | undefined;

  constructor(
    servers: readonly RedisServer[],
    sentinels: readonly RedisServer[],
    options: RedisSentinelOptions,
    stop: () => Promise<void>,
  ) {
    this.servers = servers;
    this.sentinels = sentinels;
    this.#options = options;
    this.stop = stop;
  }

  /** Tells the sentinels of the master by commands: their configuration files are theirs to write. */
  async watch(): Promise<void> {
    const [master] = this.servers;
    const quorum = Math.floor(this.sentinels.length / 2) + 1;
    const { password } = this.#options;
    await this.#onEach(async (sentinel) => {
      for (const [period, ms] of Object.entries(PERIODS)) {
        // Redis 6.2 has no such command, and takes some seconds longer.
        await sentinel.sendCommand(['SENTINEL', 'DEBUG', period, `${ms}`]).catch(() => undefined);
      }
      await sentinel.sendCommand([
        'SENTINEL',
        'MONITOR',
        NAME,
        `${master?.host}`,
        `${master?.port}`,
        `${quorum}`,
      ]);
      const settings = [
        'failover-timeout',
        '3000',
        ...(password === undefined ? [] : ['auth-pass', password]),
      ];
      await sentinel.sendCommand(['SENTINEL', 'SET', NAME, ...settings]);
    });
    await this.#setDownAfter(DOWN_AFTER_MS);
    await until('each sentinel knows the replicas and the other sentinels', async () => {
      const known = await this.#onEach(async (sentinel) => {
        const others = await listOf(sentinel, 'SENTINELS');
        const replicas = (await listOf(sentinel, 'REPLICAS')).filter((each) => each.includes('slave'));
        return others.length + replicas.length;
      });
      return known.every((count) => count === this.sentinels.length - 1 + this.servers.length - 1);
    });
  }

  async master(): Promise<RedisServer> {
    const [port] = await this.#masterPorts();
    const server = this.servers.find((each) => each.port === port);
    if (server === undefined)
      throw new Error(`the sentinels name ${port} as the master, which is no test server`);
    return server;
  }

  async failOver(cause: 'order' | 'kill' | 'freeze' = 'order'): Promise<RedisServer> {
    const old = await this.master();
    this.#lastMaster = { server: old, cause };
    if (cause === 'order') await this.#orderFailover();
    else {
      await this.#setDownAfter(DOWN_AFTER_FAILURE_MS);
      if (cause === 'kill') await old.kill();
      else old.freeze();
    }
    await until('all sentinels name another master', async () => {
      const ports = await this.#masterPorts();
      return new Set(ports).size === 1 && ports[0] !== old.port;
    });
    if (cause !== 'order') await this.#setDownAfter(DOWN_AFTER_MS);
    return this.master();
  }

  async heal(): Promise<void> {
    const { server, cause } = this.#lastMaster ?? {};
    if (server === undefined) return;
    if (cause === 'kill') await server.restart();
    if (cause === 'freeze') server.thaw();
    const url = urlOf(server, this.#options.password);
    await until('the old master is a replica in step', () =>
      withPlainClient(url, (client) => client.info('replication')).then(
        (info) => info.includes('role:slave') && info.includes('master_link_status:up'),
        // The sentinels close the connections of a server that becomes a replica.
        () => false,
      ),
    );
  }

  /** A sentinel refuses while its last look at the replica is too old, so the order is repeated. */
  async #orderFailover(): Promise<void> {
    const [sentinel] = this.sentinels;
    await withPlainClient(urlOf(sentinel, this.#options.sentinelPassword), (client) =>
      until('a sentinel accepts the order to fail over', () =>
        client.sendCommand(['SENTINEL', 'FAILOVER', NAME]).then(
          () => true,
          (error: Error) => {
            if (error.message.startsWith('NOGOODSLAVE')) return false;
            throw error;
          },
        ),
      ),
    );
  }

  #setDownAfter(ms: number): Promise<unknown> {
    return this.#onEach((sentinel) =>
      sentinel.sendCommand(['SENTINEL', 'SET', NAME, 'down-after-milliseconds', `${ms}`]),
    );
  }

  #masterPorts(): Promise<readonly number[]> {
    return this.#onEach(async (sentinel) => {
      const address = await sentinel.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME]);
      return Number((address as unknown as readonly string[])[1]);
    });
  }

  #onEach<Result>(ask: (sentinel: PlainClient) => Promise<Result>): Promise<Result[]> {
    return Promise.all(
      this.sentinels.map((sentinel) => withPlainClient(urlOf(sentinel, this.#options.sentinelPassword), ask)),
    );
  }
}

async function listOf(sentinel: PlainClient, what: 'SENTINELS' | 'REPLICAS'): Promise<readonly string[]> {
  const list = await sentinel.sendCommand(['SENTINEL', what, NAME]);
  return (list as unknown as readonly unknown[]).map((each) => JSON.stringify(each));
}

function urlOf(server: RedisServer | undefined, password: string | undefined): string {
  if (server === undefined) throw new Error('a group of sentinels has at least one');
  return password === undefined
    ? server.url
    : server.url.replace('//', `//:${encodeURIComponent(password)}@`);
}
