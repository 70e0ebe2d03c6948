import { expect, it } from 'vitest';
import { WatchedProperty } from '../../src/http/watched-property.ts';

const silent = { read: (value: unknown) => value };

/** Watches a property, and returns what its listener has received. */
function watch(target: object, name = 'user') {
  const seen: unknown[] = [];
  const property = new WatchedProperty(target, name, {
    read(value) {
      seen.push(value);
      return value;
    },
    assigned: (value) => seen.push(`assigned ${value}`),
  });
  return { property, seen };
}

it('all objects share the accessors of a watched property', () => {
  const [one, other] = [{ user: 1 }, { user: 2 }];
  for (const target of [one, other]) new WatchedProperty(target, 'user', silent);
  const [first, second] = [one, other].map((target) => Object.getOwnPropertyDescriptor(target, 'user'));
  expect(first?.get).toBeTypeOf('function');
  expect([first?.get, first?.set]).toEqual([second?.get, second?.set]);
  expect([one.user, other.user]).toEqual([1, 2]);
});

it('a read and an assignment through an object that inherits the property are reported', () => {
  const target = { user: 'Ann' };
  const { seen } = watch(target);
  const heir = Object.create(target) as typeof target;
  expect(heir.user).toBe('Ann');
  heir.user = 'Bob';
  expect(target.user).toBe('Bob');
  expect(seen).toEqual(['Ann', 'assigned Bob', 'Bob']);
});

it.each([
  ['first', 'second'],
  ['second', 'first'],
])('two watches of a property end in any order, %s before %s', (name) => {
  const target: { user?: string } = { user: 'Ann' };
  const [first, second] = [watch(target), watch(target)];
  expect(target.user).toBe('Ann');
  target.user = 'Bob';
  const [one, other] = name === 'first' ? [first, second] : [second, first];
  one.property.stop();
  expect(target.user).toBe('Bob');
  other.property.stop();
  expect(Object.getOwnPropertyDescriptor(target, 'user')).toEqual({
    configurable: true,
    enumerable: true,
    writable: true,
    value: 'Bob',
  });
  expect(one.seen).toEqual(['Ann', 'assigned Bob']);
  expect(other.seen).toEqual(['Ann', 'assigned Bob', 'Bob']);
});

it('a watch is replaced once the property was deleted, also if it is watched again', () => {
  const target: { user?: string } = { user: 'Ann' };
  const first = watch(target);
  expect(first.property.isReplaced).toBe(false);
  Reflect.deleteProperty(target, 'user');
  expect(first.property.isReplaced).toBe(true);
  const second = watch(target);
  expect([first.property.isReplaced, second.property.isReplaced]).toEqual([true, false]);
  target.user = 'Bob';
  first.property.stop();
  expect([target.user, first.seen]).toEqual(['Bob', []]);
});

it('a property that is not configurable is not watched', () => {
  const target = Object.defineProperty({}, 'user', { value: 'Ann' });
  const { property, seen } = watch(target);
  expect([Reflect.get(target, 'user'), property.isReplaced, seen]).toEqual(['Ann', true, []]);
});
