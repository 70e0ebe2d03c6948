import type { Deadline } from '../engine/deadline.ts';
import { eventLoopTurn } from '../engine/event-loop-turn.ts';
import type { Engine } from '../engine/port.ts';
import type { PolicyGroup, SharedTake, TakingEngine } from './decision.ts';
import { limitTake, type TakeReply } from './operations/take.ts';

/** The most requests that one command decides, so that its script does not delay other clients of Redis. */
const MAX_REQUESTS = 64;

/**
 * The engine of one limiter. Requests of one group that arrive in the same turn of the event loop share a command: their
 * costs are one argument, and each gets the decision that it would get alone. A request does not wait for others,
 * since the client writes a command at the end of the turn in any case.
 */
export class SharedTakes implements TakingEngine {
  readonly #engine: Engine;
  #commands = 0;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Takes the cost from all policies of the group. Resolves to one reply per policy. */
  take(group: PolicyGroup, cost: number, deadline: Deadline | undefined): Promise<readonly TakeReply[]> {
    const timeoutMs = deadline?.remainingMs();
    const turn = eventLoopTurn();
    const { shared } = group;
    // Requests with the same time left share a command, so that none waits shorter or longer than alone.
    const isJoined =
      shared !== undefined &&
      shared.turn === turn &&
      shared.commands === this.#commands &&
      shared.timeoutMs === timeoutMs &&
      shared.costs.length < MAX_REQUESTS;
    return isJoined ? this.#join(shared, group, cost, deadline) : this.#begin(turn, group, cost, deadline);
  }

  #begin(
    turn: number,
    group: PolicyGroup,
    cost: number,
    deadline: Deadline | undefined,
  ): Promise<readonly TakeReply[]> {
    const { keys, policies } = group;
    const args = { mode: 'take', costs: [cost], policies } as const;
    const timeoutMs = deadline?.remainingMs();
    const command = this.#engine.runAmendable?.(limitTake(policies), keys, args, deadline);
    if (command === undefined) return this.#engine.run(limitTake(policies), keys, args, deadline);
    const { reply, amend } = command;
    const shared = { costs: [cost], turn, commands: this.#commands, timeoutMs, replies: reply, amend };
    group.shared = shared;
    // The group is remembered for a long time, and must not keep what belongs to one request.
    const forget = () => {
      if (group.shared === shared) group.shared = undefined;
    };
    return reply.then(
      (replies) => {
        forget();
        return shared.costs.length === 1 ? replies : replies.slice(0, policies.length);
      },
      (error: unknown) => {
        forget();
        throw error;
      },
    );
  }

  async #join(
    shared: SharedTake,
    group: PolicyGroup,
    cost: number,
    deadline: Deadline | undefined,
  ): Promise<readonly TakeReply[]> {
    const { length } = group.policies;
    const from = shared.costs.length * length;
    shared.costs.push(cost);
    shared.amend(shared.costs.join());
    deadline?.begin();
    let replies: readonly TakeReply[];
    try {
      replies = await shared.replies;
    } finally {
      deadline?.end();
    }
    // If the command was written before the cost joined it, the cost was not charged and needs a command of its own.
    if (replies.length <= from) return this.#begin(eventLoopTurn(), group, cost, deadline);
    return replies.slice(from, from + length);
  }

  /** A later request must not be decided before this operation, so it does not join an earlier command. */
  run: Engine['run'] = (operation, keys, args, deadline) => {
    this.#commands++;
    return this.#engine.run(operation, keys, args, deadline);
  };

  delete(keys: readonly string[], deadline?: Deadline): Promise<number> {
    this.#commands++;
    return this.#engine.delete(keys, deadline);
  }

  scan: Engine['scan'] = (pattern) => this.#engine.scan(pattern);
}
