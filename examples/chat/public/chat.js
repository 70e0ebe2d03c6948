import { api } from './api.js';
import { avatar, byId } from './dom.js';
import { Live } from './live.js';
import { isAtEnd, Messages, scrollToEnd } from './messages.js';
import {
  showLive,
  showReport,
  showSummary,
  showThread,
  showThreads,
  showToast,
  showWriting,
} from './panels.js';

/** An answer that takes longer than this was given up. */
const WRITING_MS = 60_000;

const app = byId('app');
const messages = new Messages(send);
const live = new Live({ onEvent, onOpen: catchUp, onState: showLive });

let user = null;
let current;
/** The position of the history that the page has: everything after it may be missing. */
let cursor;
let threads = [];
let writingTimer;

/* Sessions */

byId('sign-in-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  byId('sign-in-error').textContent = '';
  try {
    await enter((await api.signIn(byId('name').value)).user);
  } catch (error) {
    byId('sign-in-error').textContent = error.message;
  }
});

byId('sign-out').addEventListener('click', async () => {
  live.close();
  await api.signOut().catch(report);
  location.assign('/');
});

async function enter(name) {
  user = name;
  document.body.dataset.screen = user === null ? 'sign-in' : 'chat';
  if (user === null) return byId('name').focus();
  byId('me').textContent = user;
  byId('me-avatar').replaceWith(Object.assign(avatar(user), { id: 'me-avatar' }));
  live.open();
  await route();
}

/* Threads */

/** `#/t/<id>` is a thread. The address invites others: a user who opens it joins the thread. */
async function route() {
  const id = decodeURIComponent(/^#\/t\/(.+)$/.exec(location.hash)?.[1] ?? '');
  app.dataset.pane = id === '' ? 'list' : 'thread';
  setDetails('closed');
  await listThreads();
  if (id !== '') await open(id);
  else if (current === undefined) await open(threads[0]?.id ?? 'lobby');
  else byId('threads').querySelector('[aria-current]')?.focus();
}

async function listThreads() {
  threads = await api.threads();
  showThreads(threads, current?.id);
}

async function open(id) {
  try {
    if (!threads.some((thread) => thread.id === id)) await join(id);
    current = await api.thread(id);
  } catch (error) {
    if (error.status === 404) location.hash = '';
    throw error;
  }
  showThread(current);
  showSummary(current.summary);
  showReport(current.report);
  writing(false);
  cursor = '0-0';
  messages.show(user, read(current.messages));
  byId('to-end').hidden = true;
  byId('composer-error').textContent = '';
  byId('text').value = sessionStorage.getItem(`draft:${id}`) ?? '';
  grow();
  if (matchMedia('(hover: hover)').matches) byId('text').focus();
  else byId('thread-title').focus();
  markRead();
}

async function join(id) {
  await api.join(id);
  live.open();
  await listThreads();
}

/** The page shows this thread, so its messages are read. */
function markRead() {
  if (document.hidden || current === undefined || byId('scroller').offsetParent === null) return;
  for (const thread of threads) if (thread.id === current.id) thread.unread = 0;
  showThreads(threads, current.id);
  api.markRead(current.id).catch(report);
}

/** The messages in entries of the history, whose last cursor becomes the position of the page. */
function read(entries) {
  cursor = entries.at(-1)?.cursor ?? cursor;
  return entries.map(({ event }) => event);
}

byId('new-thread').addEventListener('submit', async (event) => {
  event.preventDefault();
  try {
    const { id } = await api.createThread(byId('title').value);
    byId('title').value = '';
    live.open();
    location.hash = `#/t/${id}`;
  } catch (error) {
    report(error);
  }
});

byId('leave').addEventListener('click', async () => {
  try {
    await api.leave(current.id);
    current = undefined;
    live.open();
    if (location.hash === '') await route();
    else location.hash = '';
  } catch (error) {
    report(error);
  }
});

byId('invite').addEventListener('click', async () => {
  const address = `${location.origin}/#/t/${current.id}`;
  try {
    await navigator.clipboard.writeText(address);
    showToast('The link is copied. Anyone who opens it joins the thread.');
  } catch {
    showToast(address);
  }
});

/* Live events */

async function onEvent(event) {
  const isCurrent = event.thread === current?.id;
  if (event.type === 'message') {
    const thread = threads.find(({ id }) => id === event.thread);
    if (thread === undefined) return;
    Object.assign(thread, { activeAt: Date.now(), latest: `${event.author}: ${event.text.slice(0, 80)}` });
    if (!isCurrent) thread.unread++;
    threads.sort((a, b) => b.activeAt - a.activeAt);
    showThreads(threads, current?.id);
  }
  if (!isCurrent) return;
  if (event.type === 'message') {
    if (event.role === 'assistant') writing(false);
    byId('to-end').hidden = !messages.add([event]);
    markRead();
  } else if (event.type === 'answering') writing(true);
  else await refreshDetails();
}

/** Fetches what may be missing: a new stream begins with new events. */
async function catchUp() {
  try {
    await listThreads();
    if (current === undefined) return;
    const { id } = current;
    for (let isMore = true; isMore; ) {
      const entries = await api.messagesAfter(id, cursor);
      if (id !== current.id) return;
      byId('to-end').hidden = !messages.add(read(entries));
      isMore = entries.length === 100;
    }
    await refreshDetails();
    markRead();
  } catch (error) {
    report(error);
  }
}

async function refreshDetails() {
  const { id } = current;
  const thread = await api.thread(id);
  if (id !== current.id) return;
  current = thread;
  showThread(thread);
  showSummary(thread.summary);
  showReport(thread.report);
}

function writing(isWriting) {
  const wasAtEnd = isAtEnd();
  clearTimeout(writingTimer);
  if (isWriting) writingTimer = setTimeout(() => writing(false), WRITING_MS);
  showWriting(isWriting);
  if (wasAtEnd) scrollToEnd();
}

/* Composer */

const text = byId('text');

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const message = text.value.trim();
  if (message === '' || current === undefined) return;
  const key = crypto.randomUUID();
  messages.addPending(key, message);
  text.value = '';
  sessionStorage.removeItem(`draft:${current.id}`);
  grow();
  send(key, message);
});

