import { ReplyError } from '../engine/port.ts';

/** An error reply that says that a node cannot serve commands, or not this one at this time. */
export interface Refusal {
  /**
   * `node`: each command fails. `slot`: each command for the slot fails, and the node serves its other slots. `writes`:
   * the node serves commands that only read. `command`: the reply says nothing about other commands.
   */
  readonly scope: 'node' | 'slot' | 'writes' | 'command';
  /** When the socket is replaced, since the address may lead to another node by now. */
  readonly replaceSocket: 'at once' | 'if it lasts' | 'never';
  /** Whether the command certainly had no effect and may succeed soon, so that it is sent again within its time. */
  readonly mayRetry: boolean;
}

const RETRY = { replaceSocket: 'never', mayRetry: true } as const;
const WRONG_NODE = { scope: 'node', replaceSocket: 'at once', mayRetry: true } as const;
const WRITES_FAIL = { scope: 'writes', replaceSocket: 'never', mayRetry: false } as const;

/** Replies that Redis sends before it runs any part of a command or script. */
const BEFORE_RUNNING: Readonly<Record<string, Refusal>> = {
  TRYAGAIN: { scope: 'command', ...RETRY },
  ASK: { scope: 'command', ...RETRY },
  BUSY: { scope: 'command', ...RETRY },
  LOADING: { scope: 'node', replaceSocket: 'if it lasts', mayRetry: true },
  CLUSTERDOWN: { scope: 'node', ...RETRY },
  NOAUTH: WRONG_NODE,
};

/**
 * Replies that a command or a write of a script may get. A replica refuses each write, so a script that got READONLY or
 * MASTERDOWN has written nothing. The causes of MISCONF and NOREPLICAS last longer than a command may wait.
 */
const FOR_WRITES: Readonly<Record<string, Refusal>> = {
  READONLY: WRONG_NODE,
  MASTERDOWN: WRONG_NODE,
  MISCONF: WRITES_FAIL,
  NOREPLICAS: WRITES_FAIL,
};

const UNSERVED_SLOT: Refusal = { scope: 'slot', ...RETRY };

/** Returns undefined for any other error, also for an error reply to a command that may have had an effect. */
export function refusalOf(error: unknown): Refusal | undefined {
  if (!(error instanceof ReplyError)) return undefined;
  const { message } = error;
  if (message.startsWith('CLUSTERDOWN Hash slot not served')) return UNSERVED_SLOT;
  // Redis closes a connection without authentication that sends a command of more than ten arguments.
  if (message.startsWith('ERR Protocol error: unauthenticated')) return WRONG_NODE;
  const isFromScript = / script: |^ERR Error running script/.test(message);
  // Redis 6 puts the reply to a command of a script into a sentence of its own.
  const word = /^(?:ERR Error running script.*? -)?([A-Z]+) /.exec(message)?.[1] ?? '';
  const known = isFromScript ? FOR_WRITES : { ...BEFORE_RUNNING, ...FOR_WRITES };
  return Object.hasOwn(known, word) ? known[word] : undefined;
}
