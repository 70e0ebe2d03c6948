import { describe, expect, it } from 'vitest';
import { parseTestArguments, testRuns } from './test-runs.ts';

const RUNNING = { version: process.versions.node, path: process.execPath };

describe('the runs of script/test', () => {
  it('one run uses the running Node.js and the environment as it is', async () => {
    const env = { REDIS_SERVERS: '/bin/sh' };
    expect(await testRuns({ isFull: false, env, report: fail })).toEqual([
      { name: `Node ${RUNNING.version}`, node: RUNNING.path, env },
    ]);
  });

  it('a full run adds versions of Node.js and servers, and skips by name what is not available', async () => {
    const lines: string[] = [];
    const runs = await testRuns({
      isFull: true,
      env: { REDIS_URL: 'redis://a', REDIS_SERVERS: '/bin/sh:/no/such-server:' },
      report: (line) => lines.push(line),
      find: async (versions, report) => {
        expect(versions).toBe('22,24,26');
        report('Node 26 is skipped');
        return [RUNNING, { version: '24.1.0', path: '/node-24' }];
      },
    });
    const full = { REDIS_KIT_TESTS: 'full', REDIS_SERVERS: expect.anything() };
    expect(runs).toEqual([
      { name: `Node ${RUNNING.version}`, node: RUNNING.path, env: { ...full, REDIS_URL: 'redis://a' } },
      { name: 'Node 24.1.0', node: '/node-24', env: { ...full, REDIS_URL: 'redis://a' } },
      { name: '/bin/sh', node: RUNNING.path, env: { ...full, REDIS_SERVER: '/bin/sh' } },
    ]);
    expect(lines).toEqual([
      'Node 26 is skipped',
      '/no/such-server of REDIS_SERVERS is no executable file, and is skipped',
    ]);
  });

  it('a full run without REDIS_SERVERS says so', async () => {
    const lines: string[] = [];
    const runs = await testRuns({
      isFull: true,
      env: {},
      report: (line) => lines.push(line),
      find: async () => [],
    });
    expect(runs).toHaveLength(1);
    expect(lines).toEqual(['REDIS_SERVERS is not set, so no other server is tested']);
  });

  it('all arguments but those of the script go on to vitest', () => {
    expect(parseTestArguments(['test/lock', '--full', '-t', 'a waiter'])).toEqual({
      isFull: true,
      mustFindRedis: false,
      vitestArgs: ['test/lock', '-t', 'a waiter'],
    });
    expect(parseTestArguments(['--find-redis'])).toEqual({
      isFull: false,
      mustFindRedis: true,
      vitestArgs: [],
    });
  });
});

function fail(line: string): void {
  throw new Error(line);
}
