import { avatar, briefTimeOf, byId, el, icon, listOf, timeOf } from './dom.js';

const STEPS = [
  ['collect', 'Collect'],
  ['draft', 'Draft'],
  ['finish', 'Finish'],
];

const LIVE_TEXTS = { connecting: 'Reconnecting', live: 'Live', offline: 'Offline' };

export function showLive(state) {
  byId('live').dataset.state = state;
  const text = LIVE_TEXTS[state];
  if (byId('live-text').textContent !== text) byId('live-text').textContent = text;
  const banner = byId('banner');
  banner.hidden = state === 'live';
  banner.textContent =
    state === 'offline'
      ? 'You are offline. Messages arrive when you are back.'
      : 'The connection is lost. Messages arrive when it is back.';
}

export function showThreads(threads, current) {
  byId('threads').replaceChildren(
    ...threads.map(({ id, title, unread, activeAt, latest }) =>
      el(
        'li',
        {},
        el(
          'a',
          { class: 'thread-link', href: `#/t/${id}`, 'aria-current': id === current ? 'page' : undefined },
          el('span', { class: 'thread-title' }, title),
          el('time', { class: 'fine', datetime: new Date(activeAt).toISOString() }, briefTimeOf(activeAt)),
          el('span', { class: 'latest fine' }, latest || 'No messages yet'),
          unread > 0 && id !== current ? unreadBadge(unread) : undefined,
        ),
      ),
    ),
  );
  const total = threads.reduce((sum, { id, unread }) => sum + (id === current ? 0 : unread), 0);
  document.title = total > 0 ? `(${total}) Chat on redis-kit` : 'Chat on redis-kit';
}

function unreadBadge(unread) {
  const text = unread > 99 ? '99+' : String(unread);
  return el('span', { class: 'badge' }, text, el('span', { class: 'visually-hidden' }, ' unread'));
}

export function showThread({ title, subscribers }) {
  byId('thread-title').textContent = title;
  byId('thread-people').textContent =
    subscribers.length > 3 ? `${subscribers.length} people` : listOf(subscribers);
  byId('stack').replaceChildren(
    ...subscribers
      .slice(0, 4)

      .map((name) => avatar(name)),
  );
  byId('people').replaceChildren(
    ...subscribers.map((name) => el('li', {}, avatar(name), el('span', {}, name))),
  );
}

export function showSummary(summary) {
  const sentences = summary?.text.split('\n') ?? [];
  byId('summary').replaceChildren(...sentences.map((sentence) => el('li', {}, sentence)));
  byId('summary-note').textContent =
    summary === undefined
      ? 'The summary appears after the first message.'
      : `Up to date with ${summary.messages} ${summary.messages === 1 ? 'message' : 'messages'}.`;
}

export function showReport(report) {
  const isRunning = report !== undefined && report.next !== 'none';
  const current = STEPS.findIndex(([step]) => step === report?.next);
  byId('steps').hidden = report === undefined;
  byId('steps').replaceChildren(
    ...STEPS.map(([step, label], index) => {
      const state = !isRunning || index < current ? 'done' : index === current ? 'current' : 'next';
      const mark = state === 'done' ? '✓' : String(index + 1);
      return el(
        'li',
        { data: { step, state }, 'aria-current': state === 'current' ? 'step' : undefined },
        el('span', { class: 'step-mark', 'aria-hidden': 'true' }, mark),
        el('span', {}, label),
      );
    }),
  );
  byId('report').replaceChildren(...reportText(report));
  const button = byId('start-report');
  button.textContent =
    report === undefined ? 'Write a report' : isRunning ? 'Try again' : 'Write a new report';
  button.hidden = isRunning;
  clearTimeout(stuckTimer);
  // A step that takes this long may have failed.
  if (isRunning) stuckTimer = setTimeout(() => (button.hidden = false), 30_000);
}

let stuckTimer;

function reportText(report) {
  if (report === undefined)
    return [el('p', { class: 'fine' }, 'The assistant reads the thread and reports on it.')];
  if (report.text === undefined) return [el('p', { class: 'fine' }, `Asked for by ${report.requestedBy}.`)];
  return [
    ...report.text.split('\n').map((line) => el('p', {}, line)),
    el('p', { class: 'fine' }, `Finished at ${timeOf(report.finishedAt)}, for ${report.requestedBy}.`),
  ];
}

export function showWriting(isWriting) {
  const writing = byId('writing');
  if (!isWriting) writing.replaceChildren();
  else if (writing.childElementCount === 0) {
    const dots = el('span', { class: 'dots', 'aria-hidden': 'true' }, el('i'), el('i'), el('i'));
    writing.append(icon('spark'), el('span', {}, 'The assistant is writing'), dots);
  }
}

let toastTimer;

export function showToast(text) {
  const toast = byId('toast');
  toast.textContent = text;
  toast.dataset.state = 'shown';
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    toast.dataset.state = 'hidden';
  }, 3_000);
}
