import { connect } from 'node:net';
import type { RequestHandler, Response } from 'express';

/** The bytes of a response to a GET as they arrive on the socket. */
export async function rawAnswer(
  address: string,
  path: string,
  lines: readonly string[] = [],
): Promise<string> {
  const { host, hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  const head = [`GET ${path} HTTP/1.1`, `Host: ${host}`, 'Connection: close', ...lines];
  socket.end(`${head.join('\r\n')}\r\n\r\n`);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('latin1');
}

/** Middleware that calls this and continues. */
export function always(set: (res: Response) => void): RequestHandler {
  return (_req, res, next) => {
    set(res);
    next();
  };
}
