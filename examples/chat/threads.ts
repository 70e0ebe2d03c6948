import { randomUUID } from 'node:crypto';
import type { RedisKit } from 'redis-kit';
import { type Feed, KEPT, type Message } from './feed.ts';
import { HttpError } from './requests.ts';

export interface Thread {
  readonly id: string;
  readonly title: string;
  readonly owner: string;
  /** The time of the last message. */
  readonly activeAt: number;
  /** The beginning of the last message. */
  readonly latest: string;
}

/** A thread in the list of one user. */
export interface ListedThread extends Thread {
  /** At most `MOST_UNREAD`. */
  readonly unread: number;
}

/** Every user who signs in subscribes to this thread. */
const LOBBY = { id: 'lobby', title: 'Lobby', owner: 'chat', latest: '' };

/** An event stream has up to 100 channels, and each thread is two of them. */
const MOST_THREADS = 50;
const MOST_UNREAD = 100;

/** The threads and their subscribers. Only subscribers can see a thread. */
export class Threads {
  readonly #feed: Feed;
  readonly #documents;
  readonly #ofUser;
  readonly #subscribers;
  readonly #state;

  constructor(kit: RedisKit, feed: Feed) {
    this.#feed = feed;
    this.#documents = kit.documents<Thread>('thread', { ttl: KEPT });
    this.#ofUser = kit.members('threads-of-user', { ttl: KEPT });
    this.#subscribers = kit.members('subscribers-of-thread', { ttl: KEPT });
    this.#state = kit.state({ user: { id: (req) => req.session.userId ?? null, ttl: KEPT } });
  }

  async create(owner: string, title: string): Promise<Thread> {
    const thread = { id: randomUUID(), title, owner, activeAt: Date.now(), latest: '' };
    await this.#checkCount(owner);
    await this.#documents.set(thread.id, thread);
    await this.subscribe(thread.id, owner);
    return thread;
  }

  async enterLobby(user: string): Promise<void> {
    await this.#documents.setIfAbsent(LOBBY.id, { ...LOBBY, activeAt: Date.now() });
    await this.subscribe(LOBBY.id, user);
  }

  /** Undefined unless the thread exists and the user is one of its subscribers. */
  async find(id: string, user: string): Promise<Thread | undefined> {
    const [thread, isSubscriber] = await Promise.all([
      this.#documents.get(id),
      this.#subscribers.has(id, user),
    ]);
    return isSubscriber ? thread : undefined;
  }

  /** Resolves to whether the thread exists. Its id is random, so a user who knows it was invited. */
  async join(id: string, user: string): Promise<boolean> {
    if ((await this.#documents.get(id)) === undefined) return false;
    await this.#checkCount(user);
    await this.subscribe(id, user);
    await this.#feed.notify(id, 'people');
    return true;
  }

  /** Adds the user, or restarts the lifetime of the subscription. */
  async subscribe(id: string, user: string): Promise<void> {
    await Promise.all([this.#subscribers.add(id, user), this.#ofUser.add(user, id)]);
  }

  async unsubscribe(id: string, user: string): Promise<void> {
    await Promise.all([
      this.#subscribers.remove(id, user),
      this.#ofUser.remove(user, id),
      this.#state.user(user).delete(id),
    ]);
    await this.#feed.notify(id, 'people');
  }

  async subscribers(id: string): Promise<string[]> {
    return (await this.#subscribers.list(id, { limit: 50 })).members;
  }

  async idsOf(user: string): Promise<string[]> {
    return (await this.#ofUser.list(user, { limit: MOST_THREADS })).members;
  }

  /** The threads of a user, the one with the newest message first. */
  async list(user: string): Promise<ListedThread[]> {
    const [ids, readUpTo] = await Promise.all([this.idsOf(user), this.#state.user(user).all()]);
    const threads = await Promise.all(
      ids.map(async (id) => {
        const [thread, unread] = await Promise.all([
          this.#documents.get(id),
          this.#feed.after(id, String(readUpTo[id] ?? '0-0'), MOST_UNREAD),
        ]);
        return thread && { ...thread, unread: unread.length };
      }),
    );
    return threads.filter((thread) => thread !== undefined).sort((a, b) => b.activeAt - a.activeAt);
  }

  /** The messages that the thread has now no longer count as unread. */
  async markRead(id: string, user: string): Promise<void> {
    const [last] = await this.#feed.last(id, 1);
    if (last !== undefined) await this.#state.user(user).set(id, last.cursor);
  }

  /** Resolves to the id of the message. */
  async post(message: Omit<Message, 'type' | 'id' | 'at'>): Promise<string> {
    const [id, at] = [randomUUID(), Date.now()];
    await this.#feed.log.append(message.thread, { type: 'message', id, at, ...message });
    const latest = `${message.author}: ${message.text.slice(0, 80)}`;
    // `update` compares and retries, so no other change of the thread is lost.
    await this.#documents.update(message.thread, (thread) => thread && { ...thread, activeAt: at, latest });
    return id;
  }

  async #checkCount(user: string): Promise<void> {
    if ((await this.#ofUser.size(user)) < MOST_THREADS) return;
    throw new HttpError(409, `You have ${MOST_THREADS} threads. Leave one of them first.`);
  }
}
