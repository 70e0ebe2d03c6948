import { setImmediate } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { closeSignalOf, onClose } from '../../../src/http/response/close-signal.ts';
import type { RedisKit } from '../../../src/index.ts';
import { kitForTest } from '../../support/kits.ts';
import { ask, Exchange, Gate, serve } from '../exchange.ts';
import { EXPRESS } from '../frameworks.ts';

/** All process warnings until the test ends. */
function warnings(): readonly Error[] {
  const seen: Error[] = [];
  const note = (warning: Error) => void seen.push(warning);
  process.on('warning', note);
  onTestFinished(() => void process.off('warning', note));
  return seen;
}

const MANY = 11;

/** Each kind of middleware that listens for the close of a response, numbered. */
const MIDDLEWARE: Readonly<Record<string, (kit: RedisKit, number: number) => ReturnType<RedisKit['lock']>>> =
  {
    'kit.lock': (kit, number) => kit.lock({ key: () => `lock ${number}`, wait: '1s' }),
    'kit.concurrency': (kit, number) =>
      kit.concurrency({ key: () => `slot ${number}`, limit: 1, wait: '1s' }),
    'kit.rateLimit': (kit, number) =>
      kit.rateLimit({
        algorithm: 'sliding-window',
        name: `limit-${number}`,
        limit: 5,
        window: '1m',
        key: () => 'one',
        refundWhen: () => true,
      }),
    'kit.cache': (kit, number) => kit.cache({ ttl: '1m', key: () => `page ${number}` }),
  };

it.each(
  EXPRESS.flatMap(([framework, makeApp]) =>
    Object.entries(MIDDLEWARE).map(([name, make]) => [name, framework, make, makeApp] as const),
  ),
)(
  'eleven %s middleware on one response of %s cause no listener leak warning',
  async (_name, _framework, make, makeApp) => {
    const seen = warnings();
    const kit = kitForTest({ url: 'memory:' });
    const app = makeApp();
    for (let number = 0; number < MANY; number++) app.use(make(kit, number));
    app.use((_req, res) => void res.end('page'));
    const answer = await ask(await serve(app));
    expect([answer.status, answer.body]).toEqual([200, 'page']);
    await setImmediate();
    expect(seen).toEqual([]);
  },
);

it('all users of onClose and closeSignalOf share one listener and one signal', async () => {
  const closed: string[] = [];
  const over = new Gate();
  const port = await serve((_req, res) => {
    const before = res.listenerCount('close');
    const signal = closeSignalOf(res);
    signal.addEventListener('abort', () => closed.push('signal'));
    for (let number = 0; number < MANY; number++) onClose(res, () => closed.push(`listener ${number}`));
    onClose(res, over.open);
    expect(closeSignalOf(res)).toBe(signal);
    expect(res.listenerCount('close')).toBe(before + 1);
    res.write('a piece');
    exchange.socket.destroy();
  });
  const exchange = new Exchange(port);
  await over.promise;
  expect(closed).toHaveLength(MANY + 1);
});

it('the signal of a closed response is already aborted', async () => {
  const over = new Gate();
  const signals: AbortSignal[] = [];
  const port = await serve((_req, res) => {
    res.once('close', () => {
      signals.push(closeSignalOf(res));
      over.open();
    });
    res.end();
  });
  await ask(port);
  await over.promise;
  expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
});
