import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createChat } from '../../examples/chat/app.ts';
import { Feed } from '../../examples/chat/feed.ts';
import { fakeModel, type Model, type Prompt } from '../../examples/chat/model.ts';
import { Reports } from '../../examples/chat/reports.ts';
import { Summaries } from '../../examples/chat/summaries.ts';
import type { RedisKit } from '../../src/index.ts';
import { describeWithServers } from '../support/context.ts';
import { assertKeysAreOurs } from '../support/keys-guard.ts';
import { describeOnBothEngines, kitForTest } from '../support/kits.ts';
import { startRedis } from '../support/servers.ts';
import { until } from '../support/until.ts';
import { serve } from '../support/web.ts';
import { ChatClient } from './chat-client.ts';

interface Call {
  readonly prompt: Prompt;
  readonly answer: (text: string) => void;
}

/** A model whose answers come when the test says so. */
function heldModel(): { readonly model: Model; readonly calls: Call[] } {
  const calls: Call[] = [];
  const model: Model = (prompt, { signal }) =>
    new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      calls.push({ prompt, answer: resolve });
    });
  return { model, calls };
}

async function serveChat(kit: RedisKit, model: Model = fakeModel(0)): Promise<string> {
  return serve(createChat(kit, model, 'a secret of the tests').app);
}

const never = new AbortController().signal;

function lineBy(author: string, thread: string, text: string) {
  return { type: 'message', id: text, at: 0, role: 'user', author, thread, text } as const;
}

