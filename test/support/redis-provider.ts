import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Provides the Redis of the tests. */
export type RedisProvider =
  | { readonly kind: 'url'; readonly url: string }
  | { readonly kind: 'binary'; readonly path: string }
  | { readonly kind: 'docker' };

/** A Docker engine that takes longer to answer is not used. */
const DOCKER_ANSWER_MS = 3_000;

/** The error if none of the three is available. */
export const NO_REDIS = `No Redis for the tests: REDIS_URL is not set, neither redis-server nor valkey-server is on the PATH, and no
Docker engine answers. Any one of these helps:
  - script/test, which installs redis-server with apt-get or brew and then runs the tests
  - apt-get install redis-server, or brew install redis
  - REDIS_URL=redis://127.0.0.1:6379 npm test, with a Redis of your own
  - a running Docker engine, in which the tests start a container`;

/** The first that is available: REDIS_URL, a server binary on the PATH, a Docker engine. */
export async function findRedisProvider(): Promise<RedisProvider | undefined> {
  const url = process.env.REDIS_URL;
  if (url) return { kind: 'url', url };
  const path = findServerBinary();
  if (path !== undefined) return { kind: 'binary', path };
  return (await dockerEngineAnswers()) ? { kind: 'docker' } : undefined;
}

export function describeProvider(provider: RedisProvider): string {
  switch (provider.kind) {
    case 'url':
      return `the server at REDIS_URL (${withoutPassword(provider.url)})`;
    case 'binary':
      return provider.path;
    case 'docker':
      return 'a container in Docker';
  }
}

/** `REDIS_SERVER`, or else the first server on the PATH. */
export function findServerBinary(): string | undefined {
  if (process.env.REDIS_SERVER) return process.env.REDIS_SERVER;
  const directories = (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
  return ['redis-server', 'valkey-server']
    .flatMap((name) => directories.map((directory) => join(directory, name)))
    .find(isExecutableFile);
}

/** For messages, without the password of a URL. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/.*@/, '//***@');
}

export function isExecutableFile(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

async function dockerEngineAnswers(): Promise<boolean> {
  // Loaded on demand, since it takes a third of a second.
  const { getContainerRuntimeClient } = await import('testcontainers');
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, DOCKER_ANSWER_MS, false);
  });
  const answer = getContainerRuntimeClient().then(
    () => true,
    () => false,
  );
  try {
    return await Promise.race([answer, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}
