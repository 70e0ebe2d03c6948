import type { TestProject } from 'vitest/node';
import { describeKitOfRun } from './compiled-kit.ts';
import { assertKeysAreOurs, keysOn } from './keys-guard.ts';
import { withPlainClient } from './plain-client.ts';
import {
  describeProvider,
  findRedisProvider,
  findServerBinary,
  NO_REDIS,
  type RedisProvider,
  withoutPassword,
} from './redis-provider.ts';
import { startCluster, startRedis } from './servers.ts';
import './context.ts';

interface SharedServer {
  readonly url: string;
  stop(): Promise<unknown>;
}

const TEST_PREFIX = /^t-/;

export default async function setUpSharedServer(project: TestProject): Promise<() => Promise<void>> {
  const provider = await findRedisProvider();
  if (provider === undefined) throw new Error(NO_REDIS);
  const canStartServers = findServerBinary() !== undefined;
  const server = await startSharedServer(provider);
  const shared: SharedServer[] = [server];
  const compiled = await describeKitOfRun();
  try {
    await requireSupportedVersion(server.url, provider);
    const alreadyThere = await keysOn(server.url);
    const cluster = canStartServers ? await startCluster() : undefined;
    const nodes = cluster?.nodes.map((node) => node.server) ?? [];
    shared.push(...nodes);
    project.provide('redisUrl', server.url);
    project.provide('canStartServers', canStartServers);
    project.provide('compiledKit', { url: compiled.url, tsconfig: compiled.tsconfig });
    project.provide(
      'clusterNodes',
      nodes.map(({ host, port }) => ({ host, port })),
    );
    return async () => {
      await compiled.remove();
      await tearDown(shared, alreadyThere);
    };
  } catch (error) {
    await compiled.remove();
    await Promise.all(shared.map((each) => each.stop()));
    throw error;
  }
}

async function startSharedServer(provider: RedisProvider): Promise<SharedServer> {
  switch (provider.kind) {
    case 'url':
      return { url: provider.url, stop: async () => undefined };
    case 'binary':
      return startRedis();
    case 'docker':
      return startContainer();
  }
}

async function startContainer(): Promise<SharedServer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = await new GenericContainer('redis:7-alpine')
    .withCommand(['redis-server', '--save', '', '--appendonly', 'no'])
    .withExposedPorts(6379)
    .withWaitStrategy(Wait.forLogMessage('Ready to accept connections'))
    .start();
  const url = `redis://${container.getHost()}:${container.getMappedPort(6379)}`;
  return { url, stop: () => container.stop() };
}

async function requireSupportedVersion(url: string, provider: RedisProvider): Promise<void> {
  const info = await withPlainClient(url, (client) => client.info('server')).catch((cause: unknown) => {
    throw new Error(`${describeProvider(provider)} does not answer at ${withoutPassword(url)}`, { cause });
  });
  const version = /redis_version:(\d+)\.(\d+)\S*/.exec(info);
  const [, major, minor] = (version ?? []).map(Number);
  if (major === undefined || minor === undefined || major > 6 || (major === 6 && minor >= 2)) return;
  throw new Error(`${describeProvider(provider)} is Redis ${major}.${minor}; redis-kit needs 6.2 or later`);
}

async function tearDown(shared: readonly SharedServer[], alreadyThere: ReadonlySet<string>): Promise<void> {
  try {
    for (const { url } of shared) await assertKeysAreOurs(url, TEST_PREFIX, alreadyThere);
  } catch (error) {
    // Vitest prints an error of the teardown, but would exit with 0.
    process.exitCode = 1;
    throw error;
  } finally {
    await Promise.all(shared.map((each) => each.stop()));
  }
}