describeOnBothEngines('examples/chat', (url) => {
  const kitOf = () => kitForTest({ url: url() });
  const chat = (model?: Model) => serveChat(kitOf(), model);

  it('a visitor who is not signed in reads nothing, and every new user is in the lobby', async () => {
    const base = await chat();
    const visitor = new ChatClient(base);
    for (const path of ['/threads', '/threads/lobby', '/events']) {
      expect([path, (await visitor.get(path)).status]).toEqual([path, 401]);
    }
    expect((await visitor.get('/session')).body).toEqual({ user: null });
    const ann = await ChatClient.signIn(base, ' Ann ');
    expect((await ann.get('/session')).body).toEqual({ user: 'Ann' });
    expect((await ann.get('/threads')).body).toMatchObject([{ id: 'lobby', title: 'Lobby', unread: 0 }]);
    expect((await ann.send('DELETE', '/session')).status).toBe(204);
    expect((await ann.get('/threads')).status).toBe(401);
  });

  it('names, titles, texts and cursors are checked, and the error says what is expected', async () => {
    const base = await chat();
    const ann = await ChatClient.signIn(base, 'Ann');
    const wrong: readonly (readonly [string, string, object | undefined, RegExp])[] = [
      ['POST', '/session', { name: '<b>' }, /letters/],
      ['POST', '/session', { name: { $ne: '' } }, /1 to 24 characters/],
      ['POST', '/threads', undefined, /1 to 60 characters/],
      ['POST', '/threads/lobby/messages', { text: ' \n ' }, /1 to 2000 characters/],
      ['POST', '/threads/lobby/messages', { text: 'x'.repeat(2_001) }, /1 to 2000 characters/],
      ['GET', '/threads/lobby/messages?after=*', undefined, /looks like/],
      ['GET', '/threads/lobby/messages?after=1&after=2', undefined, /looks like/],
    ];
    for (const [method, path, body, title] of wrong) {
      const reply = await ann.send(method, path, body);
      expect([path, reply.status, reply.body.title]).toEqual([path, 400, expect.stringMatching(title)]);
    }
  });

  it('a thread exists for its subscribers only: invited users join it, and leave it again', async () => {
    const base = await chat();
    const [ann, ben] = [await ChatClient.signIn(base, 'Ann'), await ChatClient.signIn(base, 'Ben')];
    const id = await ann.createThread('Secret plans');
    await ann.post(id, 'the plan');
    const routes = [
      ['GET', ''],
      ['GET', '/messages?after=0-0'],
      ['POST', '/messages'],
      ['POST', '/answers'],
      ['POST', '/reports'],
      ['PUT', '/read'],
      ['DELETE', '/subscription'],
    ] as const;
    for (const [method, path] of routes) {
      expect([path, (await ben.send(method, `/threads/${id}${path}`)).status]).toEqual([path, 404]);
    }
    expect(JSON.stringify((await ben.get('/threads')).body)).not.toContain('Secret plans');
    expect((await ben.send('PUT', '/invitations/nothing')).status).toBe(404);
    expect((await ben.send('PUT', `/invitations/${id}`)).status).toBe(204);
    expect(await ben.texts(id)).toEqual(['the plan']);
    expect((await ann.get(`/threads/${id}`)).body.subscribers.sort()).toEqual(['Ann', 'Ben']);
    expect((await ben.send('DELETE', `/threads/${id}/subscription`)).status).toBe(204);
    expect((await ben.get(`/threads/${id}`)).status).toBe(404);
    expect(JSON.stringify((await ben.get('/threads')).body)).not.toContain('Secret plans');
  });

  it('the last 50 messages are recalled in order, and a page reads on from its cursor', async () => {
    const kit = kitOf();
    const base = await serveChat(kit);
    const ann = await ChatClient.signIn(base, 'Ann');
    const texts = Array.from({ length: 60 }, (_, index) => `message ${index}`);
    const { log } = new Feed(kit);
    for (const text of texts) await log.append('lobby', lineBy('Ben', 'lobby', text));
    const { messages } = (await ann.get('/threads/lobby')).body;
    expect(messages.map(({ event }: { event: { text: string } }) => event.text)).toEqual(texts.slice(-50));
    const after = await ann.get(`/threads/lobby/messages?after=${messages.at(-3).cursor}`);
    expect(after.body).toEqual(messages.slice(-2));
  });

  it('messages are unread until the user has read the thread', async () => {
    const base = await chat();
    const [ann, ben] = [await ChatClient.signIn(base, 'Ann'), await ChatClient.signIn(base, 'Ben')];
    const listed = async () => (await ben.get('/threads')).body[0];
    await ann.post('lobby', 'one');
    await ann.post('lobby', 'two');
    expect(await listed()).toMatchObject({ unread: 2, latest: 'Ann: two' });
    await ben.send('PUT', '/threads/lobby/read');
    await ann.post('lobby', 'three');
    expect(await listed()).toMatchObject({ unread: 1, latest: 'Ann: three' });
  });

  it('a user who has 50 threads leaves one before the next', async () => {
    const base = await chat();
    const ann = await ChatClient.signIn(base, 'Ann');
    for (let count = 1; count < 50; count++) await ann.createThread(`Thread ${count}`);
    expect(await ann.send('POST', '/threads', { title: 'One more' })).toMatchObject({ status: 409 });
    await ann.send('DELETE', '/threads/lobby/subscription');
    expect(await ann.send('PUT', '/invitations/lobby')).toMatchObject({ status: 204 });
  });

  it('a message that is sent twice with one key is stored once, and a secret in it is not stored', async () => {
    const base = await chat();
    const ann = await ChatClient.signIn(base, 'Ann');
    const text = 'my key is sk-abcdefghijklmnop1234, <b>keep it</b>';
    const first = await ann.post('lobby', text, 'one');
    expect(await ann.post('lobby', text, 'one')).toMatchObject({ status: 201, body: first.body });
    expect(await ann.texts('lobby')).toEqual(['my key is •••, <b>keep it</b>']);
  });

  it('a user who posts too fast is refused, and other users are not', async () => {
    const base = await chat();
    const [ann, ben] = [await ChatClient.signIn(base, 'Ann'), await ChatClient.signIn(base, 'Ben')];
    const replies = await Promise.all(
      Array.from({ length: 30 }, (_, index) => ann.post('lobby', `${index}`)),
    );
    const refused = replies.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    expect(Number(refused[0]?.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await ben.post('lobby', 'hello')).status).toBe(201);
  });

  it('two answers in one thread are written one after the other', async () => {
    const { model, calls } = heldModel();
    const base = await chat(model);
    const ann = await ChatClient.signIn(base, 'Ann');
    const other = await ann.createThread('Another thread');
    const asked = [1, 2].map(() => ann.send('POST', '/threads/lobby/answers'));
    const elsewhere = ann.send('POST', `/threads/${other}/answers`);
    const answers = () => calls.filter(({ prompt }) => prompt.task === 'answer');
    await until('one question per thread reaches the model', () => answers().length === 2);
    answers()[0]?.answer('the first');
    answers()[1]?.answer('the second');
    await until('the third question reaches the model', () => answers().length === 3);
    answers()[2]?.answer('the third');
    expect((await Promise.all([...asked, elsewhere])).map(({ status }) => status)).toEqual([201, 201, 201]);
    expect([...(await ann.texts('lobby')), ...(await ann.texts(other))].sort()).toEqual([
      'the first',
      'the second',
      'the third',
    ]);
    expect(await ann.texts('lobby')).toHaveLength(2);
  });

  it('a summary grows with the messages, and covers those that came while the model was busy', async () => {
    const { model, calls } = heldModel();
    const base = await chat(model);
    const ann = await ChatClient.signIn(base, 'Ann');
    const next = await ann.events();
    await ann.post('lobby', 'one');
    await until('the model is asked', () => calls.length === 1);
    await ann.post('lobby', 'two');
    await ann.post('lobby', 'three');
    calls[0]?.answer('the first');
    await until('the model is asked again', () => calls.length === 2);
    expect(calls[1]?.prompt).toMatchObject({
      previous: 'the first',
      lines: [{ text: 'two' }, { text: 'three' }],
    });
    calls[1]?.answer('all three');
    let notices = 0;
    while (notices < 2) if ((await next()).event.type === 'summary') notices++;
    expect((await ann.get('/threads/lobby')).body.summary).toMatchObject({ text: 'all three', messages: 3 });
    expect(calls).toHaveLength(2);
  });

  it('a summary that takes long does not overwrite a newer one', async () => {
    const kit = kitOf();
    const feed = new Feed(kit);
    const slow = heldModel();
    const quick = heldModel();
    const summaries = new Summaries(kit, feed, slow.model);
    const others = new Summaries(kit, feed, quick.model);
    await feed.log.append('lobby', lineBy('Ann', 'lobby', 'one'));
    const older = summaries.extend('lobby', never);
    await until('the slow model is asked', () => slow.calls.length === 1);
    await feed.log.append('lobby', lineBy('Ben', 'lobby', 'two'));
    const newer = others.extend('lobby', never);
    await until('the quick model is asked', () => quick.calls.length === 1);
    quick.calls[0]?.answer('of two messages');
    await newer;
    slow.calls[0]?.answer('of one message');
    await older;
    expect(await summaries.get('lobby')).toMatchObject({ text: 'of two messages', messages: 2 });
  });

  it('an event stream has the messages of all threads of its user and of no other, and resumes after its last event', async () => {
    const base = await chat();
    const [ann, ben] = [await ChatClient.signIn(base, 'Ann'), await ChatClient.signIn(base, 'Ben')];
    const [shared, secret] = [await ann.createThread('Shared'), await ann.createThread('Secret')];
    await ben.send('PUT', `/invitations/${shared}`);
    const messages = async (next: Awaited<ReturnType<ChatClient['events']>>, count: number) => {
      const seen = [];
      while (seen.length < count) {
        const each = await next();
        if (each.event.type === 'message') seen.push(each);
      }
      return seen;
    };
    const next = await ben.events();
    await ann.post(secret, 'for Ann alone');
    await ann.post(shared, 'one');
    await ann.post('lobby', 'two');
    const seen = await messages(next, 2);
    expect(seen.map(({ event }) => event.text).sort()).toEqual(['one', 'two']);
    await ann.post(secret, 'for Ann alone');
    await ann.post('lobby', 'three');
    await ann.post(shared, 'four');
    const resumed = await messages(await ben.events(seen.at(-1)?.id), 2);
    expect(resumed.map(({ event }) => event.text).sort()).toEqual(['four', 'three']);
  });

  it('a report goes through its steps, and another request for it while it is written changes nothing', async () => {
    const { model, calls } = heldModel();
    const base = await chat(model);
    const ann = await ChatClient.signIn(base, 'Ann');
    const drafts = () => calls.filter(({ prompt }) => prompt.task === 'report');
    const report = async () => (await ann.get('/threads/lobby')).body.report;
    await ann.post('lobby', 'one');
    expect(await ann.send('POST', '/threads/lobby/reports')).toMatchObject({
      status: 202,
      body: { next: 'collect' },
    });
    await until('the model drafts', () => drafts().length === 1);
    expect((await ann.send('POST', '/threads/lobby/reports')).body).toMatchObject({ next: 'draft' });
    drafts()[0]?.answer('a draft');
    await until('the report is finished', async () => (await report()).next === 'none');
    expect((await report()).text).toContain('a draft');
    expect(drafts()).toHaveLength(1);
  });

  it('a report that a closed app has left is finished by the next app from its last snapshot', async () => {
    const kit = kitOf();
    const feed = new Feed(kit);
    const failing: Model = async () => {
      throw new Error('the model is down');
    };
    await feed.log.append('lobby', lineBy('Ann', 'lobby', 'one'));
    const reports = new Reports(kit, feed, failing);
    await reports.start('lobby', 'Ann');
    await until('the model has failed', async () => (await reports.get('lobby'))?.next === 'draft');
    await feed.log.append('lobby', lineBy('Ann', 'lobby', 'two'));
    const later = new Reports(kit, feed, fakeModel(0));
    await later.resume();
    await until('the report is finished', async () => (await later.get('lobby'))?.next === 'none');
    expect((await later.get('lobby'))?.text).toContain('Messages: 1.');
  });

  it('the page is served with a policy that allows no inline script and no other origin', async () => {
    const response = await fetch(await chat());
    const policy = response.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'; script-src 'self'");
    expect(policy).not.toContain('unsafe');
    expect(response.headers.get('x-powered-by')).toBeNull();
    expect(await response.text()).not.toMatch(
      /<script(?! type="module" src="[\w.]+")|https?:\/\/(?!www\.w3\.org)|\son\w+=/,
    );
  });
});

