import { EventEmitter } from 'node:events';
import { IncomingMessage, ServerResponse } from 'node:http';
import { Duplex } from 'node:stream';
import { configure as serverlessExpress } from '@codegenie/serverless-express';
import type { Application } from 'express';
import { createMocks } from 'node-mocks-http';
import serverless from 'serverless-http';
import { expect, it } from 'vitest';
import { kitForTest } from '../support/kits.ts';
import { describeAdapter, type Got, type Request, type Send } from './adapter-suite.ts';

interface LambdaAnswer {
  readonly statusCode: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly multiValueHeaders?: Readonly<Record<string, readonly string[]>>;
  readonly cookies?: readonly string[];
}

/** An event of API Gateway for a Lambda function. */
function eventOf({ method, path, headers }: Request) {
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath: path,
    rawQueryString: '',
    headers: { host: 'lambda.example', ...headers },
    requestContext: {
      http: { method, path, protocol: 'HTTP/1.1', sourceIp: '192.0.2.1', userAgent: 'test' },
      stage: '$default',
      domainName: 'lambda.example',
    },
    isBase64Encoded: false,
  };
}

function gotOf({ statusCode, body, headers, cookies = [] }: LambdaAnswer): Got {
  const own = headers['set-cookie'] ?? [];
  return {
    status: statusCode,
    text: body,
    cookies: [...cookies, ...(Array.isArray(own) ? own : [String(own)])],
    header: (name) => headers[name],
  };
}

/** An adapter that reads the response at once if `writableEnded` is true when the app returns, or else on 'finish'. */
function buffering(app: Application): Send {
  return ({ method, path, headers }) =>
    new Promise((resolve) => {
      const chunks: Buffer[] = [];
      const socket = new Duplex({
        read: () => undefined,
        write(chunk, _encoding, done) {
          chunks.push(chunk);
          done();
        },
      });
      const req = new IncomingMessage(Object.assign(socket, { remoteAddress: '192.0.2.1' }) as never);
      Object.assign(req, { method, url: path, headers: { host: 'buffer.example', ...headers } });
      req.push(null);
      const res = new ServerResponse(req);
      res.assignSocket(socket as never);
      const take = () => {
        const text = Buffer.concat(chunks).toString();
        const cookies = res.getHeader('set-cookie') ?? [];
        resolve({
          status: res.statusCode,
          text: text.slice(text.indexOf('\r\n\r\n') + 4),
          cookies: Array.isArray(cookies) ? cookies : [String(cookies)],
          header: (name) => res.getHeader(name),
        });
      };
      app(req, res);
      if (res.writableEnded) take();
      else res.once('finish', take);
    });
}

describeAdapter('a response of serverless-http', (app) => {
  const handle = serverless(app);
  return async (request) => gotOf((await handle(eventOf(request), {})) as LambdaAnswer);
});

describeAdapter('a response of serverless-express', (app) => {
  const handle = serverlessExpress({ app });
  return async (request) =>
    gotOf((await handle(eventOf(request), {} as never, () => undefined)) as LambdaAnswer);
});

describeAdapter("a response of a server that reads `writableEnded` and 'finish'", buffering);

it('a response of node-mocks-http ends after its session was saved, with body and cookie', async () => {
  const kit = kitForTest({ url: 'memory:' });
  const { req, res } = createMocks({ method: 'GET', url: '/' }, { eventEmitter: EventEmitter });
  const ended = new Promise((resolve) => res.once('end', resolve));
  kit.session({ secret: 'a secret for this test' })(req as never, res as never, (error) => {
    expect(error).toBeUndefined();
    Object.assign(req.session, { seen: true });
    res.status(201).json({ seen: true });
  });
  await ended;
  expect([res._getStatusCode(), res._getData()]).toEqual([201, '{"seen":true}']);
  expect(String(res.getHeader('set-cookie'))).toMatch(/^connect\.sid=/);
});
