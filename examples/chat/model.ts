import { setTimeout as pause } from 'node:timers/promises';

export interface Line {
  readonly author: string;
  readonly text: string;
}

export interface Prompt {
  readonly task: 'answer' | 'summary' | 'report';
  readonly lines: readonly Line[];
  /** The summary of the lines before these. */
  readonly previous?: string | undefined;
}

/** Writes a text. Rejects as soon as the signal is aborted. */
export type Model = (prompt: Prompt, options: { readonly signal: AbortSignal }) => Promise<string>;

/** A model that needs no key: it takes its time, and then counts words. Put a client of a real model here. */
export function fakeModel(delayMs: number): Model {
  return async (prompt, { signal }) => {
    await pause(delayMs, undefined, { signal });
    return WRITERS[prompt.task](prompt);
  };
}

const WRITERS: Readonly<Record<Prompt['task'], (prompt: Prompt) => string>> = {
  answer({ lines }) {
    const topics = listOf(topicsOf(lines));
    const count = topics === '' ? 'there is not much to read yet' : `this is mostly about ${topics}`;
    return `I only count words, and by my count ${count}. A real model would know the answer.`;
  },

  /** One sentence for the new lines, after the last four sentences of before. */
  summary({ lines, previous = '' }) {
    const topics = listOf(topicsOf(lines));
    const people = listOf(authorsOf(lines));
    const sentence = topics === '' ? `${people} said hello.` : `${people} talked about ${topics}.`;
    return [...previous.split('\n').filter(Boolean).slice(-4), sentence].join('\n');
  },

  report({ lines }) {
    const questions = lines.filter(({ text }) => text.trim().endsWith('?'));
    return [
      `Written by ${listOf(authorsOf(lines)) || 'no one'}.`,
      `Topics: ${listOf(topicsOf(lines)) || 'none yet'}.`,
      ...questions.slice(-3).map(({ author, text }) => `${author} asked: ${text}`),
    ].join('\n');
  },
};

function authorsOf(lines: readonly Line[]): string[] {
  return [...new Set(lines.map(({ author }) => author))];
}

/** The three most frequent words that are long. */
function topicsOf(lines: readonly Line[]): string[] {
  const counts = new Map<string, number>();
  for (const { text } of lines) {
    for (const word of text.toLowerCase().match(/\p{L}{6,}/gu) ?? []) {
      if (!COMMON_WORDS.has(word)) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
  }
  const byCount = [...counts].sort(([, a], [, b]) => b - a);
  return byCount.slice(0, 3).map(([word]) => word);
}

const COMMON_WORDS = new Set(['before', 'people', 'please', 'really', 'should', 'thanks', 'though']);

function listOf(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}
