import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);

describe('the built package', () => {
  beforeAll(async () => {
    await run(process.execPath, ['script/build.mjs'], { cwd: root });
  }, 600_000);

  const names = async (...args: string[]) => (await run(process.execPath, args, { cwd: root })).stdout.trim();

  it('the built package can be imported and required, and exports its functions and errors only', async () => {
    const expected =
      'ConfigError,ConnectionError,LockLostError,LockTimeoutError,RedisKitError,StoreError,createRedisKit,isRevalidation,registerRedis';
    const code = `console.log(Object.keys(kit).sort().join())`;
    expect(await names('--input-type=module', '-e', `import * as kit from 'redis-kit'; ${code}`)).toBe(
      expected,
    );
    expect(
      await names(
        '--no-warnings',
        '--input-type=commonjs',
        '-e',
        `const kit = require('redis-kit'); ${code}`,
      ),
    ).toBe(expected);
  });

  it('the built package has main and types for tools that do not read exports, such as TypeScript with moduleResolution node10', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const { types, default: code } = manifest.exports['.'];
    expect([manifest.main, manifest.types]).toEqual([code, types]);
    for (const file of [code, types]) expect(existsSync(join(root, file)), file).toBe(true);
  });

  it('a process that used a kit on memory: ends by itself', async () => {
    const code = `
      import { createRedisKit } from 'redis-kit';
      const kit = createRedisKit({ url: 'memory:' });
      const lock = await kit.locks.tryAcquire('x');
      const { allowed } = await kit.limiter({ algorithm: 'sliding-window', limit: 1, window: '1h' }).consume('x');
      console.log(lock !== null && allowed);
    `;
    expect(await names('--input-type=module', '-e', code)).toBe('true');
  });

  it('the package `redis` is loaded with the first connection that the kit opens, and not for a client of the app', async () => {
    const code = `
      import { createRequire } from 'node:module';
      import { createRedisKit } from 'redis-kit';
      const { cache } = createRequire(import.meta.url);
      const isLoaded = () => Object.keys(cache).some((file) => /node_modules.@redis.client/.test(file));
      const steps = [isLoaded()];
      for (const options of [{ url: 'memory:' }, { client: new Redis({ lazyConnect: true }) }, { url: 'redis://localhost:1' }]) {
        void createRedisKit({ ...options, logger: false }).close();
        steps.push(isLoaded());
      }
      console.log(steps.join());
    `;
    const output = await names('--input-type=module', '-e', `import { Redis } from 'ioredis'; ${code}`);
    expect(output).toBe('false,false,false,true');
  });
});
