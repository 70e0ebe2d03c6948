/** Creates an element. Texts become text nodes, so that nothing a user writes is read as HTML. */
export function el(name, { class: className, data = {}, on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  Object.assign(element.dataset, data);
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(attribute, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ''));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function avatar(name, { isAssistant = false } = {}) {
  const element = el('span', { class: 'avatar', 'aria-hidden': 'true', title: name });
  if (isAssistant) {
    element.classList.add('assistant');
    element.append(icon('spark'));
  } else {
    element.style.setProperty('--hue', String(hueOf(name)));
    element.append(initialsOf(name));
  }
  return element;
}

function initialsOf(name) {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const [first = '?', last] = [words[0], words.length > 1 ? words.at(-1) : undefined];
  return [first, last]
    .map((word) => [...(word ?? '')][0] ?? '')
    .join('')
    .toUpperCase();
}

/** The same color for a name in every window. */
function hueOf(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 3_600;
  return hash / 10;
}

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const shortDay = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });

export const timeOf = (at) => time.format(at);

export const isSameDay = (a, b) => new Date(a).toDateString() === new Date(b).toDateString();

export function dayOf(at) {
  if (isSameDay(at, Date.now())) return 'Today';
  if (isSameDay(at, Date.now() - 86_400_000)) return 'Yesterday';
  return day.format(at);
}

export const briefTimeOf = (at) => (isSameDay(at, Date.now()) ? time.format(at) : shortDay.format(at));

export function listOf(names) {
  return new Intl.ListFormat('en', { type: 'conjunction' }).format(names);
}
