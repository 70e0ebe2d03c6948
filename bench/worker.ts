import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('.', import.meta.url));

type Reply<Answer> = { readonly answer: Answer } | { readonly error: string };

interface Started<Question extends object, Answer> {
  readonly worker: Worker<Question, Answer>;
  readonly port: number;
}

/** A process of the benchmark, which answers one question at a time. It ends with the process that started it. */
export class Worker<Question extends object, Answer> {
  readonly #child: ChildProcess;
  #lastWords = '';

  private constructor(args: readonly string[], node: string) {
    const [file = '', ...rest] = args;
    this.#child = fork(file, rest, {
      cwd: FOLDER,
      execPath: node,
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#lastWords = (this.#lastWords + chunk.toString()).slice(-2_000);
    });
  }

  /** Starts a file with arguments; resolves when it answers, and rejects if it ends instead. */
  static async start<Question extends object, Answer>(
    args: readonly string[],
    node: string = process.execPath,
  ): Promise<Started<Question, Answer>> {
    const worker = new Worker<Question, Answer>(args, node);
    return { worker, port: await worker.#reply<number>() };
  }

  ask(question: Question): Promise<Answer> {
    this.#child.send(question);
    return this.#reply();
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  #reply<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const take = (reply: Reply<T>) => {
        this.#child.off('close', fail);
        if ('error' in reply) reject(new Error(reply.error));
        else resolve(reply.answer);
      };
      const fail = () => {
        this.#child.off('message', take);
        reject(new Error(this.#errorLine()));
      };
      this.#child.once('message', take).once('close', fail);
    });
  }

  /** The last line that names an error, without its stack. */
  #errorLine(): string {
    return this.#lastWords.match(/^\w*Error.*$/gm)?.at(-1) ?? `the process ended: ${this.#lastWords.trim()}`;
  }
}

/** Answers the process that started this one, beginning with the port, and ends when that process does. */
export function answerParent<Question, Answer>(
  port: number,
  answer: (question: Question) => Answer | Promise<Answer>,
): void {
  const send = (reply: Reply<Answer | number>) => process.send?.(reply);
  process.once('disconnect', () => process.exit());
  process.on('message', async (question: Question) => {
    try {
      send({ answer: await answer(question) });
    } catch (error) {
      send({ error: String(error) });
    }
  });
  send({ answer: port });
}
