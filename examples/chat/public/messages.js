import { avatar, byId, dayOf, el, isSameDay, timeOf } from './dom.js';

/** Messages of one author within this time form a group. */
const GROUP_MS = 5 * 60_000;

const list = byId('messages');
const scroller = byId('scroller');

/** The messages of the thread on the screen: each id once, in the order of the server. */
export class Messages {
  #user;
  #messages = new Map();
  /** The messages that the stream or the history has not brought yet. */
  #pending = [];
  #nodes = new Map();
  #retry;

  constructor(retry) {
    this.#retry = retry;
  }

  /** Begins with the messages of another thread. */
  show(user, messages) {
    this.#user = user;
    this.#messages.clear();
    this.#pending = [];
    this.#nodes.clear();
    list.replaceChildren();
    this.add(messages);
    scrollToEnd();
  }

  /** Adds the latest messages, in their order. Returns whether they are out of sight. */
  add(messages) {
    const wasAtEnd = isAtEnd();
    const count = this.#messages.size;
    for (const message of messages) {
      // A message that was here already moves behind those that were missing before it.
      this.#messages.delete(message.id);
      this.#messages.set(message.id, message);
      this.#settle(message);
    }
    this.#render();
    if (wasAtEnd) scrollToEnd();
    return this.#messages.size > count && !wasAtEnd;
  }

  /** Shows a message before the server has it. */
  addPending(key, text) {
    this.#pending.push({ key, text, state: 'sending' });
    this.#render();
    scrollToEnd();
  }

  /** @param state `'sending'`, `'failed'` or `'sent'`, which has the id from the server */
  setPending(key, state, id) {
    const pending = this.#pending.find((each) => each.key === key);
    if (pending === undefined) return;
    Object.assign(pending, { state, id });
    this.#nodes.delete(key);
    if (this.#messages.has(id)) this.#pending = this.#pending.filter((each) => each !== pending);
    this.#render();
  }

  /** A message takes the place of its pending form, whether it or the answer to its request comes first. */
  #settle({ id, author, text }) {
    const isSame = (each) => each.id === id || (each.id === undefined && each.text === text);
    const index = author === this.#user ? this.#pending.findIndex(isSame) : -1;
    if (index >= 0) this.#pending.splice(index, 1);
  }

  #render() {
    const rows = [];
    let previous;
    for (const message of this.#messages.values()) {
      const isNewDay = previous === undefined || !isSameDay(previous.at, message.at);
      const isFirst = isNewDay || !isGroup(previous, message);
      if (isFirst) rows.at(-1)?.classList.add('last');
      if (isNewDay) rows.push(this.#separator(message.at));
      rows.push(this.#row(message.id, isFirst, () => this.#message(message)));
      previous = message;
    }
    for (const pending of this.#pending) {
      rows.at(-1)?.classList.add('last');
      rows.push(this.#row(pending.key, true, () => this.#pendingMessage(pending)));
    }
    rows.at(-1)?.classList.add('last');
    place(rows);
  }

  #row(key, isFirst, create) {
    const node = this.#nodes.get(key) ?? create();
    this.#nodes.set(key, node);
    node.classList.toggle('first', isFirst);
    node.classList.remove('last');
    return node;
  }

  #separator(at) {
    const key = new Date(at).toDateString();
    const node = this.#nodes.get(key) ?? el('li', { class: 'day' }, el('span', {}, dayOf(at)));
    this.#nodes.set(key, node);
    return node;
  }

  #message({ at, author, role, text }) {
    const isAssistant = role === 'assistant';
    const isOwn = !isAssistant && author === this.#user;
    return el(
      'li',
      { class: 'message', data: { kind: isOwn ? 'own' : role } },
      isOwn ? undefined : avatar(author, { isAssistant }),
      el(
        'div',
        { class: 'body' },
        el(
          'p',
          { class: 'meta' },
          el('span', { class: isOwn ? 'visually-hidden' : 'author' }, isOwn ? 'You' : author),
          el('time', { datetime: new Date(at).toISOString() }, timeOf(at)),
        ),
        el('p', { class: 'bubble', dir: 'auto' }, text),
      ),
    );
  }

  #pendingMessage({ key, text, state }) {
    const retry = { click: () => this.#retry(key, text) };
    const notes = {
      sending: () => el('p', { class: 'meta' }, 'Sending…'),
      failed: () => el('button', { class: 'retry', type: 'button', on: retry }, 'Not sent. Try again'),
      sent: () => undefined,
    };
    return el(
      'li',
      { class: 'message', data: { kind: 'own', state } },
      el('div', { class: 'body' }, el('p', { class: 'bubble', dir: 'auto' }, text), notes[state]()),
    );
  }
}

function isGroup(previous, { author, role, at }) {
  return previous.author === author && previous.role === role && at - previous.at < GROUP_MS;
}

/** Moves no element that is in its place, so that a screen reader reads new messages only. */
function place(rows) {
  const wanted = new Set(rows);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  rows.forEach((row, index) => {
    if (list.children[index] !== row) list.insertBefore(row, list.children[index] ?? null);
  });
}

export function isAtEnd() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
}

export function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
}
