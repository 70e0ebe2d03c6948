import { randomUUID } from 'node:crypto';
import { onTestFinished } from 'vitest';

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: the tests compare the bodies
  readonly body: any;
}

export interface StreamEvent {
  readonly id: string;
  readonly event: { readonly type: string; readonly thread: string; readonly text?: string };
}

/** A user of the chat, with the cookies of one browser. */
export class ChatClient {
  readonly base: string;
  #cookie = '';

  constructor(base: string) {
    this.base = base;
  }

  static async signIn(base: string, name: string): Promise<ChatClient> {
    const client = new ChatClient(base);
    await client.send('POST', '/session', { name });
    return client;
  }

  /** The same user at another server of the chat. */
  at(base: string): ChatClient {
    const client = new ChatClient(base);
    client.#cookie = this.#cookie;
    return client;
  }

  async send(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<Reply> {
    const response = await fetch(`${this.base}/api${path}`, {
      method,
      headers: { ...this.#headers, ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    this.#cookie = response.headers.get('set-cookie')?.split(';')[0] ?? this.#cookie;
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: /^[[{]/.test(text) ? JSON.parse(text) : text,
    };
  }

  get(path: string): Promise<Reply> {
    return this.send('GET', path);
  }

  post(thread: string, text: string, key: string = randomUUID()): Promise<Reply> {
    return this.send('POST', `/threads/${thread}/messages`, { text }, { 'idempotency-key': `"${key}"` });
  }

  async createThread(title: string): Promise<string> {
    return (await this.send('POST', '/threads', { title })).body.id;
  }

  /** The texts of the messages of a thread. */
  async texts(thread: string): Promise<readonly string[]> {
    const { body } = await this.get(`/threads/${thread}`);
    return body.messages.map(({ event }: { event: { text: string } }) => event.text);
  }

  /** Opens the event stream. Resolves to a function that resolves to the next event. */
  async events(lastEventId?: string): Promise<() => Promise<StreamEvent>> {
    const leaving = new AbortController();
    onTestFinished(() => leaving.abort());
    const response = await fetch(`${this.base}/api/events`, {
      headers: { ...this.#headers, ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }) },
      signal: leaving.signal,
    });
    if (response.status !== 200 || response.body === null) throw new Error(`status ${response.status}`);
    // Locks the body at once: one that is not read yet is cancelled with the garbage-collected response.
    const events = eventsOf(response.body.getReader());
    return async () => {
      const { value, done } = await events.next();
      if (done) throw new Error('the stream has ended');
      return value;
    };
  }

  get #headers(): Record<string, string> {
    return this.#cookie === '' ? {} : { cookie: this.#cookie };
  }
}

async function* eventsOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
): AsyncGenerator<StreamEvent, undefined> {
  const decoder = new TextDecoder();
  let text = '';
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    text += decoder.decode(chunk.value, { stream: true });
    const blocks = text.split('\n\n');
    text = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = /^data: ?(.*)$/m.exec(block)?.[1];
      if (data !== undefined) yield { id: /^id: ?(.*)$/m.exec(block)?.[1] ?? '', event: JSON.parse(data) };
    }
  }
  return undefined;
}
