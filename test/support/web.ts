import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type RequestListener, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** A response as a client received it. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were received. */
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
  readonly text: string;
}

/** Serves an app on the loopback interface until the test ends. Resolves to its address. */
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
 * Sends one request on a connection of its own. Rejects if the response is cut off; the rejection counts as handled, since
 * the test may have ended before it waits for the response.
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
  return {
    status,
    headers: received,
    rawHeaders,
    body,
    // Large bodies are seldom read as a text.
    get text() {
      return body.toString();
    },
  };
}
