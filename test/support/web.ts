import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type RequestListener, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** What a client got. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Names and values by turns, as they came. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly text: string;
}

/** Serves an app on the loopback interface until the test is over; answers with its address. */
export async function serve(app: RequestListener): Promise<string> {
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export interface Sent {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
}

/**
 * One request on a connection of its own. Rejects when the answer is cut off, which is no unhandled rejection where a test
 * has ended before it waited for the answer.
 */
export function send(url: string, sent: Sent = {}): Promise<Answer> {
  const answer = exchange(url, sent);
  answer.catch(() => undefined);
  return answer;
}

async function exchange(url: string, { method = 'GET', headers = {}, body: sent }: Sent): Promise<Answer> {
  const client = request(url, { method, headers, agent: false });
  client.end(sent);
  const [response] = await once(client, 'response');
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const { statusCode: status, headers: received, rawHeaders } = response;
  return { status, headers: received, rawHeaders, body, text: body.toString() };
}
