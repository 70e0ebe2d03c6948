import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ClientHttp2Session, connect, constants, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { departures } from '../../http/disconnects.ts';
import { eventsOf } from '../../support/kits.ts';
import { until } from '../../support/until.ts';
import { agingKit } from '../aging.ts';

type Handler = (req: IncomingMessage, res: ServerResponse, left: ReturnType<typeof departures>) => unknown;

interface Asked {
  readonly ':authority'?: string;
  readonly ':method'?: string;
  readonly [name: string]: string | undefined;
}

/** Uses the compatibility layer of node:http2 in place of the classes of node:http. */
async function served(options: CacheOptions, handler: Handler) {
  const { kit, pass } = agingKit('memory:');
  const cache = kit.cache(options);
  const left = departures();
  let runs = 0;
  const server = createServer((req, res) => {
    const [request, response] = [req, res] as unknown as [IncomingMessage, ServerResponse];
    left.note(request, response, () =>
      cache(request, response, () => {
        runs++;
        handler(request, response, left);
      }),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  onTestFinished(() => {
    session.destroy();
    server.close();
  });
  const ask = (headers: Asked = {}) => answerOf(session, headers);
  const [stored, skipped] = [eventsOf(kit, 'cache:stored'), eventsOf(kit, 'cache:skipped')];
  /** Sends a request, and disconnects as soon as the response begins. */
  const leave = async () => {
    const stream = session.request({ ':path': '/a' }).on('error', () => undefined);
    await once(stream, 'response');
    stream.close(constants.NGHTTP2_CANCEL);
  };
  return { ask, leave, pass, stored, skipped, runs: () => runs };
}

async function answerOf(session: ClientHttp2Session, asked: Asked) {
  const stream = session.request({ ':path': '/a', ...asked });
  const [headers] = await once(stream, 'response');
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) text += chunk;
  return { status: headers[':status'], age: headers.age, headers, text };
}

it('under HTTP/2, a request gets no page of another host', async () => {
  const { ask } = await served({ ttl: '1m' }, (req, res) => {
    res.end(`the page of ${req.headers[':authority']}`);
  });
  for (const site of ['one.example', 'two.example']) {
    const text = `the page of ${site}`;
    expect(await ask({ ':authority': site })).toMatchObject({ age: undefined, text });
    expect(await ask({ ':authority': site })).toMatchObject({ age: '0', text });
  }
});

it('under HTTP/2, a streamed page is stored whole, and then answers conditions, ranges and HEAD', async () => {
  const { ask, runs } = await served({ ttl: '1m' }, (_req, res) => {
    res.writeHead(200, { ETag: '"page"', 'X-Several': ['1', '2'] });
    res.write('begun ');
    setImmediate(() => res.end('and ended'));
  });
  for (let client = 0; client < 2; client++) {
    expect(await ask()).toMatchObject({
      status: 200,
      text: 'begun and ended',
      headers: { 'x-several': '1, 2' },
    });
    expect(await ask({ 'if-none-match': '"page"' })).toMatchObject({ status: 304, text: '' });
    expect(await ask({ range: 'bytes=6-8' })).toMatchObject({ status: 206, text: 'and' });
    expect(await ask({ ':method': 'HEAD' })).toMatchObject({ status: 200, text: '' });
  }
  expect(runs()).toBe(1);
});

it.each<[string, number, string, Asked]>([
  ['If-None-Match', 304, '', { 'if-none-match': '"page"' }],
  ['Range', 206, '23', { range: 'bytes=2-3' }],
])(
  'under HTTP/2, the whole response is stored when the first request has %s',
  async (_, status, text, headers) => {
    const { ask, runs } = await served({ ttl: '1m' }, (_req, res) => {
      res.setHeader('ETag', '"page"');
      res.end('0123456789');
    });
    expect(await ask(headers)).toMatchObject({ status, text });
    expect(await ask()).toMatchObject({ status: 200, text: '0123456789' });
    expect(runs()).toBe(1);
  },
);

it('under HTTP/2, one request refreshes a stale response while the others get the stale one', async () => {
  let go: (() => void) | undefined;
  const { ask, pass, stored, runs } = await served(
    { ttl: '10s', staleWhileRevalidate: '1m' },
    (_req, res) => {
      if (runs() === 1) res.end('first');
      else go = () => res.end('second');
    },
  );
  await ask();
  await pass(11_000);
  const refreshing = ask();
  await until('the handler runs', () => go !== undefined);
  expect((await ask()).text).toBe('first');
  go?.();
  expect((await refreshing).text).toBe('second');
  await until('it is stored', () => stored.length === 2);
  expect((await ask()).text).toBe('second');
  expect(runs()).toBe(2);
});

it.each<[string, boolean, (res: ServerResponse, req: IncomingMessage) => unknown]>([
  ['nothing', true, () => undefined],
  ['req.destroyed', false, (_res, req) => req.destroyed],
  ['its socket', false, (res) => res.socket],
  ['its stream', false, (res) => Reflect.get(res, 'stream') as unknown],
])(
  'under HTTP/2, a response is stored if its handler looked at %s after the disconnect: %s',
  async (_, isStored, look) => {
    const { leave, stored, skipped } = await served({ ttl: '1m' }, async (req, res, left) => {
      res.write('begun ');
      await left.of(req);
      look(res, req);
      res.end('and ended');
    });
    await leave();
    await until('it is stored or not', () => stored.length + skipped.length > 0);
    expect(stored.length === 1).toBe(isStored);
  },
);
