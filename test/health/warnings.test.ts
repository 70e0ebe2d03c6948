import { describe, expect, it } from 'vitest';
import { versionWarnings } from '../../src/health/script-flaws.ts';
import { parseInfo, serverWarnings } from '../../src/health/server-info.ts';
import { isRemote, transportWarnings } from '../../src/health/transport.ts';

const HEALTHY = 'role:master\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n';

const warningsOf = (text: string, save = '') => serverWarnings(parseInfo(HEALTHY + text), save);

describe('The warnings about a version', () => {
  it.each([
    ['Redis', '6.0.16', 'older than 6.2'],
    ['Redis', '5.0.7', 'older than 6.2'],
    ['Valkey', '7.0.0', 'older than 7.2'],
  ] as const)('%s %s is too old', (product, version, text) => {
    expect(versionWarnings({ product, version })).toEqual([expect.stringContaining(text)]);
  });

  it.each([
    ['Redis', '6.2.15', /CVE-2024-31449, CVE-2024-46981, CVE-2025-49844.*6\.2\.20 or later/],
    [
      'Redis',
      '6.2.19',
      /\(CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-46819\); upgrade to 6\.2\.20/,
    ],
    ['Redis', '7.0.15', /CVE-2024-31449.*CVE-2026-23631\); upgrade to 7\.2\.14/],
    ['Redis', '7.2.11', /\(CVE-2026-23631\); upgrade to 7\.2\.14/],
    ['Redis', '7.4.5', /CVE-2025-49844.*upgrade to 7\.4\.9/],
    ['Redis', '8.2.1', /CVE-2025-49844.*upgrade to 8\.2\.6/],
    ['Redis', '8.6.2', /\(CVE-2026-23631\); upgrade to 8\.6\.3/],
    ['Valkey', '7.2.10', /CVE-2025-49844.*upgrade to 7\.2\.13/],
    ['Valkey', '8.0.5', /CVE-2025-49844.*upgrade to 8\.0\.8/],
    ['Valkey', '8.1.4', /\(CVE-2025-67733, CVE-2026-23631\); upgrade to 8\.1\.7/],
    ['Valkey', '9.0.3', /\(CVE-2026-23631\); upgrade to 9\.0\.4/],
  ] as const)('%s %s has flaws in its script engine', (product, version, text) => {
    expect(versionWarnings({ product, version })).toEqual([expect.stringMatching(text)]);
  });

  it.each([
    ['Redis', '6.2.20'],
    ['Redis', '6.2.21'],
    ['Redis', '7.2.14'],
    ['Redis', '7.4.9'],
    ['Redis', '8.2.10'],
    ['Redis', '8.8.0'],
    ['Redis', '10.0.0'],
    ['Valkey', '7.2.13'],
    ['Valkey', '8.0.8'],
    ['Valkey', '8.1.10'],
    ['Valkey', '9.0.4'],
    ['Valkey', '9.1.0-rc1'],
  ] as const)('%s %s has no known flaw', (product, version) => {
    expect(versionWarnings({ product, version })).toEqual([]);
  });
});

describe('The warnings about a server', () => {
  it('Valkey is judged by its own version and not by that of Redis which it reports', () => {
    expect(warningsOf('redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.4\r\n')).toEqual([]);
    expect(warningsOf('redis_version:7.2.4\r\nvalkey_version:8.1.3\r\n')).toEqual([
      expect.stringMatching(/^Valkey 8\.1\.3 .*CVE-2025-49844/),
    ]);
  });

  it('a server that imitates Redis is not judged by the version of Redis which it reports', () => {
    expect(warningsOf('redis_version:7.0.0\r\ndragonfly_version:df-v1.30.0\r\n')).toEqual([]);
  });

  it('a server that could not save its data causes a warning', () => {
    expect(warningsOf('rdb_last_bgsave_status:err\r\naof_last_write_status:ok\r\n')).toEqual([
      'the server could not write its data to disk (rdb_last_bgsave_status:err)',
    ]);
  });

  it('a server that hides its eviction policy causes a warning', () => {
    expect(serverWarnings(parseInfo('role:master\r\n'), '3600 1')).toEqual([
      expect.stringContaining('maxmemory-policy could not be read'),
    ]);
  });
});

describe('The warnings about the network', () => {
  it.each([
    ...['localhost', 'redis', 'db.svc', 'cache.default.svc.cluster.local', 'redis.internal', 'nas.local'],
    ...['127.0.0.1', '127.9.9.9', '10.1.2.3', '172.16.0.1', '172.31.255.1', '192.168.0.7', '100.64.0.1'],
    ...['::1', 'fd00::1', 'fe80::1', '::ffff:10.0.0.1', '/run/redis.sock', '169.254.1.1'],
  ])('%s is not remote', (host) => {
    expect(isRemote(host)).toBe(false);
  });

  it.each([
    ...['redis.example.com', 'my.abc123.euw1.cache.amazonaws.com', 'localhost.example.com', '8.8.8.8'],
    ...['172.32.0.1', '192.169.0.1', '100.128.0.1', '2001:db8::1', '::ffff:8.8.8.8', '11.0.0.1'],
  ])('%s is remote', (host) => {
    expect(isRemote(host)).toBe(true);
  });

  it('a remote host without TLS or without a password causes a warning for each', () => {
    const host = 'redis.example.com';
    const both = transportWarnings([{ host, isEncrypted: false, hasPassword: false }]);
    expect(both).toEqual([
      expect.stringContaining('not encrypted'),
      expect.stringContaining('without a password'),
    ]);
    expect(transportWarnings([{ host, isEncrypted: true, hasPassword: true }])).toEqual([]);
    expect(transportWarnings([{ host: '10.0.0.1', isEncrypted: false, hasPassword: false }])).toEqual([]);
  });
});
