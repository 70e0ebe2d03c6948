import { Writable } from 'node:stream';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { createRedisKit, type Logger } from '../../src/index.ts';
import { testPrefix } from '../support/kits.ts';
import { freePort } from '../support/servers.ts';
import { until } from '../support/until.ts';

/** A real pino, and the lines that it writes. */
function pinoForTest() {
  const lines: { level: number; msg: string }[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  });
  return { lines, logger: pino({ base: null }, stream) };
}

/** A kit that has logged an outage and the failure of a listener. */
async function logTrouble(logger?: Logger): Promise<void> {
  const kit = createRedisKit({
    url: `redis://127.0.0.1:${await freePort()}`,
    prefix: testPrefix(),
    ...(logger === undefined ? {} : { logger }),
  });
  onTestFinished(() => kit.close({ timeout: 1 }));
  let isDown = false;
  kit.on('connection:down', () => {
    isDown = true;
    throw new TypeError('the listener is broken', { cause: new Error('the reason') });
  });
  await until('the outage is noticed', () => isDown);
}

const WORDS = ['TypeError: the listener is broken', 'pino.test.ts', 'Error: the reason'];

it('pino logs an outage, and the error of a listener with its stack and cause', async () => {
  const { lines, logger } = pinoForTest();
  await logTrouble(logger);
  const line = lines.find(({ msg }) => msg.includes('connection:down'));
  expect(line?.level).toBe(50);
  for (const word of WORDS) expect(line?.msg).toContain(word);
  expect(lines.some(({ msg }) => /cannot be reached/.test(msg))).toBe(true);
});

it('the console shows the stack and the cause of the error of a listener', async () => {
  const error = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  onTestFinished(() => error.mockRestore());
  await logTrouble();
  const line = error.mock.calls
    .map((args) => args.join(' '))
    .find((text) => text.includes('connection:down'));
  for (const word of WORDS) expect(line).toContain(word);
});
