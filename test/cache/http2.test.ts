import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type ClientHttp2Session, connect, createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { kitForTest } from '../support/kits.ts';

async function ask(session: ClientHttp2Session, authority: string): Promise<{ age: unknown; text: string }> {
  const stream = session.request({ ':path': '/a', ':authority': authority });
  const [headers] = await once(stream, 'response');
  let text = '';
  for await (const chunk of stream.setEncoding('utf8')) text += chunk;
  return { age: headers.age, text };
}

it('under HTTP/2, the pages of one site are not taken for those of another', async () => {
  const cache = kitForTest({ url: 'memory:' }).cache({ ttl: '1m' });
  const server = createServer((req, res) => {
    // Node's compatibility layer stands in for the classes of node:http.
    const [request, response] = [req, res] as unknown as [IncomingMessage, ServerResponse];
    cache(request, response, () => void response.end(`the page of ${req.authority}`));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  onTestFinished(() => {
    session.destroy();
    server.close();
  });
  for (const site of ['one.example', 'two.example']) {
    expect(await ask(session, site)).toEqual({ age: undefined, text: `the page of ${site}` });
    expect(await ask(session, site)).toEqual({ age: '0', text: `the page of ${site}` });
  }
});
