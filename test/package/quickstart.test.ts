import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { describeWithServers } from '../support/context.ts';
import { assertKeysAreOurs } from '../support/keys-guard.ts';
import { compiledKitEnv } from '../support/program.ts';
import { startCluster, startRedis } from '../support/servers.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

/** Runs the tour of `script/demo` over the quick start. It rejects if a response is not as expected. */
async function tour(env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout } = await run(process.execPath, ['--import', 'tsx', 'examples/demo.ts'], {
    cwd: root,
    env: { ...process.env, REDIS_URL: '', ...env },
  });
  return stdout;
}

describe('the quick start', () => {
  it('the quick start is the first snippet of the README', () => {
    const readme = readFileSync(`${root}/README.md`, 'utf8');
    const first = /```ts\n(.*?)```/s.exec(readme)?.[1];
    expect(first).toBe(readFileSync(`${root}/examples/quickstart.ts`, 'utf8'));
  });

  it('the quick start runs on memory:', async () => {
    expect(await tour({ REDIS_URL: 'memory:' })).toContain('All as it should be.');
  });

  it('a demo with --serve runs until it gets SIGTERM', async () => {
    const child = execFile(process.execPath, ['--import', 'tsx', 'examples/demo.ts', '--serve'], {
      cwd: root,
      env: { ...compiledKitEnv(), REDIS_URL: 'memory:', PORT: '0' },
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let output = '';
    child.stdout?.on('data', (chunk) => {
      output += String(chunk);
    });
    while (!/runs on (http:\S+),/.test(output)) await once(child.stdout ?? child, 'data');
    const address = /runs on (http:\S+),/.exec(output)?.[1] ?? '';
    expect((await fetch(`${address}/me`)).status).toBe(200);
    child.kill('SIGTERM');
    expect((await once(child, 'exit'))[0]).toBe(0);
  });
});

describeWithServers('the quick start', () => {
  it('every key that the quick start leaves on a standalone Redis has the prefix of the kit and a TTL', async () => {
    const server = await startRedis();
    onTestFinished(() => server.stop());
    expect(await tour({ ...compiledKitEnv(), REDIS_URL: server.url })).toContain('All as it should be.');
    await assertKeysAreOurs(server.url, /^shop:(session|rate|cache|lock|idempotency):\{/);
  });

  it('the quick start runs on a Cluster of three masters', async () => {
    const cluster = await startCluster();
    onTestFinished(() => cluster.stop());
    const nodes = cluster.nodes.map(({ server }) => server.url).join(',');
    const stdout = await tour({
      REDIS_NODES: nodes,
      TSX_TSCONFIG_PATH: 'test/support/cluster-quickstart/tsconfig.json',
    });
    expect(stdout).toContain('All as it should be.');
    const counts = await Promise.all(
      cluster.nodes.map(async ({ server }) => {
        await assertKeysAreOurs(server.url, /^shop:(session|rate|cache|lock|idempotency):\{/);
        return server.url;
      }),
    );
    expect(counts).toHaveLength(3);
  });
});
