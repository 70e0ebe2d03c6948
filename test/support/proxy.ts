import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { onTestFinished } from 'vitest';

/** Stands between a client and a server, and can lose or delay what the server says. */
export interface Proxy {
  readonly url: string;
  /** Every reply that comes from now on reaches its client so many milliseconds later. */
  delayReplies(ms: number): void;
  /** How often the server was sent PING. */
  readonly pings: number;
  /** Lets the next command reach the server, and cuts the connection in place of the reply. */
  loseNextReply(): void;
  /** Cuts every connection, and refuses new ones until `mend()`. */
  sever(): void;
  mend(): void;
  /** How many connections were cut in place of a reply. */
  readonly cuts: number;
}

export async function startProxy(target: { readonly host: string; readonly port: number }): Promise<Proxy> {
  let isLosing = false;
  let isSevered = false;
  let cuts = 0;
  let pings = 0;
  let delayMs = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    if (isSevered) {
      client.destroy();
      return;
    }
    const upstream = connect(target.port, target.host);
    const cut = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', cut).on('close', cut);
    }
    client.pipe(upstream);
    client.on('data', (commands: Buffer) => {
      pings += commands.toString('latin1').split('\r\nPING\r\n').length - 1;
    });
    let delivered = Promise.resolve();
    upstream.on('data', (reply) => {
      if (!isLosing) {
        const due = performance.now() + delayMs;
        delivered = delivered.then(async () => {
          const left = due - performance.now();
          if (left > 0) await pause(left);
          client.write(reply);
        });
        return;
      }
      isLosing = false;
      cuts++;
      cut();
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    delayReplies(ms) {
      delayMs = ms;
    },
    get pings() {
      return pings;
    },
    loseNextReply() {
      isLosing = true;
    },
    sever() {
      isSevered = true;
      for (const socket of sockets) socket.destroy();
      sockets.clear();
    },
    mend() {
      isSevered = false;
    },
    get cuts() {
      return cuts;
    },
  };
}
