import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type {
  CountRecord,
  LimitCallRecord,
  LockGrantRecord,
  OrderRecord,
  PurgeRecord,
  SessionStepRecord,
} from './check-histories.ts';

interface Histories {
  readonly lock: LockGrantRecord;
  readonly limit: LimitCallRecord;
  readonly order: OrderRecord;
  readonly session: SessionStepRecord;
  readonly purge: PurgeRecord;
  readonly counter: CountRecord;
}

/** The histories of a run, in a file: in memory they would look like a leak. */
export async function openHistory() {
  const folder = await mkdtemp(join(tmpdir(), 'redis-kit-soak-'));
  const path = join(folder, 'history.ndjson');
  const stream = createWriteStream(path);
  const counts: Record<string, number> = {};
  return {
    path,
    counts,
    count(what: string): void {
      counts[what] = (counts[what] ?? 0) + 1;
    },
    add<Kind extends keyof Histories>(history: Kind, record: Histories[Kind]): void {
      this.count(history);
      stream.write(`${JSON.stringify([history, record])}\n`);
    },
    /** Closes the file and returns its records. */
    async read(): Promise<{ readonly [Kind in keyof Histories]: Histories[Kind][] }> {
      await new Promise((resolve) => stream.end(resolve));
      const names = ['lock', 'limit', 'order', 'session', 'purge', 'counter'];
      const records: Record<string, unknown[]> = Object.fromEntries(names.map((name) => [name, []]));
      for (const line of (await readFile(path, 'utf8')).split('\n')) {
        if (line === '') continue;
        const [history, record] = JSON.parse(line) as [string, unknown];
        records[history]?.push(record);
      }
      return records as never;
    },
  };
}

export type History = Awaited<ReturnType<typeof openHistory>>;
