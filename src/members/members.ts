import type { FailurePolicies } from '../base/failure-policies.ts';
import { checkedIdentity } from '../base/identity.ts';
import type { Keys, MembersKeys } from '../base/keys.ts';
import type { Reporter } from '../base/reporter.ts';
import { checkBytes } from '../base/size-options.ts';
import { storedText, textOfStored } from '../base/utf8.ts';
import type { Engine } from '../engine/port.ts';
import { corruptValue, type StoredFormat } from '../engine/reply.ts';
import { membersHas, membersList, membersSize } from './operations/read.ts';
import { membersAdd, membersRemove } from './operations/write.ts';
import {
  cursorOf,
  type MembersAddOptions,
  type MembersListOptions,
  type MembersOptions,
  readAddOptions,
  readListOptions,
  readMembersOptions,
} from './options.ts';

/**
 * Sets of strings under ids, in which each member has an expiry of its own. An expired member counts as absent. Each call
 * is one command, and rejects while Redis is unavailable. A member of more than 8,192 bytes rejects with
 * `ERR_REDIS_KIT_TOO_LARGE`.
 */
export interface Members {
  /** Adds a member, or restarts its lifetime. Resolves to whether the member is new. */
  add(id: string, member: string, options?: MembersAddOptions): Promise<boolean>;
  /** Removes a member. Resolves to whether the set had it. */
  remove(id: string, member: string): Promise<boolean>;
  /** Resolves to whether the set has the member. */
  has(id: string, member: string): Promise<boolean>;
  /** Resolves to the number of members. */
  size(id: string): Promise<number>;
  /**
   * Resolves to a page of members, in the order of their bytes. `next` is the cursor of the next page, and absent at the
   * end. Members that are present from the first page to the last are listed exactly once.
   */
  list(
    id: string,
    options?: MembersListOptions,
  ): Promise<{ readonly members: string[]; readonly next?: string }>;
  /** Removes all members. */
  clear(id: string): Promise<void>;
}

export interface MembersDeps {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly reporter: Reporter;
  readonly failurePolicies: FailurePolicies;
}

/** Enough for a token, which may be a JWT. A page has up to 1,000 members. */
const MAX_MEMBER_BYTES = 8_192;

export class KitMembers implements Members {
  readonly #name: string;
  readonly #ttl: number | null;
  readonly #deps: MembersDeps;

  constructor(name: string, options: MembersOptions, deps: MembersDeps) {
    this.#name = checkedIdentity('kit.members: the name', name);
    this.#ttl = readMembersOptions(options);
    this.#deps = deps;
    deps.failurePolicies.record('members', 'reject');
  }

  async add(id: string, member: string, options: MembersAddOptions = {}): Promise<boolean> {
    const keys = this.#keysOf('add', id);
    const args = { member: storedMember('add', member), ttl: readAddOptions(options, this.#ttl) };
    const { found, had } = await this.#deps.engine.run(membersAdd, keys, args);
    this.#check(found, keys);
    return !had;
  }

  async remove(id: string, member: string): Promise<boolean> {
    const keys = this.#keysOf('remove', id);
    const args = { member: storedMember('remove', member) };
    const { found, had } = await this.#deps.engine.run(membersRemove, keys, args);
    this.#check(found, keys);
    return had;
  }

  async has(id: string, member: string): Promise<boolean> {
    const keys = this.#keysOf('has', id);
    const args = { member: storedMember('has', member) };
    const { found, had } = await this.#deps.engine.run(membersHas, keys, args);
    this.#check(found, keys);
    return had;
  }

  async size(id: string): Promise<number> {
    const keys = this.#keysOf('size', id);
    const { found, size } = await this.#deps.engine.run(membersSize, keys, undefined);
    this.#check(found, keys);
    return size;
  }

  async list(
    id: string,
    options: MembersListOptions = {},
  ): Promise<{ readonly members: string[]; readonly next?: string }> {
    const keys = this.#keysOf('list', id);
    const page = await this.#deps.engine.run(membersList, keys, readListOptions(options));
    this.#check(page.found, keys);
    const members = page.members.map(textOfStored).filter((member) => member !== undefined);
    return page.next === '' ? { members } : { members, next: cursorOf(page.next) };
  }

  async clear(id: string): Promise<void> {
    await this.#deps.engine.delete(this.#keysOf('clear', id));
  }

  #keysOf(method: string, id: unknown): readonly string[] {
    const checked = checkedIdentity(`kit.members.${method}: the id`, id);
    const { members, expiries }: MembersKeys = this.#deps.keys.members(this.#name, checked);
    return [members, expiries];
  }

  #check(found: StoredFormat, [key = '']: readonly string[]): void {
    if (found !== 'fine') this.#deps.reporter.failure('members', corruptValue(`the value under ${key}`));
  }
}

function storedMember(method: string, member: unknown): string {
  const what = `kit.members.${method}: the member`;
  const stored = storedText(checkedIdentity(what, member));
  checkBytes(what, stored, MAX_MEMBER_BYTES, 'add a hash of it');
  return stored;
}
