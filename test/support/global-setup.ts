import type { TestProject } from 'vitest/node';
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
import { startRedis } from './redis-server.ts';
import './context.ts';

interface SharedServer {
  readonly url: string;
  stop(): Promise<unknown>;
}

const TEST_PREFIX = /^t-/;

export default async function setUpSharedServer(project: TestProject): Promise<() => Promise<void>> {
  const provider = await findRedisProvider();
  if (provider === undefined) throw new Error(NO_REDIS);
  const server = await startSharedServer(provider);
  try {
    await requireSupportedVersion(server.url, provider);
    const alreadyThere = await keysOn(server.url);
    project.provide('redisUrl', server.url);
    project.provide('canStartServers', findServerBinary() !== undefined);
    return () => tearDown(server, alreadyThere);
  } catch (error) {
    await server.stop();
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

async function tearDown(server: SharedServer, alreadyThere: ReadonlySet<string>): Promise<void> {
  try {
    await assertKeysAreOurs(server.url, TEST_PREFIX, alreadyThere);
  } catch (error) {
    // Vitest prints what a teardown throws, and would still exit with 0.
    process.exitCode = 1;
    throw error;
  } finally {
    await server.stop();
  }
}
