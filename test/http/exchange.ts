import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Server, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import type { ResponseHook } from '../../src/http/response/guarded-response.ts';

export type Handler = (req: IncomingMessage, res: ServerResponse) => void;

/** Starts a server that ends with the test and answers `/ping` itself. Resolves to its port. */
export async function serve(handler: Handler): Promise<number> {
  return listen(createServer((req, res) => (req.url === '/ping' ? void res.end('pong') : handler(req, res))));
}

export async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return (server.address() as AddressInfo).port;
}

export interface RequestText {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** A request on a connection of its own, and all bytes received so far. */
export class Exchange {
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  readonly #closed: Promise<unknown>;

  constructor(port: number, request: RequestText = {}) {
    const { method = 'GET', path = '/', headers = {}, body = '' } = request;
    const all = { Host: 'localhost', Connection: 'close', ...headers };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    this.socket = connect(port, '127.0.0.1', () => {
      this.socket.write(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
    });
    this.socket.on('data', (chunk) => this.#chunks.push(chunk));
    this.socket.on('error', closesToo);
    this.#closed = once(this.socket, 'close');
  }

  /** All bytes received so far as Latin-1, without the Date header. */
  get text(): string {
    return Buffer.concat(this.#chunks)
      .toString('latin1')
      .replace(/^Date: .*\r\n/m, '');
  }

  async answer(): Promise<Answer> {
    await this.#closed;
    return new Answer(this.text);
  }
}

function closesToo(): void {
  // The error is ignored: the server has destroyed the connection, and 'close' follows.
}

export class Answer {
  readonly text: string;
  readonly status: number;
  readonly message: string;
  /** Header names as they were spelled, in order. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** The raw body, with the chunk framing. */
  readonly rawBody: string;

  constructor(text: string) {
    this.text = text;
    const end = text.indexOf('\r\n\r\n');
    const [first = '', ...lines] = text.slice(0, end).split('\r\n');
    const [, status, message = ''] = /^HTTP\/1\.1 (\d+) ?(.*)$/.exec(first) ?? [];
    this.status = Number(status);
    this.message = message;
    this.headers = lines.map((line) => [line.split(': ', 1)[0] ?? '', line.slice(line.indexOf(': ') + 2)]);
    this.rawBody = text.slice(end + 4);
  }

  /** The values of a header, joined with commas. */
  header(name: string): string | undefined {
    const values = this.headers.filter(([other]) => other.toLowerCase() === name.toLowerCase());
    return values.length === 0 ? undefined : values.map(([, value]) => value).join(', ');
  }

  get body(): string {
    if (this.header('transfer-encoding') !== 'chunked') return this.rawBody;
    let body = '';
    let rest = this.rawBody;
    for (;;) {
      const size = Number.parseInt(rest, 16);
      const start = rest.indexOf('\r\n') + 2;
      if (!(size > 0)) return body;
      body += rest.slice(start, start + size);
      rest = rest.slice(start + size + 2);
    }
  }

  /** Whether the response is complete. */
  get isComplete(): boolean {
    if (this.header('transfer-encoding') === 'chunked') return this.rawBody.endsWith('0\r\n\r\n');
    return this.rawBody.length === Number(this.header('content-length') ?? 0);
  }
}

export async function ask(port: number, request: RequestText = {}): Promise<Answer> {
  return new Exchange(port, request).answer();
}

/** A round trip on another connection, after which everything that was sent before has arrived. */
export async function roundTrip(port: number): Promise<void> {
  await ask(port, { path: '/ping' });
}

/** A promise that the test resolves. */
export class Gate {
  readonly promise: Promise<void>;
  open: () => void = () => undefined;
  fail: (error: Error) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.open = resolve;
      this.fail = reject;
    });
  }
}

/** A hook that logs its calls. */
export function logging(log: string[], phase: ResponseHook['phase'], waits = false): ResponseHook {
  const note = (what: string) => {
    log.push(`${phase} ${what}`);
    return waits ? setImmediate() : undefined;
  };
  return {
    phase,
    beforeHeaders: () => note('headers'),
    beforeEnd: (hasBegun) => note(hasBegun ? 'late end' : 'end'),
  };
}