async function send(key, message) {
  byId('composer-error').textContent = '';
  messages.setPending(key, 'sending');
  try {
    const { id } = await api.post(current.id, message, key);
    messages.setPending(key, 'sent', id);
  } catch (error) {
    messages.setPending(key, 'failed');
    showProblem(error);
  }
}

byId('ask').addEventListener('click', async () => {
  byId('ask').disabled = true;
  try {
    await api.ask(current.id);
  } catch (error) {
    showProblem(error);
  } finally {
    byId('ask').disabled = false;
  }
});

function showProblem({ status, message, retryAfter }) {
  byId('composer-error').textContent =
    status === 429 ? `That was quick. Try again in ${retryAfter} s.` : message;
}

text.addEventListener('input', () => {
  sessionStorage.setItem(`draft:${current.id}`, text.value);
  grow();
});

text.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId('composer').requestSubmit();
});

function grow() {
  text.style.height = 'auto';
  text.style.height = `${text.scrollHeight}px`;
}

/* Panels */

byId('start-report').addEventListener('click', async () => {
  try {
    showReport(await api.startReport(current.id));
  } catch (error) {
    report(error);
  }
});

/** In a narrow window the details are a drawer over the thread, which is then out of reach. */
function setDetails(state) {
  const isOpen = state === 'open';
  app.dataset.details = state;
  byId('show-details').setAttribute('aria-expanded', String(isOpen));
  for (const pane of [byId('sidebar'), byId('thread')]) pane.inert = isOpen;
}

function closeDetails() {
  setDetails('closed');
  byId('show-details').focus();
}

byId('show-details').addEventListener('click', () => {
  setDetails('open');
  byId('hide-details').focus();
});
byId('hide-details').addEventListener('click', closeDetails);
byId('scrim').addEventListener('click', closeDetails);
addEventListener('keydown', ({ key }) => {
  if (key === 'Escape' && app.dataset.details === 'open') closeDetails();
});
matchMedia('(max-width: 68rem)').addEventListener('change', () => setDetails('closed'));

byId('back').addEventListener('click', () => {
  location.hash = '';
});

byId('to-end').addEventListener('click', () => {
  byId('to-end').hidden = true;
  scrollToEnd();
});
byId('scroller').addEventListener('scroll', () => {
  if (isAtEnd()) byId('to-end').hidden = true;
});

function report(error) {
  if (error.status === 401) location.reload();
  else showToast(error.message);
}

addEventListener('hashchange', () => route().catch(report));
document.addEventListener('visibilitychange', markRead);

try {
  await enter(await api.user());
} catch (error) {
  report(error);
}
