import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Link, LinkedList } from '../../src/base/linked-list.ts';

it('a list has its values in the order in which they were added, after any additions and removals', () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.nat(20))), (steps) => {
      const list = new LinkedList<number>();
      const links: Link<number>[] = [];
      const model: number[] = [];
      for (const [value, step] of steps.entries()) {
        if (step === null) {
          links.push(list.add(value));
          model.push(value);
          continue;
        }
        const link = links[step];
        if (link === undefined) continue;
        const at = model.indexOf(link.value);
        expect(list.remove(link)).toBe(at >= 0);
        if (at >= 0) model.splice(at, 1);
      }
      expect(list.links().map(({ value }) => value)).toEqual(model);
      expect([list.size, list.first]).toEqual([model.length, model[0]]);
    }),
  );
});

it('a removed link leads to no other value', () => {
  const list = new LinkedList<string>();
  const [, second] = ['a', 'b', 'c'].map((value) => list.add(value));
  list.remove(second as Link<string>);
  expect(second).toEqual({ value: 'b', before: undefined, after: undefined, isListed: false });
});
