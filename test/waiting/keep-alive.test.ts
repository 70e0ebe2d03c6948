import { expect, it } from 'vitest';
import { startProgram } from '../support/program.ts';

/** Calls that wait for a time, each as the source text of a script. */
const WAITS: Readonly<Record<string, string>> = {
  'limiter.consume()': `
    const { limiter } = kit.rateLimit({ algorithm: 'sliding-window', limit: 1, window: '200ms', wait: '1m' });
    for (let turn = 0; turn < 2; turn++) await limiter.consume('ann');`,
  'kit.locks.acquire()': `
    await kit.locks.acquire('a', { lease: '200ms', renew: false });
    await kit.locks.acquire('a', { wait: '1m' });`,
  'kit.locks.acquire() in vain': `
    await kit.locks.acquire('a');
    await kit.locks.acquire('a', { wait: '100ms' }).catch(() => undefined);`,
  'kit.close()': `
    await kit.locks.acquire('a');
    await kit.close({ timeout: '100ms' });`,
};

it.each(Object.entries(WAITS))('a script goes on after the wait of %s', async (_, source) => {
  const program = startProgram(`
    const kit = createRedisKit({ url: 'memory:', logger: false });
    ${source}
    console.log('done');
  `);
  expect(await program.ended).toEqual({ code: 0, said: 'done' });
});
