/*
 * The load generator. It runs in a process of its own, so that its CPU time is not counted as the server's. Each
 * connection sends a request, waits for the whole response and sends the next request.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { percentile } from './statistics.ts';
import { answerParent } from './worker.ts';

export interface LoadOrder {
  /** The ports of the processes; connections are spread over them. */
  readonly ports: readonly number[];
  readonly connections: number;
  /** Whole requests, sent in turn. `{n}` is the number of the request, modulo `cycle`. */
  readonly requests: readonly string[];
  readonly cycle: number;
  readonly seconds: number;
  /** The least number of requests, for as long as it takes. */
  readonly atLeast: number;
}

export interface LoadReport {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** The number of responses with each status. */
  readonly statuses: Readonly<Record<string, number>>;
}

const HEAD_END = '\r\n\r\n';
const MAX_HEAD = 4_096;

/** Counts on from one run to the next, so that a key with the number of the request is new in every run. */
let sent = 0;

class Run {
  readonly latencies: number[] = [];
  readonly statuses: Record<string, number> = {};
  readonly #templates: readonly (readonly string[])[];
  readonly #order: LoadOrder;
  #endsAt = 0;
  #left: number;

  constructor(order: LoadOrder) {
    this.#order = order;
    this.#templates = order.requests.map((request) => request.split('{n}'));
    this.#left = order.atLeast;
  }

  begin(): number {
    const now = performance.now();
    this.#endsAt = now + this.#order.seconds * 1_000;
    return now;
  }

  /** Undefined when the run is over. */
  next(now: number): string | undefined {
    if (--this.#left < 0 && now >= this.#endsAt) return undefined;
    const number = sent++;
    const parts = this.#templates[number % this.#templates.length] ?? [];
    return parts.length === 1 ? parts[0] : parts.join(String(number % this.#order.cycle));
  }

  record(status: string, latencyMs: number): void {
    this.latencies.push(latencyMs);
    this.statuses[status] = (this.statuses[status] ?? 0) + 1;
  }
}

/** Reads responses: returns the status when one is complete. All servers send Content-Length. */
class ResponseReader {
  #head = '';
  #status = '';
  #missing = 0;

  read(bytes: Buffer, size: number): string | undefined {
    if (this.#missing > 0) return this.#isComplete(size);
    const text = this.#head + bytes.toString('latin1', 0, Math.min(size, MAX_HEAD));
    const end = text.indexOf(HEAD_END);
    if (end === -1) {
      this.#head = text;
      return undefined;
    }
    const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1];
    if (length === undefined) throw new Error(`a response without Content-Length: ${text.slice(0, 200)}`);
    this.#status = text.slice(9, 12);
    this.#missing = end + HEAD_END.length + Number(length) - this.#head.length;
    this.#head = '';
    return this.#isComplete(size);
  }

  #isComplete(size: number): string | undefined {
    this.#missing -= size;
    return this.#missing <= 0 ? this.#status : undefined;
  }
}

const buffer = Buffer.allocUnsafe(262_144);

/** Opens a connection; resolves with the function that sends requests on it until the run is over. */
async function open(run: Run, port: number): Promise<() => Promise<void>> {
  const reader = new ResponseReader();
  let sentAt = 0;
  let finish: () => void = () => undefined;
  const send = () => {
    sentAt = performance.now();
    const request = run.next(sentAt);
    if (request === undefined) finish();
    else socket.write(request, 'latin1');
  };
  const callback = (size: number) => {
    const status = reader.read(buffer, size);
    if (status === undefined) return true;
    run.record(status, performance.now() - sentAt);
    send();
    return true;
  };
  const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread: { buffer, callback } });
  await once(socket, 'connect');
  return () =>
    new Promise((resolve, reject) => {
      finish = () => {
        resolve();
        socket.destroy();
      };
      socket.once('error', reject).once('close', () => reject(new Error('the server closed a connection')));
      send();
    });
}

async function run(order: LoadOrder): Promise<LoadReport> {
  const run = new Run(order);
  const ports = Array.from(
    { length: order.connections },
    (_, index) => order.ports[index % order.ports.length],
  );
  const connections = await Promise.all(ports.map((port = 0) => open(run, port)));
  const begin = run.begin();
  await Promise.all(connections.map((sendAll) => sendAll()));
  const ms = performance.now() - begin;
  const latencies = Float64Array.from(run.latencies).sort();
  return {
    requests: latencies.length,
    perSecond: (latencies.length / ms) * 1_000,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    statuses: run.statuses,
  };
}

answerParent(0, run);
