import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { findServerBinary } from './redis-provider.ts';
import { until } from './until.ts';

/** A Redis server for one test, on the loopback interface and without persistence. */
export interface RedisServer {
  readonly host: '127.0.0.1';
  readonly port: number;
  readonly url: string;
  /** The id of the current or the last process. */
  readonly pid: number;
  /** Stops the process with SIGSTOP: connections stay open, and nothing answers. */
  freeze(): void;
  thaw(): void;
  /** Kills the process as a crash would; `restart()` starts it again on the same port. */
  kill(): Promise<void>;
  /** Starts it on the same port without data. A cluster node still knows its cluster. */
  restart(): Promise<void>;
  /** Ends it, frozen or not. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Starts the server. A background shell waits on a pipe that only the test process has open, so it ends with that process
 * in any case; SIGKILL then ends even a frozen server. `exec` makes the server a direct child, whose id is `$$`. A line on
 * the pipe means kill(), after which the directory stays for the restart.
 */
const START_UNDER_WATCH = `
exec 3<&0
(
  read -r keep <&3
  ended=$?
  kill -KILL $$
  [ "$ended" -eq 0 ] || rm -rf "$1"
) 2>/dev/null &
shift
exec "$@" </dev/null 3<&-
`;

/** How often another port is tried if a free one was taken by another process meanwhile. */
const PORT_ATTEMPTS = 5;

export interface RedisServerOptions {
  readonly port?: number;
  /** Flags of the server, such as `--requirepass`. */
  readonly args?: readonly string[];
  /** Starts the server as a sentinel, which has no data. */
  readonly isSentinel?: boolean;
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  for (let attempt = 1; ; attempt++) {
    const server = new LocalRedis(options.port ?? (await freePort()), options);
    try {
      await server.restart();
      return server;
    } catch (error) {
      await server.stop();
      const portWasTaken = String(error).includes('Address already in use');
      if (options.port !== undefined || !portWasTaken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/**
 * A loopback port that is free now, together with the port 10,000 above, which a cluster node uses for its bus. Both are
 * below the range of ephemeral ports, so that no connection takes them by chance while a killed server is down (a client
 * that retries an ephemeral port may even connect to itself).
 */
export async function freePort(): Promise<number> {
  let port: number;
  do {
    port = randomInt(10_000, 20_000);
  } while (!(await isFree(port)) || !(await isFree(port + 10_000)));
  return port;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}

class LocalRedis implements RedisServer {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly #options: RedisServerOptions;
  #directory: string | undefined;
  #process: WatchedProcess | undefined;
  #pid = 0;
  #isStopped = false;

  constructor(port: number, options: RedisServerOptions) {
    this.port = port;
    this.#options = options;
  }

  get url(): string {
    return `redis://${this.host}:${this.port}`;
  }

  get pid(): number {
    return this.#pid;
  }

  freeze(): void {
    this.#running().signal('SIGSTOP');
  }

  thaw(): void {
    this.#running().signal('SIGCONT');
  }

  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    await running?.kill('and keep the directory');
  }

  async restart(): Promise<void> {
    if (this.#isStopped) throw new Error(`the test server on port ${this.port} was stopped for good`);
    await this.kill();
    this.#directory ??= await mkdtemp(join(tmpdir(), 'redis-kit-test-'));
    const running = new WatchedProcess(await this.#command(this.#directory), this.#directory);
    this.#process = running;
    this.#pid = running.pid;
    await until(`the test server on port ${this.port} answers`, () => {
      running.throwIfEnded();
      return answersAs(running.pid, this.port);
    });
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    const running = this.#process;
    this.#process = undefined;
    await running?.kill('and remove the directory');
    if (this.#directory !== undefined) await rm(this.#directory, { recursive: true, force: true });
  }

  #running(): WatchedProcess {
    if (this.#process === undefined) throw new Error(`the test server on port ${this.port} is not running`);
    return this.#process;
  }

  async #command(directory: string): Promise<readonly string[]> {
    const binary = findServerBinary();
    if (binary === undefined) throw new Error('neither redis-server nor valkey-server is on the PATH');
    await mkdir(directory, { recursive: true });
    const own = { port: this.port, bind: this.host, 'protected-mode': 'no', dir: directory };
    const settings = { ...own, save: '', appendonly: 'no', loglevel: 'warning' };
    const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const { args = [], isSentinel = false } = this.#options;
    if (!isSentinel) return [binary, ...flags, ...args];
    // A sentinel writes what it knows to its configuration file, and refuses to start without one.
    const file = join(directory, 'sentinel.conf');
    await writeFile(file, '', { flag: 'a' });
    return [binary, file, ...flags, ...args, '--sentinel'];
  }
}

/** One run of a server process. */
class WatchedProcess {
  readonly pid: number;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #isGone: Promise<void>;
  #lastWords = '';

  constructor(command: readonly string[], directory: string) {
    const child = spawn('/bin/sh', ['-c', START_UNDER_WATCH, 'sh', directory, ...command], {
      cwd: directory,
      // A process group of its own, so that Ctrl-C reaches neither the server nor its shell.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    if (child.pid === undefined) throw new Error('cannot start /bin/sh');
    this.pid = child.pid;
    this.#child = child;
    // Not 'exit': the shell has the output open too, so 'close' means that it has cleaned up as well.
    this.#isGone = new Promise((resolve) => {
      child.once('close', () => resolve());
    });
    child.once('exit', () => child.stdin.end());
    for (const output of [child.stdout, child.stderr]) {
      output.on('data', (chunk: Buffer) => {
        this.#lastWords = (this.#lastWords + chunk.toString()).slice(-2_000);
      });
    }
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(name);
  }

  async kill(manner: 'and keep the directory' | 'and remove the directory'): Promise<void> {
    if (manner === 'and keep the directory') this.#child.stdin.end('keep\n');
    else this.#child.stdin.end();
    await this.#isGone;
  }

  throwIfEnded(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null) return;
    throw new Error(`the test server ended as soon as it was started: ${this.#lastWords.trim()}`);
  }
}

/**
 * Whether the server on the port answers and is this process: another server may have the port. One that requires a
 * password cannot be asked for its process id, but it answers.
 */
function answersAs(pid: number, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let reply = '';
    const socket = connect(port, '127.0.0.1', () => socket.write('INFO server\r\n'));
    socket.setTimeout(1_000, () => socket.destroy());
    socket.on('data', (chunk) => {
      reply += chunk.toString();
      const answeredPid = /process_id:(\d+)\r\n/.exec(reply)?.[1];
      if (answeredPid === undefined && !reply.startsWith('-NOAUTH')) return;
      resolve(answeredPid === undefined || answeredPid === String(pid));
      socket.destroy();
    });
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
}
