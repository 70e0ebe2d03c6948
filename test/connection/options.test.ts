import { describe, expect, it } from 'vitest';
import { ConfigError, createRedisKit } from '../../src/index.ts';
import { type KitOptions, resolveKitOptions } from '../../src/kit-options.ts';

/** Resolves the connection options, with an empty environment by default. */
function resolve(options: Readonly<Record<string, unknown>>, env: NodeJS.ProcessEnv = {}) {
  return resolveKitOptions(options as KitOptions, env).connection;
}

/** The message of the ConfigError that these options cause. */
function refusal(options: unknown, env: NodeJS.ProcessEnv = {}): string {
  try {
    resolveKitOptions(options as KitOptions, env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ code: 'ERR_REDIS_KIT_CONFIG' });
    return (error as Error).message;
  }
  throw new Error('the options were accepted');
}

/** An object with these methods, which are never called. */
const methods = (...names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, () => undefined]));
const NODE_REDIS = ['sendCommand', 'on', 'off', 'withTypeMapping'];

describe('resolveConnection()', () => {
  it('user name, password, host, port and database are read from a URL and percent-decoded', () => {
    expect(resolve({ url: 'redis://us%40er:p%2Fa%3Ass@example.com:6380/3' })).toEqual({
      kind: 'standalone',
      host: 'example.com',
      port: 6380,
      username: 'us@er',
      password: 'p/a:ss',
      db: 3,
      tls: false,
      family: 0,
      clientName: 'kit',
    });
  });

  it('a URL without port and database means port 6379 and database 0', () => {
    expect(resolve({ url: 'redis://localhost' })).toMatchObject({ port: 6379, db: 0, tls: false });
    expect(resolve({ url: 'rediss://[::1]:7000/' })).toMatchObject({ host: '::1', port: 7000, tls: true });
  });

  it.each(['memory:', 'memory://'])('%s means the memory of this process', (url) => {
    expect(resolve({ url })).toEqual({ kind: 'memory' });
  });

  it('the options host, port, username, password, db and tls can be combined', () => {
    const group = { host: 'h', port: 1, username: 'u', password: 'p', db: 2, tls: true };
    expect(resolve(group)).toEqual({ kind: 'standalone', ...group, family: 0, clientName: 'kit' });
    expect(resolve({ port: 7000 })).toMatchObject({ host: 'localhost', port: 7000 });
    expect(resolve({ host: 'h' })).toMatchObject({ host: 'h', port: 6379, db: 0 });
  });

  it('a cluster node is a URL or a host and port, and all nodes share credentials', () => {
    const cluster = { nodes: ['redis://a:7001', { host: 'b' }], username: 'u', password: 'p' };
    expect(resolve({ cluster })).toMatchObject({
      kind: 'cluster',
      nodes: [
        { host: 'a', port: 7001 },
        { host: 'b', port: 6379 },
      ],
      username: 'u',
      password: 'p',
      tls: false,
    });
  });

  it.each([
    ['standalone', []],
    ['cluster', ['nodeClient']],
    ['pool', ['execute']],
  ])('a borrowed client of node-redis is recognized by its methods as: %s', (family, own) => {
    expect(resolve({ client: methods(...NODE_REDIS, ...own) })).toMatchObject({ family });
  });

  it('REDIS_URL takes precedence over REDIS_HOST, REDIS_PORT and the other variables', () => {
    expect(resolve({}, { REDIS_URL: 'redis://a:1', REDIS_HOST: 'b' })).toMatchObject({ host: 'a', port: 1 });
    const env = {
      REDIS_HOST: 'b',
      REDIS_PORT: '2',
      REDIS_USERNAME: 'u',
      REDIS_PASSWORD: 'p',
      REDIS_DB: '3',
    };
    const parts = { host: 'b', port: 2, username: 'u', password: 'p', db: 3 };
    expect(resolve({}, env)).toMatchObject(parts);
    expect(resolve({}, { REDIS_HOST: 'b' })).toMatchObject({ port: 6379, password: undefined, db: 0 });
  });

  it('an empty environment variable is treated as absent', () => {
    expect(resolve({}, { REDIS_URL: '', REDIS_HOST: 'b', REDIS_PORT: '', REDIS_DB: '' })).toMatchObject({
      host: 'b',
      port: 6379,
      db: 0,
    });
    expect(refusal({}, { REDIS_URL: '', REDIS_HOST: '' })).toMatch(/nothing says where Redis is/);
  });

  it.each(['tcp://10.0.0.1:6379', 'tcp://redis.default.svc:6379', 'tcp://[fd00::1]:6379'])(
    'the error for REDIS_PORT=%s, as Kubernetes sets it, names the cause and remedies',
    (port) => {
      const message = refusal({}, { REDIS_HOST: 'redis', REDIS_PORT: port });
      expect(message).toContain(`REDIS_PORT is '${port}'; Kubernetes sets it for a Service named \`redis\``);
      expect(message).toMatch(/enableServiceLinks: false.*REDIS_URL.*`host` and `port`/);
      const env = { REDIS_HOST: 'redis', REDIS_PORT: port };
      expect(resolve({ host: 'redis' }, env)).toMatchObject({ host: 'redis', port: 6379 });
    },
  );

  it('connection options take precedence over environment variables', () => {
    expect(resolve({ url: 'memory:' }, { REDIS_URL: 'redis://a:1' })).toEqual({ kind: 'memory' });
  });

  it('a unix: URL or the option path means a unix socket', () => {
    const socket = { kind: 'standalone', path: '/run/redis.sock', db: 0 };
    expect(resolve({ url: 'unix:///run/redis.sock' })).toMatchObject(socket);
    expect(resolve({ path: '/run/redis.sock' })).toMatchObject(socket);
    expect(resolve({ url: 'unix://ann:p%40ss@/run/a%20b.sock?db=7' })).toMatchObject({
      path: '/run/a b.sock',
      username: 'ann',
      password: 'p@ss',
      db: 7,
    });
    expect(
      resolve({ path: 'redis.sock', username: 'u', password: 'p', db: 2, clientName: 'n' }),
    ).toMatchObject({
      path: 'redis.sock',
      username: 'u',
      password: 'p',
      db: 2,
      clientName: 'n',
    });
    expect(resolve({}, { REDIS_URL: 'unix:///run/redis.sock' })).toMatchObject(socket);
  });

  it('options beside a URL or the environment say what these leave open', () => {
    const password = () => 'token';
    const details = { username: 'u', password, db: 2, family: 6, clientName: 'n' };
    expect(resolve({ url: 'redis://a', ...details })).toMatchObject({ host: 'a', ...details });
    expect(resolve({ url: 'redis://u@a/2?family=6', password })).toMatchObject({
      username: 'u',
      password,
      db: 2,
      family: 6,
    });
    expect(resolve(details, { REDIS_URL: 'redis://a' })).toMatchObject({ host: 'a', ...details });
    const env = { REDIS_HOST: 'a', REDIS_USERNAME: 'x', REDIS_PASSWORD: 'x', REDIS_DB: '9' };
    expect(resolve(details, env)).toMatchObject({ host: 'a', ...details });
    expect(resolve({ clientName: 'n', tls: false, url: 'memory:' })).toEqual({ kind: 'memory' });
  });

  it('a database may be in the query of a URL', () => {
    expect(resolve({ url: 'redis://a?db=3' })).toMatchObject({ db: 3 });
    expect(resolve({ url: 'redis://a?db=0&family=4' })).toMatchObject({ db: 0, family: 4 });
  });

  it('the name of a connection is the prefix of its kit by default', () => {
    expect(resolve({ url: 'redis://a', prefix: 'shop:eu' })).toMatchObject({ clientName: 'shop:eu' });
    expect(resolve({ cluster: { nodes: ['a'] }, prefix: 'shop' })).toMatchObject({ clientName: 'shop' });
    expect(resolve({ cluster: { nodes: ['a'] }, clientName: 'web' })).toMatchObject({ clientName: 'web' });
  });

  it('the brackets of an IPv6 address are removed', () => {
    expect(resolve({ host: '[::1]' })).toMatchObject({ host: '::1' });
    expect(resolve({ cluster: { nodes: ['[::1]:7000', '[::1]', { host: '::1' }] } })).toMatchObject({
      nodes: [
        { host: '::1', port: 7000 },
        { host: '::1', port: 6379 },
        { host: '::1', port: 6379 },
      ],
    });
  });

  it('nodes with rediss: mean TLS for the whole cluster', () => {
    const nodes = ['rediss://a:1', { host: 'b' }, 'c:2'];
    expect(resolve({ cluster: { nodes } })).toMatchObject({ tls: true });
    expect(resolve({ cluster: { nodes, tls: { servername: 'x' } } })).toMatchObject({
      tls: { servername: 'x' },
    });
    expect(resolve({ cluster: { nodes: ['redis://a', 'b:1'], tls: true } })).toMatchObject({ tls: true });
    expect(resolve({ cluster: { nodes: ['a:1'] } })).toMatchObject({ tls: false });
  });

  it('a connection option whose value is undefined is treated as absent', () => {
    const options = { url: undefined, client: undefined, cluster: undefined, host: 'h', sentinel: undefined };
    expect(resolve(options)).toMatchObject({ host: 'h' });
    expect(resolve({ url: undefined }, { REDIS_URL: 'memory:' })).toEqual({ kind: 'memory' });
  });
});

