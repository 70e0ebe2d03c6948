/*
 * A tour of the quick start over real HTTP: starts the app on a free port and sends requests to each feature. The exit
 * code is 1 if a response is not as expected. With --serve, the app runs until it gets a signal.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const isServing = process.argv.includes('--serve');
const unknown = process.argv.slice(2).filter((arg) => arg !== '--serve');
if (unknown.length > 0) {
  console.error(`unknown argument ${unknown.join(' ')}; usage: script/demo [--serve]`);
  process.exit(2);
}

const app = spawn(
  process.execPath,
  ['--import', 'tsx', fileURLToPath(new URL('./quickstart.ts', import.meta.url))],
  {
    env: {
      SESSION_SECRET: randomBytes(32).toString('hex'),
      ...process.env,
      REDIS_URL: process.env.REDIS_URL || 'memory:',
      PORT: isServing ? (process.env.PORT ?? '0') : '0',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  },
);
const stopped = once(app, 'exit');
process.on('exit', () => app.kill());
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => app.kill('SIGTERM'));

const base = `http://localhost:${await listeningPort()}`;
console.log(`The app of examples/quickstart.ts runs on ${base}, with ${storeName()}.`);

if (isServing) {
  console.log('Press Ctrl-C to stop it.');
  const [code] = await stopped;
  process.exit(typeof code === 'number' ? code : 0);
}

let failures = 0;
/** Makes users and orders unique: Redis still has those of earlier tours. */
const run = randomBytes(4).toString('hex');
try {
  await tour();
} catch (error) {
  failures++;
  console.error('The tour broke off:', error);
}
app.kill('SIGTERM');
await stopped;
console.log(failures === 0 ? '\nAll as it should be.' : `\n${failures} thing(s) not as they should be.`);
process.exit(failures === 0 ? 0 : 1);

async function tour(): Promise<void> {
  title('Sessions: log in and stay logged in');
  const login = await send('POST', '/login', { body: { user: `ada-${run}` } });
  const cookie = login.headers.get('set-cookie')?.split(';')[0] ?? '';
  show('POST /login', login, ['set-cookie']);
  const me = await send('GET', '/me', { cookie });
  show('GET /me with the cookie', me);
  check('the app knows the user', login.status === 200 && me.text.includes(`"ada-${run}"`));
  const stranger = await send('GET', '/me');
  check('a request without the cookie has no user', stranger.text.includes('null'));

  title('Rate limits: five logins at once, then one every ten seconds');
  let last = login;
  for (let attempt = 1; attempt <= 6; attempt++)
    last = await send('POST', '/login', { body: { user: `eve-${run}` } });
  show('the sixth POST /login', last, ['ratelimit', 'ratelimit-policy', 'retry-after']);
  check(
    'the request is refused with Retry-After',
    last.status === 429 && Number(last.headers.get('retry-after')) >= 1,
  );

  title('Cached responses: the handler runs once');
  const miss = await send('GET', `/products?tour=${run}`);
  show('GET /products', miss, ['cache-status']);
  const hit = await send('GET', miss.path);
  show('GET /products again', hit, ['cache-status', 'age']);
  check(
    'the second response is the stored one',
    hit.text === miss.text && hit.headers.get('cache-status')?.includes('hit') === true,
  );

  title('Locks: two payments of one order at the same time');
  const payments = await Promise.all([
    send('POST', `/orders/${run}/pay`),
    send('POST', `/orders/${run}/pay`),
  ]);
  for (const payment of payments) show('POST /orders/…/pay', payment, ['retry-after']);
  check(
    'one payment runs, the other is refused with 409',
    payments
      .map(({ status }) => status)
      .sort()
      .join() === '200,409',
  );
  const next = await send('POST', `/orders/${run}/pay`);
  check('the lock is free after the payment', next.status === 200);

  title('Idempotency keys: a payment that is sent twice');
  const request = { cookie, key: `"${run}"` };
  const paid = await send('POST', `/orders/${run}/pay`, request);
  show('POST /orders/…/pay with a key', paid);
  const again = await send('POST', `/orders/${run}/pay`, request);
  show('the same request again', again, ['idempotent-replayed']);
  check(
    'the payment runs once, and the repeat gets the recorded response',
    paid.status === 200 && again.text === paid.text && again.headers.get('idempotent-replayed') === 'true',
  );
  const other = await send('POST', `/orders/${run}-other/pay`, request);
  check('the key is refused for another order', other.status === 422);
}

interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly path: string;
}

async function send(
  method: string,
  path: string,
  { body, cookie, key }: { body?: object; cookie?: string; key?: string } = {},
): Promise<Reply> {
  const response = await fetch(base + path, {
    method,
    headers: {
      ...(cookie ? { cookie } : {}),
      ...(key ? { 'idempotency-key': key } : {}),
      ...(body ? { 'content-type': 'application/json' } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
    signal: AbortSignal.timeout(60_000),
  });
  return { status: response.status, headers: response.headers, text: await response.text(), path };
}

function title(text: string): void {
  console.log(`\n${text}`);
}

function show(what: string, reply: Reply, headers: readonly string[] = []): void {
  console.log(`  ${what}: ${reply.status} ${reply.text}`);
  for (const name of headers) {
    const value = reply.headers.get(name);
    if (value !== null) console.log(`    ${name}: ${value}`);
  }
}

function check(what: string, isTrue: boolean): void {
  if (!isTrue) failures++;
  console.log(`  ${isTrue ? 'ok' : 'NOT OK'}: ${what}`);
}

async function listeningPort(): Promise<number> {
  const late = setTimeout(() => app.kill(), 300_000);
  let output = '';
  for await (const chunk of app.stdout) {
    output += String(chunk);
    const port = /port: (\d+)/.exec(output)?.[1];
    if (port !== undefined) {
      clearTimeout(late);
      app.stdout.resume();
      return Number(port);
    }
  }
  throw new Error(`the app ended before it listened: ${output}`);
}

function storeName(): string {
  const url = process.env.REDIS_URL || 'memory:';
  return url.startsWith('memory:') ? 'memory:' : 'Redis';
}
