import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { createGunzip } from 'node:zlib';
import { onTestFinished } from 'vitest';
import { until } from '../support/until.ts';

export interface ReceivedEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  readonly data: unknown;
}

/** An open stream of events, as a client sees it. */
export class EventReader {
  readonly events: ReceivedEvent[] = [];
  /** The ids that came without data. */
  readonly ids: string[] = [];
  retry: string | undefined;
  heartbeats = 0;
  /** Whether the response has ended; `isCut` if it is not complete. */
  hasEnded = false;
  isCut = false;
  readonly response: IncomingMessage;
  readonly #cutAfter: number;
  #isClosed = false;
  #text = '';

  /** `cutAfter`: closes the connection after as many events, and ignores those that arrived with the last of them. */
  constructor(response: IncomingMessage, cutAfter = Number.POSITIVE_INFINITY) {
    this.response = response;
    this.#cutAfter = cutAfter;
    const isCompressed = response.headers['content-encoding'] === 'gzip';
    const body = isCompressed ? response.pipe(createGunzip()) : response;
    body.setEncoding('utf8');
    body.on('data', (text: string) => this.#receive(text));
    body.on('error', () => undefined);
    response.on('error', () => {
      this.isCut = true;
    });
    response.on('close', () => {
      this.hasEnded = true;
    });
  }

  get headers(): IncomingHttpHeaders {
    return this.response.headers;
  }

  get data(): readonly unknown[] {
    return this.events.map(({ data }) => data);
  }

  get lastId(): string | undefined {
    return [...this.ids, ...this.events.map(({ id }) => id)].at(-1);
  }

  close(): void {
    this.#isClosed = true;
    this.response.destroy();
  }

  async count(count: number): Promise<this> {
    await until(`${count} events arrive`, () => this.events.length >= count);
    return this;
  }

  async ended(): Promise<this> {
    await until('the stream ends', () => this.hasEnded);
    return this;
  }

  #receive(text: string): void {
    this.#text += text;
    for (let end = this.#text.indexOf('\n\n'); end !== -1; end = this.#text.indexOf('\n\n')) {
      if (this.#isClosed) return;
      this.#frame(this.#text.slice(0, end).split('\n'));
      this.#text = this.#text.slice(end + 2);
    }
  }

  #frame(lines: readonly string[]): void {
    const fieldOf = (name: string) =>
      lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
    const [id, data] = [fieldOf('id'), fieldOf('data')];
    this.retry ??= fieldOf('retry');
    if (lines.length === 1 && lines[0] === ':') this.heartbeats++;
    else if (data !== undefined) this.events.push({ id, event: fieldOf('event'), data: JSON.parse(data) });
    else if (id !== undefined) this.ids.push(id);
    if (this.events.length >= this.#cutAfter && this.lastId !== undefined) this.close();
  }
}

/** Requests a stream, which is closed with the test. Resolves when the head arrives. */
export function openEvents(
  url: string,
  headers: Readonly<Record<string, string>> = {},
  cutAfter?: number,
): Promise<EventReader> {
  return new Promise((resolve, reject) => {
    const client = request(url, { headers: { accept: 'text/event-stream', ...headers }, agent: false });
    client.on('error', reject);
    client.on('response', (response) => resolve(new EventReader(response, cutAfter)));
    client.end();
    onTestFinished(() => void client.destroy());
  });
}
