import type { Background, Documents, Members, RedisKit } from 'redis-kit';
import { LockTimeoutError } from 'redis-kit';
import { type Feed, KEPT } from './feed.ts';
import type { Line, Model } from './model.ts';

/** The snapshot of a workflow: the step that is next, and the results of those before it. */
export interface Report {
  readonly next: 'collect' | 'draft' | 'finish' | 'none';
  readonly requestedBy: string;
  readonly lines?: readonly Line[];
  readonly draft?: string;
  readonly text?: string;
  readonly finishedAt?: number;
}

/** A step may run twice, if the process ends between the step and its snapshot. */
type Step = (thread: string, report: Report, signal: AbortSignal) => Promise<Report>;

/** One report per thread at a time, in three steps. After each step a snapshot is stored. */
export class Reports {
  readonly #feed: Feed;
  readonly #model: Model;
  readonly #documents: Documents<Report>;
  readonly #unfinished: Members;
  readonly #jobs: Background;
  readonly #locks: RedisKit['locks'];

  constructor(kit: RedisKit, feed: Feed, model: Model) {
    this.#feed = feed;
    this.#model = model;
    this.#locks = kit.locks;
    this.#documents = kit.documents<Report>('report', { ttl: KEPT });
    this.#unfinished = kit.members('unfinished-reports', { ttl: KEPT });
    this.#jobs = kit.background({ workers: 2, queue: 100, timeout: '5m', onFull: 'reject', retries: 2 });
  }

  get(thread: string): Promise<Report | undefined> {
    return this.#documents.get(thread);
  }

  /** Begins a report, or goes on with the one that is not finished. */
  async start(thread: string, requestedBy: string): Promise<Report | undefined> {
    await this.#unfinished.add('all', thread);
    const report = await this.#documents.update(thread, (current) =>
      current === undefined || current.next === 'none' ? { next: 'collect', requestedBy } : current,
    );
    await this.#run(thread);
    return report;
  }

  /** Call it once when the process starts: the reports that another process has left unfinished go on. */
  async resume(): Promise<void> {
    const { members } = await this.#unfinished.list('all', { limit: 100 });
    for (const thread of members) await this.#run(thread);
  }

  /** A killed process holds its lock for the rest of the lease. A lock that is held for longer has a live holder. */
  async #run(thread: string): Promise<void> {
    await this.#jobs.push(thread, async ({ signal }) => {
      try {
        await this.#locks.using(`report:${thread}`, { lease: '3s', wait: '10s', signal }, (lock) =>
          this.#finish(thread, AbortSignal.any([signal, lock.signal])),
        );
      } catch (error) {
        if (!(error instanceof LockTimeoutError)) throw error;
      }
    });
  }

  async #finish(thread: string, signal: AbortSignal): Promise<void> {
    // The run before this one, for which this one has waited, removed the thread at its end.
    await this.#unfinished.add('all', thread);
    let report = await this.#documents.get(thread);
    while (report !== undefined && report.next !== 'none') {
      report = await this.#steps[report.next](thread, report, signal);
      signal.throwIfAborted();
      await this.#documents.set(thread, report);
      await this.#feed.notify(thread, 'report');
    }
    await this.#unfinished.remove('all', thread);
  }

  readonly #steps: Readonly<Record<Exclude<Report['next'], 'none'>, Step>> = {
    collect: async (thread, report) => {
      const entries = await this.#feed.last(thread, 200);
      const lines = entries.map(({ event }) => ({ author: event.author, text: event.text }));
      return { ...report, next: 'draft', lines };
    },

    draft: async (_thread, report, signal) => {
      const draft = await this.#model({ task: 'report', lines: report.lines ?? [] }, { signal });
      return { ...report, next: 'finish', draft };
    },

    finish: async (_thread, { requestedBy, lines, draft = '' }) => {
      const people = new Set(lines?.map(({ author }) => author)).size;
      const text = `${draft}\nMessages: ${lines?.length ?? 0}. People: ${people}.`;
      return { next: 'none', requestedBy, text, finishedAt: Date.now() };
    },
  };
}