describe('a ConfigError', () => {
  it.each([
    [{ url: 'memory:', host: 'h' }, '`url` and `host`'],
    [{ url: 'memory:', port: 1 }, '`url` and `port`'],
    [{ url: 'memory:', client: methods(...NODE_REDIS) }, '`url` and `client`'],
    [{ client: methods(...NODE_REDIS), cluster: { nodes: ['redis://a'] } }, '`client` and `cluster`'],
  ])('the error for two ways to connect names both: %j', (options, names) => {
    expect(refusal(options)).toContain(names);
  });

  it('the error for no way to connect names the options and variables to set', () => {
    const message = refusal({});
    for (const remedy of ['`url`', '`host`', '`cluster`', '`client`', 'REDIS_URL', 'REDIS_HOST']) {
      expect(message).toContain(remedy);
    }
  });

  it.each([
    'redis://user:sec/ret@host:6379/0',
    'redis://user:1/secret@host:6379/0',
    'redis://user:secret@/0',
    'redis://user:secret%zz@host',
    'redis://user:secret@host:99999',
    'redis://user:secret@host/not-a-number',
    'redis://user:secret@host?family=5',
    'redis://user:12?secret@host',
    'unix://user:sec/ret@/run/redis.sock',
    'unix://user:secret@/run/redis.sock?family=6',
    'unix://user:secret@run/redis.sock',
    'unix://user:secret%zz@/run/redis.sock',
    'http://user:secret@host',
    'user:secret@host:6379',
    ':secret@host',
  ])('the error for the malformed URL %s shows no part of its password', (url) => {
    expect(refusal({ url })).not.toMatch(/secret|sec\b|ret\b/);
    expect(refusal({}, { REDIS_URL: url })).not.toMatch(/secret|sec\b|ret\b/);
  });

  it('the error for an invalid environment variable names the variable', () => {
    expect(refusal({}, { REDIS_URL: 'nonsense' })).toContain('REDIS_URL');
    expect(refusal({}, { REDIS_HOST: 'h', REDIS_PORT: 'x' })).toContain("REDIS_PORT is 'x'");
    expect(refusal({}, { REDIS_HOST: 'h', REDIS_PORT: '0' })).toContain("REDIS_PORT is '0'");
    expect(refusal({}, { REDIS_HOST: 'h', REDIS_DB: '-1' })).toContain("REDIS_DB is '-1'");
  });

  it.each([
    [{ url: 'memory:', commandTimout: 1 }, 'unknown option `commandTimout`; did you mean `commandTimeout`?'],
    [{ url: 'memory:', prefx: 'a' }, 'did you mean `prefix`?'],
    [{ hots: 'a' }, 'did you mean `host`?'],
    [{ url: 'memory:', somethingElse: 1 }, 'known options: url,'],
    [{ cluster: { nodes: ['redis://a'], pasword: 'x' } }, 'did you mean `password`?'],
    [{ cluster: { nodes: [{ host: 'a', prot: 1 }] } }, 'did you mean `port`?'],
  ])('the error for an unknown connection option suggests a known option: %j', (options, hint) => {
    expect(refusal(options)).toContain(hint);
  });

  it.each([
    [{ client: {} }, '`client` is an object'],
    [{ client: 'redis://x' }, "`client` is 'redis://x'"],
    [{ client: null }, '`client` is null'],
    [{ cluster: { nodes: [] } }, '`nodes` is an array of 0'],
    [{ cluster: { nodes: 'redis://a' } }, '`nodes`'],
    [{ cluster: { nodes: [{ port: 1 }] } }, '`host` is undefined'],
    [{ cluster: { nodes: ['memory:'] } }, "holds 'memory:'"],
    [{ cluster: { nodes: ['redis://:secret@a'] } }, '`password`'],
    [{ host: '' }, '`host`'],
    [{ port: 0 }, '`port` is 0'],
    [{ port: 65_536 }, '`port` is 65536'],
    [{ port: '6379' }, "`port` is '6379'"],
    [{ host: 'h', db: -1 }, '`db` is -1'],
    [{ host: 'h', db: 1.5 }, '`db` is 1.5'],
    [{ db: 1 }, 'nothing says where Redis is'],
    [{ url: 'redis://:other@a', password: 'secret' }, '`url` has one as well'],
    [{ host: 'h', tls: 'yes' }, '`tls`'],
    [{ url: 'redis://a', tls: true }, '`tls` is true'],
    [{ url: 'rediss://a', tls: false }, '`tls` is false'],
    [{ url: 'memory:', tls: {} }, '`tls` is not usable'],
    [{ cluster: { nodes: ['redis://a'] }, tls: true }, 'the options of `cluster`'],
    [{ client: methods(...NODE_REDIS), tls: {} }, 'the options of `client`'],
    [{ client: methods(...NODE_REDIS), clientName: 'x' }, 'the options of `client`'],
    [
      { cluster: { nodes: ['redis://a'] }, password: 'secret' },
      '`password` is not usable; put it in the options of `cluster`',
    ],
    [{ cluster: { nodes: ['redis://a'] }, db: 1 }, '`db` is not usable'],
    [{ cluster: { nodes: ['redis://a', 'rediss://b'] } }, 'either all have TLS or none'],
    [{ cluster: { nodes: ['rediss://a'], tls: false } }, '`tls` is false; it contradicts the nodes'],
    [{ cluster: { nodes: ['a:70000'] } }, '`cluster.nodes` is'],
    [{ cluster: { nodes: ['unix:///run/a'] } }, 'more than redis://host:port'],
    [{ cluster: { nodes: ['a'], nodeAddressMap: [] } }, '`nodeAddressMap` is an array'],
    [{ cluster: { nodes: ['a'], nodeAddressMap: { 'b:1': 'http://c' } } }, "scheme 'http:'"],
    [{ cluster: { nodes: ['a'], nodeAddressMap: { 'b:1': { host: 'secret@c' } } } }, 'more than a host'],
    [{ cluster: { nodes: ['a'], natMap: {} } }, 'it is `nodeAddressMap` here'],
    [{ cluster: { nodes: ['a'], db: 0 } }, 'a cluster has only database 0'],
    [{ path: '' }, '`path` is'],
    [{ path: '/a', host: 'b' }, 'options `path` and `host` both say where Redis is'],
    [{ path: '/a', tls: true }, 'a unix socket has neither TLS nor an IP version'],
    [{ url: 'unix:///a', family: 4 }, 'a unix socket has neither TLS nor an IP version'],
    [{ url: 'unix:/a' }, 'with three slashes'],
    [{ url: 'unix://a/b' }, 'with three slashes'],
    [{ url: 'redis://a/1?db=1' }, 'two database numbers'],
    [{ url: 'redis://a?db=1&db=2' }, 'with a query other than ?db= and ?family='],
    [{ url: 'redis://a/1', db: 1 }, '`url` has one as well'],
    [{ url: 'redis://secret@a', username: 'secret' }, '`url` has one as well'],
    [{ host: 'a', family: 5 }, '`family` is 5; it must be one of 0, 4, 6'],
    [{ host: 'a', clientName: 'two words' }, "`clientName` is 'two words'; Redis allows visible ASCII"],
    [{ host: 'a', clientName: 'line\nfeed' }, '`clientName`'],
    [{ host: 'a', password: 7 }, '`password` is not usable; it must be a string'],
    [{ host: 'a', tls: { ca: '/etc/secret.pem' } }, 'its `ca` is not PEM text; pass the content of the file'],
    [{ host: 'a', tls: { key: ['secret'] } }, 'its `key` is not PEM text'],
    [
      { host: 'a', tls: { cert: '-----BEGIN CERTIFICATE-----\nsecret' } },
      '`tls` is not usable; Node.js rejects it',
    ],
    [{ host: 'a', servername: 'b' }, '`servername`; put it in `tls`'],
    [{ host: 'a', name: 'b' }, '`name`; it is `clientName` here'],
    [{ url: 'redis://a', credentialsProvider: {} }, 'pass a function as `password`'],
  ])('invalid connection options are rejected: %j', (options, part) => {
    const message = refusal(options);
    expect(message).toContain(part);
    expect(message).not.toContain('secret');
  });

  it.each([
    [{ prefix: '' }, '`prefix`'],
    [{ prefix: 'a b' }, '`prefix`'],
    [{ prefix: 'a{b}' }, '`prefix`'],
    [{ prefix: 7 }, '`prefix` is 7'],
    [{ commandTimeout: 0 }, '`commandTimeout` is 0'],
    [{ commandTimeout: -1 }, '`commandTimeout` is -1'],
    [{ commandTimeout: Number.NaN }, '`commandTimeout` is NaN'],
    [{ commandTimeout: Number.POSITIVE_INFINITY }, '`commandTimeout` is Infinity'],
    [{ commandTimeout: '1 second' }, "`commandTimeout` is '1 second'"],
    [{ commandTimeout: '61s' }, 'at most 60000 ms'],
    [{ logger: {} }, '`logger`'],
    [{ logger: true }, '`logger`'],
    [{ clock: {} }, '`clock`'],
  ])('invalid options of the kit are rejected: %j', (options, part) => {
    expect(refusal({ url: 'memory:', ...options })).toContain(part);
  });

  it('the option `clock` is rejected except on memory:', () => {
    expect(refusal({ url: 'redis://a', clock: { now: () => 0 } })).toContain('`memory:` only');
  });

  it.each([[null], ['redis://a'], [7], [[]]])('kit options must be an object, and not %s', (options) => {
    expect(refusal(options)).toContain('options must be an object');
  });

  it.each(['password', 'username'])('the error for an invalid %s does not show its value', (name) => {
    for (const secret of [4_111_111, '', { pass: 'hush' }, ['hush']]) {
      for (const options of [
        { host: 'localhost', [name]: secret },
        { cluster: { nodes: ['redis://a'], [name]: secret } },
      ]) {
        const message = refusal(options);
        expect(message).toContain(`\`${name}\` is not usable; it must be a string`);
        expect(message).not.toMatch(/4111111|hush/);
      }
    }
  });

  it.each([
    ['redis://ann:hush@host'],
    [{ client: 'redis://ann:hush@host' }],
    [{ cluster: 'redis://ann:hush@host' }],
    [{ cluster: { nodes: 'redis://ann:hush@host' } }],
    [{ cluster: { nodes: ['redis://ann:hush@host'] } }],
    [{ cluster: { nodes: ['hush:ann@host'] } }],
    [{ cluster: { nodes: [{ host: 'redis://ann:hush@host' }] } }],
    [{ cluster: { nodes: [{ host: 'ann:hush' }] } }],
    [{ host: 'redis://ann:hush@host' }],
    [{ host: 'ann:hush@host' }],
    [{ host: 'h', port: 'redis://ann:hush@host' }],
    [{ host: 'h', tls: 'hush' }],
    [{ client: methods(...NODE_REDIS), tls: 'hush' }],
    [{ url: 'hush:ann@host:6379' }],
    [{ url: 4_111_111 }],
    [{ url: 'memory:', password: 'hush' }],
    [{ url: 'memory:', logger: 'redis://ann:hush@host' }],
  ])('the error for an option with a password by mistake does not show the password: %j', (options) => {
    expect(refusal(options)).not.toMatch(/hush|4111111/);
  });

  it.each([
    { REDIS_URL: 'redis://ann:hu/sh@host' },
    { REDIS_URL: 'hush:ann@host' },
    { REDIS_HOST: 'redis://ann:hush@host' },
    { REDIS_HOST: 'ann:hush' },
    { REDIS_HOST: 'h', REDIS_PORT: 'redis://ann:hush@host' },
    { REDIS_HOST: 'h', REDIS_DB: 'redis://ann:hush@host' },
  ])('the error for an invalid environment variable does not show a password: %j', (env) => {
    const message = refusal({}, env);
    expect(message).not.toMatch(/hush|hu\b/);
    expect(message).toMatch(/REDIS_(URL|HOST|PORT|DB) is /);
  });

  it('the errors for an empty URL and for a host with a port name the remedy', () => {
    expect(refusal({ url: '' })).toMatch(/`url` is empty; it must be 'redis:\/\//);
    expect(refusal({ url: 'localhost:6379' })).toMatch(/`url` is without redis:\/\/; it must be 'redis:\/\//);
    expect(refusal({ host: 'localhost:6379' })).toMatch(/`host` is more than a host; .*the port goes beside/);
    expect(resolve({ host: 'fe80::1%eth0' })).toMatchObject({ host: 'fe80::1%eth0' });
  });

  it('the error for an invalid namespace name begins with kit.namespace', () => {
    const kit = createRedisKit({ url: 'memory:', logger: false });
    for (const name of ['', undefined, null, 7, 'a b', '{x}'] as string[]) {
      expect(() => kit.namespace(name)).toThrow(
        /^kit\.namespace: the name is .*; it must be a string of letters/,
      );
    }
    expect(kit.namespace('tenant-7').prefix).toBe('kit:tenant-7');
  });

  it('createRedisKit() and kit.namespace() throw a ConfigError for invalid options', () => {
    expect(() => createRedisKit({ url: 'http://x' })).toThrow(ConfigError);
    expect(() => createRedisKit({ url: 'memory:', prefix: 'ok' }).namespace('not ok')).toThrow(ConfigError);
  });
});
