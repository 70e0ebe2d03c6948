/*
 * The load generator. It runs in a process of its own, so that its CPU time is not counted as the server's. Each
 * connection sends a request, waits for the whole response and sends the next request. IPC messages say what to send.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface LoadOrder {
  readonly port: number;
  readonly count: number;
  readonly connections: number;
  /** Whole requests as text, sent by turns; `{n}` stands for the number of the request. */
  readonly requests: readonly string[];
}

export interface LoadReport {
  readonly ms: number;
  /** How many answers had which status. */
  readonly statuses: Readonly<Record<string, number>>;
}

const HEAD_END = '\r\n\r\n';

/** Resolves to the status when the response is complete. All subjects send Content-Length. */
function answerOn(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const read = (bytes: Buffer) => {
      answer += bytes.toString('latin1');
      const head = answer.indexOf(HEAD_END);
      if (head === -1) return;
      const length = /\r\ncontent-length: (\d+)/i.exec(answer.slice(0, head + 2))?.[1];
      if (length === undefined) return done(() => reject(new Error('an answer without Content-Length')));
      if (answer.length >= head + HEAD_END.length + Number(length)) done(() => resolve(answer.slice(9, 12)));
    };
    const fail = () => done(() => reject(new Error('the server hung up')));
    const done = (settle: () => void) => {
      socket.off('data', read).off('close', fail);
      settle();
    };
    socket.on('data', read).on('close', fail);
  });
}

async function run({ port, count, connections, requests }: LoadOrder): Promise<LoadReport> {
  const sockets = Array.from({ length: connections }, () => connect(port, '127.0.0.1').setNoDelay());
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  const statuses: Record<string, number> = {};
  let next = 0;
  const started = performance.now();
  await Promise.all(
    sockets.map(async (socket) => {
      while (next < count) {
        const answer = answerOn(socket);
        const request = requests[next % requests.length] ?? '';
        socket.write(request.replace('{n}', String(next++)));
        const status = await answer;
        statuses[status] = (statuses[status] ?? 0) + 1;
      }
    }),
  );
  const ms = performance.now() - started;
  for (const socket of sockets) socket.destroy();
  return { ms, statuses };
}

process.once('disconnect', () => process.exit());
process.on('message', (order: LoadOrder) => {
  run(order).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
