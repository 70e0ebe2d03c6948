import type { Keyspace } from '../../engine/operation.ts';
import type { StoredFormat } from '../../engine/reply.ts';
import type { AlgorithmLua, Charge, LimitAlgorithm, PolicyNumbers, PolicyState } from './algorithm.ts';

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
const lua: AlgorithmLua = {
  state: ['ends'],

  helpers: '',

  open: /* lua */ `
ends = 0
local raw = read('GET', key)
if raw then
  local text = type(raw) == 'string' and raw or ''
  local version, stored = string.match(text, '^(%d+):'), string.match(text, '^1:(%d+);$')
  if version and tonumber(version) > 1 then
    found = 2
  elseif not stored or #stored > 15 then
    found = 1
  else
    ends = stored + 0
  end
end`,

  wait: /* lua */ `wait = math.max(0, ends - now)`,

  charge: '',

  refuse: /* lua */ `if ends <= now then ends, charged = now + span, true end`,

  result: /* lua */ `counted, reset = 0, math.max(0, ends - now)`,

  save: /* lua */ `if charged then redis.call('SET', key, string.format('1:%.0f;', ends), 'PX', span) end`,

  refund: '',
};

class BlockState implements PolicyState {
  readonly found: StoredFormat;
  readonly #memory: Keyspace;
  readonly #key: string;
  readonly #now: number;
  readonly #span: number;
  #ends: number;
  #hasBegun = false;

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

  turnMs(): number {
    return this.waitMs();
  }

  resetMs(): number {
    return this.waitMs();
  }

  charge(): Charge {
    return { stamp: 0, position: 0 };
  }

  refund(): void {
    // A block counts no units.
  }

  refuse(): void {
    if (this.#ends > this.#now) return;
    this.#ends = this.#now + this.#span;
    this.#hasBegun = true;
  }

  save(): void {
    if (this.#hasBegun) this.#memory.set(this.#key, Buffer.from(`1:${this.#ends};`), this.#span);
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
