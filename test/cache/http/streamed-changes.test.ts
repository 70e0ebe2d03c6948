import { once } from 'node:events';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { Gate } from '../../http/exchange.ts';
import { APPS } from '../../http/frameworks.ts';
import { describeOnBothEngines, kitForTest } from '../../support/kits.ts';
import { send, serve } from '../../support/web.ts';
import { loadCacheScripts } from '../scripts.ts';

type Begin = (res: ServerResponse) => void;

/** Ways in which a client has the complete response before the handler ends it. */
const CHANGES: readonly (readonly [name: string, method: string, begin: Begin])[] = [
  [
    'all bytes of a body whose length is declared',
    'PUT',
    (res) => {
      res.setHeader('Content-Length', 4);
      res.write('done');
    },
  ],
  ['the head of a 204', 'DELETE', (res) => void Object.assign(res, { statusCode: 204 }).flushHeaders()],
  [
    'the head of an empty body',
    'POST',
    (res) => {
      res.setHeader('Content-Length', 0);
      res.flushHeaders();
    },
  ],
];

describeOnBothEngines('an invalidation by a streamed response', (url) => {
  beforeAll(() => loadCacheScripts(url()));

  describe.each(APPS)('on %s', (_, makeApp) => {
    it.each(CHANGES)('an invalidation is done before the client has %s', async (_what, method, begin) => {
      const kit = kitForTest({ url: url() });
      const written = new Gate();
      const end = new Gate();
      let version = 1;
      const app = makeApp();
      app.use(kit.cache({ ttl: '1m' }));
      app.use((req, res) => {
        if (req.method !== method) {
          res.end(`version ${version}`);
          return;
        }
        version++;
        begin(res);
        written.open();
        void end.promise.then(() => res.end());
      });
      const address = await serve(app);
      expect((await send(address)).text).toBe('version 1');
      const client = request(address, { method, agent: false });
      const answers: IncomingMessage[] = [];
      client.on('response', (response) => answers.push(response));
      const answered = once(client, 'response');
      client.end();
      await written.promise;
      // A round trip on another connection: earlier bytes have arrived by then.
      await send(`${address}/other`);
      expect(answers).toEqual([]);
      end.open();
      await answered;
      expect((await send(address)).text).toBe('version 2');
    });
  });
});
