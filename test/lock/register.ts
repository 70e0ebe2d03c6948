import { onTestFinished } from 'vitest';
import { type Program, startProgram } from '../support/program.ts';
import { serve } from '../support/web.ts';

/** A register that a lock protects. It refuses a write whose fencing token is lower than one it has seen. */
export interface FencedRegister {
  readonly url: string;
  /** The fencing tokens of all grants, in the order in which their writes began. */
  readonly fences: readonly number[];
  /** The accepted writes, each from its begin to its end. */
  readonly accepted: readonly { readonly fence: number; readonly from: number; readonly to: number }[];
  readonly rejected: number;
  /** The fencing token and the worker of the write in progress. */
  readonly writer: string | undefined;
  /** Violations that the workers found. */
  readonly complaints: readonly string[];
}

export async function startRegister(): Promise<FencedRegister> {
  const fences: number[] = [];
  const complaints: string[] = [];
  const accepted: { fence: number; from: number; to: number }[] = [];
  const begun = new Map<number, number>();
  let highest = 0;
  let rejected = 0;
  let writer: string | undefined;
  let step = 0;

  function begin(fence: number, name: string): boolean {
    fences.push(fence);
    if (fence <= highest) return false;
    highest = fence;
    writer = name;
    begun.set(fence, ++step);
    return true;
  }

  function end(fence: number): boolean {
    if (fence !== highest) return false;
    writer = undefined;
    accepted.push({ fence, from: begun.get(fence) ?? 0, to: ++step });
    return true;
  }

  const url = await serve((req, res) => {
    const { searchParams, pathname } = new URL(req.url ?? '/', 'http://register');
    const fence = Number(searchParams.get('fence'));
    const name = searchParams.get('name') ?? '';
    if (pathname === '/complaint') complaints.push(`${name}: ${searchParams.get('text')}`);
    const isTaken = pathname === '/begin' ? begin(fence, name) : pathname === '/end' ? end(fence) : true;
    if (!isTaken) rejected++;
    res.end(isTaken ? 'taken' : 'rejected');
  });
  return {
    url,
    fences,
    accepted,
    complaints,
    get rejected() {
      return rejected;
    },
    get writer() {
      return writer;
    },
  };
}

export interface WorkerOptions {
  readonly name: string;
  /** The source text of the kit's options. */
  readonly connection: string;
  readonly register: FencedRegister;
  readonly leaseMs: number;
  readonly waitMs: number;
}

/**
 * A process that locks, writes and releases until it gets SIGTERM. The process prints a line at its start, and the
 * number of its writes at its end.
 */
export function startWorker({ name, connection, register, leaseMs, waitMs }: WorkerOptions): Program {
  const program = startProgram(`
    const kit = createRedisKit({ ${connection}, commandTimeout: '400ms', logger: false });
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const send = async (path, query) => {
      // A worker that was suspended would otherwise send on a connection that the register has closed during the
      // suspension.
      const headers = { connection: 'close' };
      const response = await fetch('${register.url}' + path + '?name=${name}&' + new URLSearchParams(query), { headers });
      return (await response.text()) === 'taken';
    };
    // The interval of a suspended process does not fire, so suspended time does not count as waiting.
    let ticks = 0;
    setInterval(() => { ticks += 50; }, 50);
    let isOver = false;
    process.once('SIGTERM', () => { isOver = true; });
    console.log('works');
    process.on('unhandledRejection', (reason) => void send('/complaint', { text: 'unhandled: ' + reason }));
    let writes = 0;
    while (!isOver) {
      const beganAt = ticks;
      let lock;
      try {
        lock = await kit.locks.acquire('a', { wait: ${waitMs}, lease: ${leaseMs} });
      } catch (error) {
        if (error.status !== 503) await send('/complaint', { text: 'rejected with ' + error });
        await pause(50);
      }
      const waited = ticks - beganAt;
      if (waited > ${waitMs} + 4000) await send('/complaint', { text: 'neither granted nor refused for ' + waited });
      if (lock === undefined) continue;
      const { fence } = lock;
      if (await send('/begin', { fence })) {
        await pause(Math.random() * 20);
        if (await send('/end', { fence })) writes++;
      }
      await lock.release();
    }
    console.log('wrote', writes);
    await kit.close();
    process.exit(0);
  `);
  onTestFinished(() => void program.process.kill('SIGKILL'));
  return program;
}
