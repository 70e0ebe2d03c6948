import type { ServerResponse } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CacheOptions } from '../../../src/index.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';
import { type MakeServer, makeNodeServer, SERVERS } from '../servers.ts';

/** The Cache-Groups of the pages of a site, by path. */
type Groups = Readonly<Record<string, string | string[]>>;

const ONE = { Host: 'one.example' };
const TWO = { Host: 'two.example' };

describeOnBothEngines('RFC 9875: cache groups', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  async function start(
    groups: Groups,
    change: (res: ServerResponse) => void,
    { options = {}, makeServer = makeNodeServer }: { options?: CacheOptions; makeServer?: MakeServer } = {},
  ) {
    const kit = kitForTest({ url: url() });
    let runs = 0;
    const app = makeServer([kit.cache({ ttl: '1m', ...options })], (req, res) => {
      if (req.method === 'POST') return change(res);
      const field = groups[req.url ?? ''];
      if (field !== undefined) res.setHeader('Cache-Groups', field);
      if (req.headers['x-invalidate'] !== undefined) res.setHeader('Cache-Group-Invalidation', '"a"');
      res.end(`${req.url} ${++runs}`);
    });
    const address = await serve(app);
    const ask = async (path: string, headers: Record<string, string> = ONE) =>
      (await send(address + path, { headers })).text;
    const post = (headers: Record<string, string> = ONE) =>
      send(`${address}/change`, { method: 'POST', headers });
    return { kit, ask, post };
  }

  describe.each(SERVERS)('on %s', (_, makeServer) => {
    it('RFC 9875, section 3: an unsafe request invalidates only the groups in its Cache-Group-Invalidation', async () => {
      const groups = { '/1': '"a", "b"', '/2': ['"c"', '"b";x=1'], '/3': '"B"' };
      const change = (res: ServerResponse) =>
        void res.writeHead(201, { 'Cache-Group-Invalidation': '"b", "x"' }).end();
      const { ask, post } = await start(groups, change, { makeServer });
      for (const path of ['/1', '/2', '/3', '/4']) await ask(path);
      expect(await ask('/1')).toBe('/1 1');
      expect((await post()).status).toBe(201);
      expect(await ask('/3')).toBe('/3 3');
      expect(await ask('/4')).toBe('/4 4');
      expect(await ask('/1')).toBe('/1 5');
      expect(await ask('/2')).toBe('/2 6');
    });
  });

  it('RFC 9875, section 3: an invalidation is done before the client gets the last bytes of the streamed response', async () => {
    const { ask, post } = await start({ '/1': '"a"' }, (res) => {
      res.writeHead(200, { 'Cache-Group-Invalidation': '"a"', 'Content-Length': 4 });
      res.write('done');
      setImmediate(() => res.end());
    });
    expect(await ask('/1')).toBe('/1 1');
    await post();
    expect(await ask('/1')).toBe('/1 2');
  });

  it('RFC 9875, section 3: an unsafe request that fails invalidates no group', async () => {
    const { ask, post } = await start({ '/1': '"a"' }, (res) => {
      res.writeHead(409, { 'Cache-Group-Invalidation': '"a"' }).end();
    });
    await ask('/1');
    await post();
    expect(await ask('/1')).toBe('/1 1');
  });

  it('RFC 9875, section 3: Cache-Group-Invalidation is ignored on the response to a safe request', async () => {
    const { ask } = await start({ '/1': '"a"' }, (res) => void res.end());
    await ask('/1');
    await ask('/2', { ...ONE, 'X-Invalidate': '1' });
    expect(await ask('/1')).toBe('/1 1');
  });

  it('RFC 9875, section 2.1: an invalidation on one host leaves the group of the same name on another host', async () => {
    const { ask, post } = await start({ '/1': '"a"' }, (res) => {
      res.writeHead(200, { 'Cache-Group-Invalidation': '"a"' }).end();
    });
    expect([await ask('/1', ONE), await ask('/1', TWO)]).toEqual(['/1 1', '/1 2']);
    await post(TWO);
    expect([await ask('/1', ONE), await ask('/1', TWO)]).toEqual(['/1 1', '/1 3']);
  });

  it.each<CacheOptions>([{ key: { host: false } }, { key: (req) => String(req.url) }])(
    'RFC 9875, section 2.1: with %j, a response for all hosts is invalidated by a request to any host',
    async (options) => {
      const { ask, post } = await start(
        { '/1': '"a"' },
        (res) => void res.writeHead(200, { 'Cache-Group-Invalidation': '"a"' }).end(),
        { options },
      );
      expect([await ask('/1', ONE), await ask('/1', TWO)]).toEqual(['/1 1', '/1 1']);
      await post(TWO);
      expect(await ask('/1', ONE)).toBe('/1 2');
    },
  );

  it('RFC 9875, section 2.2.1: the invalidation of one response does not invalidate the others of its group', async () => {
    const { kit, ask } = await start({ '/1': '"a"', '/2': '"a"' }, (res) => void res.end());
    await ask('/1');
    await ask('/2');
    await kit.invalidate({ url: '/1' });
    expect([await ask('/1'), await ask('/2')]).toEqual(['/1 3', '/2 2']);
  });

  it('RFC 9875, section 2: a response in 100 groups with names of 100 characters is invalidated by each of them', async () => {
    const names = Array.from({ length: 100 }, (_, index) => `${index}`.padEnd(100, '-'));
    const field = names.map((name) => `"${name}"`).join(', ');
    let invalidated = '';
    const { ask, post } = await start({ '/1': field, '/2': `"${names[99]}"`, '/3': '"other"' }, (res) => {
      res.writeHead(200, { 'Cache-Group-Invalidation': invalidated }).end();
    });
    for (const path of ['/1', '/2', '/3']) await ask(path);
    invalidated = `"${names[57]}"`;
    await post();
    expect([await ask('/1'), await ask('/2')]).toEqual(['/1 4', '/2 2']);
    invalidated = field;
    await post();
    expect([await ask('/1'), await ask('/2'), await ask('/3')]).toEqual(['/1 5', '/2 6', '/3 3']);
  });

  it('RFC 9875, section 2: a Cache-Groups field that is no List of Strings is ignored as a whole', async () => {
    for (const field of ['"a", b', '"a", ("b")', '"a", 1', '"a" "b"', '"a', '"a",']) {
      const { ask, post } = await start({ '/1': field }, (res) => {
        res.writeHead(200, { 'Cache-Group-Invalidation': '"a"' }).end();
      });
      await ask('/1');
      await post();
      expect([field, await ask('/1')]).toEqual([field, '/1 1']);
    }
  });

  it('kit.invalidate({ tags }) invalidates a group of that name on every host', async () => {
    const { kit, ask } = await start({ '/1': '"a"' }, (res) => void res.end());
    expect([await ask('/1', ONE), await ask('/1', TWO)]).toEqual(['/1 1', '/1 2']);
    await kit.invalidate({ tags: 'a' });
    expect([await ask('/1', ONE), await ask('/1', TWO)]).toEqual(['/1 3', '/1 4']);
  });

  it('Cache-Group-Invalidation does not invalidate the tags of the app', async () => {
    const { ask, post } = await start(
      {},
      (res) => void res.writeHead(200, { 'Cache-Group-Invalidation': '"a"' }).end(),
      { options: { tags: ['a'] } },
    );
    await ask('/1');
    await post();
    expect(await ask('/1')).toBe('/1 1');
  });

  it('a response with more than 256 groups is not stored', async () => {
    const field = Array.from({ length: 257 }, (_, index) => `"${index}"`).join(', ');
    const { ask } = await start({ '/1': field }, (res) => void res.end());
    expect([await ask('/1'), await ask('/1')]).toEqual(['/1 1', '/1 2']);
  });
});
