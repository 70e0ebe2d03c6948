import { describe, expect, it } from 'vitest';
import type { IdempotencyOptions } from '../../src/index.ts';
import { kitForTest } from '../support/kits.ts';

describe('The options of kit.idempotency', () => {
  it.each([
    [null, 'options must be an object'],
    [{ header: '' }, "`header` is ''"],
    [{ header: 'Idempotency Key' }, "`header` is 'Idempotency Key'"],
    [{ required: 'yes' }, '`required`'],
    [{ methods: [] }, '`methods` is an array of 0'],
    [{ methods: 'POST' }, "`methods` is 'POST'"],
    [{ methods: ['POST', 7] }, '`methods`'],
    [{ scope: 'user' }, "`scope` is 'user'"],
    [{ fingerprint: true }, '`fingerprint` is true'],
    [{ lease: '99ms' }, 'at least 100 ms'],
    [{ lease: '25d' }, 'at most 24 days'],
    [{ maxRun: '25d' }, 'at most 24 days'],
    [{ maxRun: 0 }, '`maxRun` is 0'],
    [{ retention: -1 }, '`retention` is -1'],
    [{ retention: Number.NaN }, '`retention` is NaN'],
    [{ maxBody: -1 }, '`maxBody` is -1'],
    [{ maxBody: 2 ** 40 }, '`maxBody`'],
    [{ inFlight: 'queue' }, "`inFlight` is 'queue'; it must be one of 'reject', 'wait'"],
    [{ store: [200] }, '`store`'],
    [{ onError: 'memory' }, "`onError` is 'memory'"],
    [{ handler: 409 }, '`handler` is 409'],
    [{ ttl: '1h' }, 'unknown option `ttl`'],
    [{ retentoin: '1h' }, 'did you mean `retention`?'],
  ])('kit.idempotency refuses invalid options: %j', (options, part) => {
    const kit = kitForTest({ url: 'memory:' });
    expect(() => kit.idempotency(options as IdempotencyOptions)).toThrow(part);
  });

  it('kit.idempotency accepts absent options and options that are undefined', () => {
    const kit = kitForTest({ url: 'memory:' });
    expect(kit.idempotency()).toHaveProperty('name', 'idempotency');
    expect(kit.idempotency({ lease: undefined, scope: undefined, maxBody: undefined })).toBeTypeOf(
      'function',
    );
  });
});
