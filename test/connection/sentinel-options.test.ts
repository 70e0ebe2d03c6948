import { createSentinel } from 'redis';
import { createSentinel as createSentinel5 } from 'redis5';
import { describe, expect, it } from 'vitest';
import { OptionReader } from '../../src/base/option-reader.ts';
import {
  CONNECTION_OPTION_NAMES,
  type ConnectionOptions,
  resolveConnection,
} from '../../src/connection/options.ts';
import type { KitOptions } from '../../src/index.ts';

function resolve(options: object) {
  return resolveConnection(new OptionReader('createRedisKit', options, CONNECTION_OPTION_NAMES), {}, 'kit');
}

function refusal(sentinel: unknown, beside: object = {}): string {
  try {
    resolve({ sentinel, ...beside });
  } catch (error) {
    return String(error);
  }
  return 'nothing was refused';
}

describe('the option `sentinel`', () => {
  it('a node is host:port, a URL, or its parts, and has the port of sentinels by default', () => {
    const nodes = ['a', 'b:1', 'redis://c:2', '[::1]:3', { host: 'd' }, { host: 'e', port: 4 }];
    expect(resolve({ sentinel: { name: 'm', nodes } })).toMatchObject({
      kind: 'sentinel',
      name: 'm',
      db: 0,
      nodes: [
        { host: 'a', port: 26_379 },
        { host: 'b', port: 1 },
        { host: 'c', port: 2 },
        { host: '::1', port: 3 },
        { host: 'd', port: 26_379 },
        { host: 'e', port: 4 },
      ],
    });
  });

  it('the master and the sentinels have users and passwords of their own', () => {
    const passwords = { password: 'p', sentinelPassword: () => 'q' };
    const sentinel = { name: 'm', nodes: ['a'], username: 'u', sentinelUsername: 's', db: 2, ...passwords };
    expect(resolve({ sentinel, clientName: 'app' })).toMatchObject({
      username: 'u',
      password: 'p',
      db: 2,
      clientName: 'app',
      sentinel: { username: 's', password: passwords.sentinelPassword, clientName: 'app' },
    });
    expect(resolve({ sentinel: { name: 'm', nodes: ['a'], password: 'p' } })).toMatchObject({
      sentinel: { username: undefined, password: undefined },
    });
  });

  it('the sentinels have TLS as the master has it, unless `sentinelTls` or `rediss:` says otherwise', () => {
    const tlsOf = (options: object) => {
      const settings = resolve({ sentinel: { name: 'm', nodes: ['a'], ...options } });
      return settings.kind === 'sentinel' ? [settings.tls, settings.sentinel.tls] : undefined;
    };
    expect(tlsOf({})).toEqual([false, false]);
    expect(tlsOf({ tls: true })).toEqual([true, true]);
    expect(tlsOf({ tls: true, sentinelTls: false })).toEqual([true, false]);
    expect(tlsOf({ sentinelTls: true })).toEqual([false, true]);
    expect(tlsOf({ nodes: ['rediss://a'] })).toEqual([false, true]);
  });

  it.each([
    [{}, '`name`'],
    [{ name: '', nodes: ['a'] }, '`name`'],
    [{ name: 'm' }, '`nodes`'],
    [{ name: 'm', nodes: [] }, 'it must list at least one node'],
    [{ name: 'm', nodes: ['memory:'] }, "holds 'memory:'"],
    [{ name: 'm', nodes: ['redis://u:secret@a'] }, '`sentinel.nodes`'],
    [{ name: 'm', nodes: ['redis://a/1'] }, '`sentinel.nodes`'],
    [{ name: 'm', nodes: ['unix:///a'] }, '`sentinel.nodes`'],
    [{ name: 'm', nodes: ['a:70000'] }, '`sentinel.nodes`'],
    [{ name: 'm', nodes: [{ port: 1 }] }, '`host`'],
    [{ name: 'm', nodes: ['rediss://a', 'redis://b'] }, 'either all have TLS or none'],
    [{ name: 'm', nodes: ['rediss://a'], sentinelTls: false }, '`sentinelTls`'],
    [{ name: 'm', nodes: ['a'], sentinelTls: 'secret' }, '`sentinelTls`'],
    [{ name: 'm', nodes: ['a'], password: 5 }, '`password`'],
    [{ name: 'm', nodes: ['a'], sentinelPassword: { secret: 1 } }, '`sentinelPassword`'],
    [{ name: 'm', nodes: ['a'], db: -1 }, '`db`'],
    [{ name: 'm', nodes: ['a'], sentinels: [] }, 'it is `nodes` here'],
    [{ name: 'm', nodes: ['a'], role: 'slave' }, 'the kit uses the master only'],
    [{ name: 'm', nodes: ['a'], sentinelPasword: 'secret' }, 'did you mean `sentinelPassword`?'],
  ])('a wrong value is refused with the name of its option: %j', (sentinel, words) => {
    const message = refusal(sentinel);
    expect(message).toContain(words);
    expect(message).toMatch(/^ConfigError/);
    expect(message).not.toContain('secret');
  });

  it('a second way to connect and details outside of `sentinel` are refused', () => {
    const sentinel = { name: 'm', nodes: ['a'] };
    expect(refusal(sentinel, { url: 'redis://a' })).toContain('`url` and `sentinel`');
    expect(refusal(sentinel, { password: 'p' })).toContain('put it in the options of `sentinel`');
  });

  it('the types accept the option, and Sentinel clients of node-redis 5 and 6', () => {
    const nodes = ['10.0.0.1:26379', { host: '10.0.0.2', port: 26_379 }];
    const options: ConnectionOptions = { sentinel: { name: 'm', nodes, sentinelPassword: async () => 'p' } };
    const lent = { name: 'm', sentinelRootNodes: [{ host: '127.0.0.1', port: 1 }] };
    const lenders: KitOptions[] = [{ client: createSentinel(lent) }, { client: createSentinel5(lent) }];
    expect([options, ...lenders].map((each) => resolve(each).kind)).toEqual([
      'sentinel',
      'borrowed',
      'borrowed',
    ]);
  });
});
