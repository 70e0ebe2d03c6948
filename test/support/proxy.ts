import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { onTestFinished } from 'vitest';

/** A proxy between a client and a server, which can lose or delay replies. */
export interface Proxy {
  readonly url: string;
  /** Delays all further replies by this many milliseconds. */
  delayReplies(ms: number): void;
  /** The number of PINGs that the server received. */
  readonly pings: number;
  /**
   * Passes on the next command, and cuts its connection instead of sending the reply, or after this many bytes of the
   * reply. Heartbeats and the commands with which a client sets up a connection do not count.
   */
  loseNextReply(afterBytes?: number): void;
  /** Connects further clients to another server. Present connections stay, as after a failover behind one address. */
  pointTo(target: Address): void;
  /** Cuts every connection, and accepts further ones without an answer, until `mend()`. */
  fallSilent(): void;
  /** Cuts every connection, and refuses new ones until `mend()`. */
  sever(): void;
  /** Reads nothing more from the present connections until `resume()`, as a server that is frozen. */
  stall(): void;
  resume(): void;
  mend(): void;
  /** The number of connections that were cut instead of a reply. */
  readonly cuts: number;
  /** The digests of the scripts in each piece of data that a client sent, in order; pieces without scripts are omitted. */
  readonly scripts: readonly (readonly string[])[];
}

interface Address {
  readonly host: string;
  readonly port: number;
}

/** Whether a reply is only the answer to the heartbeat of a connection, which a busy machine sends at any time. */
function isPong(reply: Buffer): boolean {
  return /^(?:\+PONG\r\n|\$4\r\nPONG\r\n)+$/.test(reply.toString('latin1'));
}

/** The commands with which clients set up a connection or a subscription, at any time on a busy machine. */
const SETUP = new Set(['AUTH', 'CLIENT', 'HELLO', 'INFO', 'PING', 'PSUBSCRIBE', 'SELECT', 'SUBSCRIBE']);

/** Whether a piece of data from a client has the beginning of a command that does not set up the connection. */
function hasCommand(text: string): boolean {
  return Array.from(text.matchAll(/(?:^|\r\n)\*\d+\r\n\$\d+\r\n(\w+)\r\n/g)).some(
    ([, name = '']) => !SETUP.has(name.toUpperCase()),
  );
}

export async function startProxy(first: Address): Promise<Proxy> {
  let target = first;
  let losesNext = false;
  let bytesBeforeLoss = 0;
  let isSevered = false;
  let isSilent = false;
  let cuts = 0;
  let pings = 0;
  let delayMs = 0;
  const scripts: string[][] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    if (isSevered) {
      client.destroy();
      return;
    }
    if (isSilent) {
      sockets.add(client);
      client.on('error', () => client.destroy());
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
    let isLosing = false;
    client.on('data', (commands: Buffer) => {
      upstream.write(commands);
      const text = commands.toString('latin1');
      if (losesNext && hasCommand(text)) {
        losesNext = false;
        isLosing = true;
      }
      pings += text.split('\r\nPING\r\n').length - 1;
      const digests = Array.from(
        text.matchAll(/\r\nEVALSHA\r\n\$40\r\n(\w+)\r\n/g),
        ([, digest = '']) => digest,
      );
      if (digests.length > 0) scripts.push(digests);
    });
    let delivered = Promise.resolve();
    upstream.on('data', (reply) => {
      if (!isLosing || isPong(reply)) {
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
      if (bytesBeforeLoss === 0) cut();
      else client.write(reply.subarray(0, bytesBeforeLoss), cut);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const cutAll = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    delayReplies(ms) {
      delayMs = ms;
    },
    get pings() {
      return pings;
    },
    loseNextReply(afterBytes = 0) {
      losesNext = true;
      bytesBeforeLoss = afterBytes;
    },
    pointTo(next) {
      target = next;
    },
    fallSilent() {
      isSilent = true;
      cutAll();
    },
    sever() {
      isSevered = true;
      cutAll();
    },
    stall() {
      for (const socket of sockets) socket.pause();
    },
    resume() {
      for (const socket of sockets) socket.resume();
    },
    mend() {
      isSevered = false;
      isSilent = false;
    },
    get cuts() {
      return cuts;
    },
    scripts,
  };
}
