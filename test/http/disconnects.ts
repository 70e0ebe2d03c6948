import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { request } from 'node:http';
import { finished } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';

type Exchange = readonly [req: IncomingMessage, res: ServerResponse];

/** A middleware to be mounted above the kit, with a promise that resolves when the server notices a disconnect. */
export function departures() {
  const left = new Map<IncomingMessage, Promise<unknown>>();
  return {
    note(req: IncomingMessage, res: ServerResponse, next: () => void) {
      left.set(req, once(res, 'close'));
      next();
    },
    /** Resolves when the client has disconnected and all listeners have run. */
    async of(req: IncomingMessage): Promise<void> {
      await left.get(req);
      await turn();
    },
  };
}

/** Sends a request, and disconnects as soon as the response begins. */
export async function askAndLeave(
  url: string,
  { body, ...options }: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<void> {
  const client = request(url, { agent: false, ...options }).on('error', () => undefined);
  client.end(body);
  const [response] = (await once(client, 'response')) as [IncomingMessage];
  response.on('error', () => undefined).destroy();
}

/** Ways in which a handler may notice a disconnect: what it does first, and what it does later. */
export const NOTICES: readonly (readonly [
  name: string,
  begin: (...exchange: Exchange) => unknown,
  look: (begun: unknown, ...exchange: Exchange) => unknown,
])[] = [
  ['res.destroyed', nothing, (_, _req, res) => res.destroyed],
  ['res.closed', nothing, (_, _req, res) => res.closed],
  ['res.writable', nothing, (_, _req, res) => res.writable],
  ['req.destroyed', nothing, (_, req) => req.destroyed],
  ['req.aborted', nothing, (_, req) => req.aborted],
  ['req.closed', nothing, (_, req) => req.closed],
  ['req.socket.destroyed', nothing, (_, req) => req.socket.destroyed],
  ['res.socket.writable', nothing, (_, _req, res) => res.socket?.writable],
  [
    'the state of a socket that it took before',
    (req) => req.socket,
    (socket) => Reflect.get(Object(socket), 'destroyed'),
  ],
  ["'close' of the response", (_req, res) => res.on('close', nothing), nothing],
  ["'close' of the response, once", (_req, res) => once(res, 'close'), nothing],
  ["'close' of the request", (req) => req.on('close', nothing), nothing],
  ["'aborted' of the request, once", (req) => req.once('aborted', nothing), nothing],
  ["'error' of the request", (req) => req.on('error', nothing), nothing],
  ["'close' of the socket", (req) => req.socket.on('close', nothing), nothing],
  ['stream.finished', (_req, res) => finished(res, nothing), nothing],
  ['the callback of a write', nothing, (_, _req, res) => res.write('', nothing)],
];

/** Ways in which a handler may work without noticing a disconnect. */
export const NO_NOTICES: typeof NOTICES = [
  ['nothing', nothing, nothing],
  [
    'the state while the client was there',
    (req, res) => [res.destroyed, res.closed, req.aborted, req.socket.destroyed],
    nothing,
  ],
  [
    'whether the response has ended',
    nothing,
    (_, _req, res) => [res.writableEnded, res.headersSent, res.writableFinished],
  ],
  ['the address of the client', (req) => req.socket.remoteAddress, (_, req) => req.socket.remoteAddress],
  ["'finish' of the response", (_req, res) => res.on('finish', nothing), nothing],
];

function nothing(): void {
  // The tests need a callback, but not what it does.
}
