import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, get, request } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { io } from 'socket.io-client';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { describeWithServers } from '../support/context.ts';
import { withPlainClient } from '../support/plain-client.ts';
import { compileProgram } from '../support/program.ts';
import { freePort, type RedisServer, startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { send } from '../support/web.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

let server: RedisServer;

interface RunningRecipe {
  readonly port: number;
  readonly process: ChildProcess;
  /** Resolves when the process has ended. */
  readonly ended: Promise<{ readonly code: unknown; readonly said: string }>;
}

/** Runs the snippet under a heading of docs/production.md as a program of its own, until it answers requests. */
async function startRecipe(heading: string): Promise<RunningRecipe> {
  const page = readFileSync(join(ROOT, 'docs/production.md'), 'utf8');
  const [, code = ''] = new RegExp(`^### ${heading}\\n.*?^\`\`\`ts\\n(.*?)^\`\`\``, 'ms').exec(page) ?? [];
  expect(code).toContain('SIGTERM');
  const file = await compileProgram({ source: code });
  const port = await freePort();
  const program = spawn(process.execPath, [file], {
    env: { ...process.env, PORT: String(port), REDIS_URL: server.url },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void program.kill('SIGKILL'));
  let said = '';
  for (const output of [program.stdout, program.stderr])
    output.on('data', (chunk) => (said += String(chunk)));
  const ended = once(program, 'close').then(([exitCode]) => ({ code: exitCode, said }));
  await until('the recipe answers', async () => {
    expect(said).toBe('');
    return send(`http://127.0.0.1:${port}/nothing`).then(
      () => true,
      () => false,
    );
  });
  return { port, process: program, ended };
}

async function connectedClients(): Promise<number> {
  return withPlainClient(server.url, async (client) => {
    const list = String(await client.sendCommand(['CLIENT', 'LIST']));
    return list.trim().split('\n').length - 1;
  });
}

const FINE = { code: 0, said: '' };

describeWithServers('The recipes for shutdown', () => {
  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'after %s, a request in flight gets its response and its lock is released',
    async (signal) => {
      const recipe = await startRecipe('HTTP');
      const agent = new Agent({ keepAlive: true });
      onTestFinished(() => agent.destroy());
      const sent = request({ port: recipe.port, path: '/orders', method: 'POST', agent });
      const answered = once(sent.end(), 'response');
      const lock = () => withPlainClient(server.url, (client) => client.exists('shop:lock:{orders}'));
      await until('the request holds its lock', async () => (await lock()) === 1);
      recipe.process.kill(signal);
      const [response] = await answered;
      expect(response.statusCode).toBe(200);
      response.resume();
      expect(await recipe.ended).toEqual(FINE);
      expect(await lock()).toBe(0);
      expect(await connectedClients()).toBe(0);
    },
  );

  it('after SIGTERM, a stream of server-sent events ends and frees its slot', async () => {
    const recipe = await startRecipe('Server-sent events');
    const [response] = await once(get(`http://127.0.0.1:${recipe.port}/events`), 'response');
    await once(response, 'data');
    const ended = once(response.resume(), 'end');
    recipe.process.kill('SIGTERM');
    await ended;
    expect(response.complete).toBe(true);
    expect(await recipe.ended).toEqual(FINE);
    const slots = await withPlainClient(server.url, (client) => client.keys('shop:concurrency:*'));
    expect(slots).toEqual([]);
  });

  it('after SIGINT, a client of ws gets the code 1001', async () => {
    const recipe = await startRecipe('WebSockets with ws');
    const socket = new WebSocket(`ws://127.0.0.1:${recipe.port}`);
    await once(socket, 'open');
    socket.send('hello');
    expect(String((await once(socket, 'message'))[0])).toBe('hello');
    const closed = once(socket, 'close');
    recipe.process.kill('SIGINT');
    expect((await closed)[0]).toBe(1001);
    expect(await recipe.ended).toEqual(FINE);
  });

  it('after SIGTERM, a client of socket.io is disconnected', async () => {
    const recipe = await startRecipe('WebSockets with socket.io');
    const socket = io(`http://127.0.0.1:${recipe.port}`, { reconnection: false });
    onTestFinished(() => void socket.close());
    const greeted = new Promise((resolve) => socket.on('message', resolve));
    socket.send('hello');
    expect(await greeted).toBe('hello');
    const disconnected = new Promise((resolve) => socket.on('disconnect', resolve));
    recipe.process.kill('SIGTERM');
    expect(await disconnected).toBe('transport close');
    expect(await recipe.ended).toEqual(FINE);
  });

  it('a second signal ends the process at once', async () => {
    const recipe = await startRecipe('Server-sent events');
    server.freeze();
    onTestFinished(() => server.thaw());
    const sent = get(`http://127.0.0.1:${recipe.port}/events`).on('error', () => undefined);
    await once(sent, 'finish');
    recipe.process.kill('SIGINT');
    await until('the server accepts no connection', () =>
      send(`http://127.0.0.1:${recipe.port}/`).then(
        () => false,
        () => true,
      ),
    );
    recipe.process.kill('SIGINT');
    expect(await recipe.ended).toMatchObject({ code: null });
  });
});
