import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';

/*
 * The block of an identity after a refusal. It is decided beside the policies of the identity, as one more policy: it
 * refuses every cost until it ends, and a refused request starts it. A block that is active is not prolonged.
 *
 *   '1:<ends>;'
 *
 * 1 is the version of the format, `ends` the ms at which the block ends. An absent key is no block.
 *
 * Policy numbers: span = length of the block in ms; limit and rate are not used.
 */
const lua = /* lua */ `
do
  local block = {}
  algorithms['x'] = block

  function block.open(key, _, span)
    local s = { key = key, span = span, found = 0, ends = 0 }
    local raw = read('GET', key)
    if raw then
      local text = type(raw) == 'string' and raw or ''
      local version, ends = string.match(text, '^(%d+):'), string.match(text, '^1:(%d+);$')
      if version and tonumber(version) > 1 then
        s.found = 2
      elseif not ends or #ends > 15 then
        s.found = 1
      else
        s.ends = tonumber(ends)
      end
    end
    return s
  end

  function block.used() return 0 end

  function block.wait_ms(s) return math.max(0, s.ends - now) end

  function block.reset_ms(s) return block.wait_ms(s) end

  function block.charge(s, _, refused)
    block.visit(s, refused)
    return 0, 0
  end

  function block.refund() end

  function block.visit(s, refused)
    if refused and s.ends <= now then
      s.ends = now + s.span
      redis.call('SET', s.key, string.format('1:%.0f;', s.ends), 'PX', s.span)
    end
    return block.wait_ms(s)
  end
end
`;

class BlockState implements PolicyState {
  readonly found: StoredFormat;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #now: number;
  readonly #span: number;
  #ends: number;

  constructor(memory: Keyspace, key: string, now: number, [, span]: PolicyNumbers) {
    this.#memory = memory;
    this.#key = key;
    this.#now = now;
    this.#span = span;
    const { found, ends } = parse(memory.get(key));
    this.found = found;
    this.#ends = ends;
  }

  used(): number {
    return 0;
  }

  waitMs(): number {
    return Math.max(0, this.#ends - this.#now);
  }

  resetMs(): number {
    return this.waitMs();
  }

  charge(_: number, isRefused: boolean): Charge {
    this.visit(isRefused);
    return { stamp: 0, position: 0 };
  }

  refund(): void {
    // A block counts no units.
  }

  visit(isRefused: boolean): void {
    if (!isRefused || this.#ends > this.#now) return;
    this.#ends = this.#now + this.#span;
    this.#memory.set(this.#key, Buffer.from(`1:${this.#ends};`), this.#span);
  }
}

function parse(value: Buffer | undefined): { readonly found: StoredFormat; readonly ends: number } {
  if (value === undefined) return { found: 'fine', ends: 0 };
  const text = value.toString('latin1');
  const version = /^(\d+):/.exec(text)?.[1];
  if (version !== undefined && Number(version) > 1) return { found: 'newer', ends: 0 };
  const ends = /^1:(\d{1,15});$/.exec(text)?.[1];
  return ends === undefined ? { found: 'corrupt', ends: 0 } : { found: 'fine', ends: Number(ends) };
}

export const identityBlock: LimitAlgorithm = {
  code: 'x',
  lua,
  open: (memory, key, now, numbers) => new BlockState(memory, key, now, numbers),
};
