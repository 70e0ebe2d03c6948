import { ConnectionError } from '../base/errors.ts';
import { ReplyError } from '../engine/port.ts';
import type { Adapter } from './adapter.ts';

/** Patterns of codes and messages of errors, and what to do about them. */
const REMEDIES: readonly (readonly [RegExp, string])[] = [
  [
    /^(?:SELF_SIGNED_CERT|DEPTH_ZERO_SELF|UNABLE_TO_(?:GET_ISSUER|VERIFY_LEAF))/,
    'Node.js does not trust the authority of this certificate; set `tls.ca` to the certificate of the authority',
  ],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID/,
    'connect by a name that is in the certificate, or set `tls.servername` to such a name',
  ],
  [/^ERR_SSL_\w*CERTIFICATE_REQUIRED/, 'set `tls.cert` and `tls.key`'],
  [
    /^ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)/,
    'the server does not speak TLS on this port; use redis: in place of rediss:, or the TLS port',
  ],
  [
    /^ECONNRESET|Socket closed unexpectedly|Unknown RESP type 21/,
    'the server closed the connection; check whether its port needs TLS (rediss:, or `tls`) ' +
      'and a client certificate (`tls.cert` and `tls.key`)',
  ],
  [
    /Connection timeout/,
    'check the address and the firewall; with rediss: or `tls`, also check that the server speaks TLS on this port',
  ],
  [/ sentinel \S+: (?:NOAUTH|WRONGPASS) /, 'check `sentinelUsername` and `sentinelPassword`'],
  [
    /unknown command .SENTINEL/i,
    'a Redis server listens there and no sentinel; the port of sentinels is 26379 by default',
  ],
  [/ NOAUTH /, 'set `password`'],
  [
    / WRONGPASS /,
    'check `username` and `password`; in a URL, a password without a user name follows a colon (redis://:password@host)',
  ],
  [/cluster support disabled/, 'this Redis is no cluster; use `url` in place of `cluster`'],
];

/** An error with the reason, and with the remedy for a usual mistake if the connection has never been up. */
export function unreachable(what: string, cause: Error | undefined, wasUp: boolean): ConnectionError {
  if (cause === undefined) return new ConnectionError(what);
  const code = 'code' in cause ? String(cause.code) : '';
  const remedy = REMEDIES.find(([pattern]) => pattern.test(`${code} ${cause.message}`))?.[1];
  const advice = wasUp || remedy === undefined ? '' : `; ${remedy}`;
  return new ConnectionError(`${what}: ${reasonOf(cause)}${advice}`, { cause });
}

/** Messages of OpenSSL contain names of its source files, and a line feed. */
function reasonOf({ name, message }: Error): string {
  return /:SSL routines:[^:]*:([^:]+):/.exec(message)?.[1] ?? (message || name);
}

/** Explains the replies of a server to which the address should not lead, and reports the first of them. */
export class WrongServerReplies {
  readonly #report: (error: Error) => void;
  #isReported = false;

  constructor(report: (error: Error) => void) {
    this.#report = report;
  }

  explain(error: ReplyError, mode: Adapter['mode']): ReplyError {
    const explanation = mode === 'cluster' ? undefined : explanationOf(error.message);
    if (explanation === undefined) return error;
    const explained = new ReplyError(`${error.message} (${explanation})`);
    if (!this.#isReported) this.#report(explained);
    this.#isReported = true;
    return explained;
  }
}

function explanationOf(message: string): string | undefined {
  if (message.startsWith('MOVED ')) {
    return (
      'this Redis is a node of a cluster, and other nodes have a part of the keys; ' +
      'connect with the option `cluster`, or pass a client for clusters'
    );
  }
  if (/^ERR unknown command .(?:EVALSHA|SET)\b/i.test(message)) {
    return 'a sentinel listens there; connect with the option `sentinel`';
  }
  return undefined;
}
