import type { ServerResponse } from 'node:http';
import compression from 'compression';
import express, { type RequestHandler } from 'express';
import onHeaders from 'on-headers';
import type { Page } from 'playwright-core';
import { expect, it } from 'vitest';
import type { Json } from '../../src/index.ts';
import { describeInBrowser } from '../support/browser.ts';
import { redisUrl } from '../support/context.ts';
import { kitForTest } from '../support/kits.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';

const PAGE = `<!doctype html><title>events</title><script>
  window.received = [];
  window.opened = 0;
  const source = new EventSource('/events' + location.search);
  source.onopen = () => window.opened++;
  source.onmessage = ({ data, lastEventId }) => window.received.push([JSON.parse(data), lastEventId]);
  source.addEventListener('named', ({ data }) => window.received.push(['named', JSON.parse(data)]));
</script>`;

const COMPRESS_ALL: readonly RequestHandler[] = [
  compression({ filter: () => true, threshold: 0 }),
  (_req, res, next) => {
    onHeaders(res, () => res.setHeader('Cache-Control', 'no-cache'));
    next();
  },
];

/** Reads a variable of the page. */
function valueIn<Value>(page: Page, name: string): Promise<Value> {
  return page.evaluate((key) => Reflect.get(globalThis, key) as never, name);
}

describeInBrowser('EventSource in Chromium', (openWindow) => {
  /** Serves the page and a stream of a log or of a channel. Keeps the responses, so that a test can cut them. */
  async function start(above: readonly RequestHandler[] = []) {
    const kit = kitForTest({ url: redisUrl() });
    const log = kit.log<Json>('messages', { ttl: '1h' });
    const responses: ServerResponse[] = [];
    const lastIds: unknown[] = [];
    const keep: RequestHandler = (req, res, next) => {
      responses.push(res);
      lastIds.push(req.headers['last-event-id']);
      next();
    };
    const app = express();
    app.get('/', (_req, res) => void res.type('html').send(PAGE));
    app.get('/events', ...above, keep, (req, res, next) =>
      (req.query.live === undefined ? fromLog : live)(req, res, next),
    );
    const fromLog = kit.sse({ channels: () => 'chat', replay: log, retry: '50ms' });
    const event = (data: Json) => (data === 'with a name' ? 'named' : undefined);
    const live = kit.sse({ channels: () => 'chat', event, retry: '50ms' });
    return { kit, log, lastIds, url: await serve(app), cut: () => responses.at(-1)?.socket?.destroy() };
  }

  const receivedBy = (page: Page) => valueIn<[Json, string][]>(page, 'received');
  const openedBy = (page: Page, times: number) =>
    until(
      `the stream is open for the ${times}. time`,
      async () => (await valueIn<number>(page, 'opened')) >= times,
    );

  it.each([
    ['a stream', []],
    ['a compressed stream', COMPRESS_ALL],
  ])(
    'messages of a channel arrive in two windows of %s one by one, with the names of their events',
    async (_, above) => {
      const { kit, url } = await start(above);
      const pages = [await openWindow(`${url}/?live`), await openWindow(`${url}/?live`)];
      for (const page of pages) await openedBy(page, 1);
      const sent: Json[] = [{ text: 'é ☃\n\u2028' }, 'second', null];
      for (const [index, data] of sent.entries()) {
        await kit.publish('chat', data);
        // A message that is held back until the next one would never arrive.
        for (const page of pages) {
          await until('it arrives', async () => (await receivedBy(page)).length === index + 1);
        }
      }
      await kit.publish('chat', 'with a name');
      for (const page of pages) {
        await until('it arrives', async () => (await receivedBy(page)).length === 4);
        expect(await receivedBy(page)).toEqual([...sent.map((data) => [data, '']), ['named', 'with a name']]);
      }
    },
  );

  it.each([
    ['a stream', []],
    ['a compressed stream', COMPRESS_ALL],
  ])(
    'a browser whose connection to %s of a log is cut misses no entry and receives none twice',
    async (_, above) => {
      const { log, url, cut, lastIds } = await start(above);
      await log.append('chat', 'earlier');
      const page = await openWindow(url);
      await openedBy(page, 1);
      const count = 61;
      let appended = 0;
      const appendSome = async (many: number) => {
        for (let n = 0; n < many; n++) await log.append('chat', appended++);
      };
      // A browser that is cut between the head and the first bytes of the stream knows no position.
      await appendSome(1);
      await until('the first entry arrives', async () => (await receivedBy(page)).length === 1);
      for (let round = 1; round <= 5; round++) {
        cut();
        await appendSome(6);
        await openedBy(page, round + 1);
        await appendSome(6);
      }
      await until('all arrive', async () => (await receivedBy(page)).length >= count);
      const received = await receivedBy(page);
      expect(received.map(([data]) => data)).toEqual(Array.from({ length: count }, (_each, n) => n));
      const entries = await log.last('chat', count);
      expect(received.map(([, id]) => id)).toEqual(entries.map(({ cursor }) => cursor));
      expect(lastIds[0]).toBeUndefined();
      expect(lastIds.slice(1).every((id) => typeof id === 'string')).toBe(true);
    },
  );

  it('a browser connects again whenever the kit has ended its stream', async () => {
    const { kit, url, lastIds } = await start();
    const page = await openWindow(url);
    await openedBy(page, 1);
    await kit.close();
    await until('the browser has connected again', () => lastIds.length >= 3);
    expect(lastIds.slice(1).every((id) => id === lastIds[1])).toBe(true);
  });
});