describe('the fake model', () => {
  it('the fake model stops when its signal is aborted', async () => {
    const stop = new AbortController();
    const text = fakeModel(600_000)({ task: 'answer', lines: [] }, { signal: stop.signal });
    stop.abort(new Error('too late'));
    await expect(text).rejects.toThrow();
  });
});

interface Server {
  readonly process: ChildProcess;
  readonly base: string;
}

/** Runs the chat as a process, and resolves when it listens. */
async function startServer(env: Record<string, string>): Promise<Server> {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/chat/server.ts'], {
    env: { ...process.env, PORT: '0', SESSION_SECRET: 'a secret of the tests', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += String(chunk);
    });
  }
  const address = () => /runs on (http:\S+)/.exec(output)?.[1];
  await until('the chat listens', () => {
    if (child.exitCode !== null) throw new Error(`the chat has ended: ${output}`);
    return address() !== undefined;
  });
  return { process: child, base: address() ?? '' };
}

describe('examples/chat, as a process', () => {
  it('a chat prints its address, and SIGTERM ends it while a page is open', async () => {
    const server = await startServer({ REDIS_URL: '', CHAT_MODEL_MS: '1' });
    const ann = await ChatClient.signIn(server.base, 'Ann');
    const next = await ann.events();
    expect((await ann.post('lobby', 'hello')).status).toBe(201);
    expect((await next()).event.text).toBe('hello');
    server.process.kill('SIGTERM');
    expect((await once(server.process, 'exit'))[0]).toBe(0);
  });
});

