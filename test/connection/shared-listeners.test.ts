import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { addSharedListeners } from '../../src/connection/shared-listeners.ts';

/** Adds shared listeners that record the events `a` and `b`. */
function record(client: EventEmitter) {
  const heard: string[] = [];
  const remove = addSharedListeners(client, {
    a: () => void heard.push('a'),
    b: () => void heard.push('b'),
  });
  return { heard, remove };
}

/** node-redis returns objects with the emitter as their prototype, ioredis the emitter itself. */
const PASSED = {
  'an emitter': () => {
    const emitter = new EventEmitter();
    return { client: emitter, emitter };
  },
  'an object with an emitter as its prototype': () => {
    const emitter = new EventEmitter();
    return { client: Object.create(emitter) as EventEmitter, emitter };
  },
};

describe.each(Object.entries(PASSED))('shared listeners of %s', (_, pass) => {
  it.each(['client', 'emitter'] as const)(
    'shared listeners stay when the last other listener of the %s is removed',
    (through) => {
      const passed = pass();
      passed[through].once('a', () => undefined);
      const { heard } = record(passed.client);
      passed.emitter.emit('a');
      passed.emitter.emit('a');
      passed.emitter.emit('b');
      expect(heard).toEqual(['a', 'a', 'b']);
    },
  );

  it.each(['client', 'emitter'] as const)(
    'shared listeners are removed after listeners of the %s that were added before them',
    (through) => {
      const passed = pass();
      const own = () => undefined;
      for (const event of ['a', 'b']) passed[through].on(event, own);
      const { heard, remove } = record(passed.client);
      for (const event of ['a', 'b']) passed[through].off(event, own);
      remove();
      passed.emitter.emit('a');
      passed.emitter.emit('b');
      expect(heard).toEqual([]);
      expect(passed.emitter.listenerCount('a')).toBe(0);
    },
  );

  it('listeners that were added before and after shared ones stay when these are removed', () => {
    const { client, emitter } = pass();
    const heard: string[] = [];
    client.on('a', () => void heard.push('before'));
    const { remove } = record(client);
    client.on('b', () => void heard.push('after'));
    remove();
    emitter.emit('a');
    emitter.emit('b');
    expect(heard).toEqual(['before', 'after']);
  });
});