describeWithServers('examples/chat on a Redis of its own', () => {
  it('while Redis does not answer, requests get 503, and an open page goes on afterwards', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const base = await serveChat(kitForTest({ url: redis.url, commandTimeout: '500ms' }));
    const ann = await ChatClient.signIn(base, 'Ann');
    const next = await ann.events();
    redis.freeze();
    const refused = await ann.post('lobby', 'lost');
    expect([refused.status, refused.body.status]).toEqual([503, 503]);
    redis.thaw();
    await until('messages are accepted', async () => (await ann.post('lobby', 'hello')).status === 201);
    expect((await next()).event.text).toBe('hello');
  });

  it('a report whose process is killed is finished by the next process, from the snapshot', async () => {
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const first = await startServer({ REDIS_URL: redis.url, CHAT_MODEL_MS: '600000' });
    const ann = await ChatClient.signIn(first.base, 'Ann');
    await ann.post('lobby', 'before the report');
    await ann.send('POST', '/threads/lobby/reports');
    await until('the report waits for its draft', async () => {
      return (await ann.get('/threads/lobby')).body.report.next === 'draft';
    });
    await ann.post('lobby', 'after the report');
    first.process.kill('SIGKILL');
    await once(first.process, 'exit');

    const second = await startServer({ REDIS_URL: redis.url, CHAT_MODEL_MS: '1' });
    const again = ann.at(second.base);
    await until('the report is finished', async () => {
      return (await again.get('/threads/lobby')).body.report.next === 'none';
    });
    const { body } = await again.get('/threads/lobby');
    expect(body.report.text).toContain('Messages: 1.');
    expect(await again.texts('lobby')).toEqual(['before the report', 'after the report']);
    await assertKeysAreOurs(redis.url, /^chat:/);
  });
});
