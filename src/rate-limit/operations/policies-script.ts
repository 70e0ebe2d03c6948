import type { Operation } from '../../engine/operation.ts';
import type { AlgorithmLua, LimitAlgorithm, PolicyNumbers } from './algorithm.ts';

/** One policy of an operation. The policy's key has the same index in KEYS. */
export interface PolicyArgs {
  readonly algorithm: LimitAlgorithm;
  readonly numbers: PolicyNumbers;
}

/** Writes the parts of a script that depend on the algorithms of its policies. */
export interface PoliciesLua {
  /**
   * Opens the policies of KEYS. `at` is the Lua of the index in ARGV at which the code of policy `i` is; its limit, span
   * and rate follow.
   */
  open(at: string): string;
  /** Runs a block for each policy `i`, with the variables of its state. */
  each(block: (algorithm: AlgorithmLua) => string): string;
}

/** The variables of a policy, in the order in which a script keeps them while it works on another policy. */
function variablesOf({ state }: AlgorithmLua): string {
  return ['key', 'limit', 'span', 'rate', 'found', 'wait', 'charged', ...state].join(', ');
}

/** Keeps the state in local variables of the script: this costs half the time of a table. */
function onePolicy({ lua }: LimitAlgorithm): PoliciesLua {
  return {
    open: (at) => /* lua */ `
local i = 1
local ${variablesOf(lua)}
${lua.helpers}
local argument = ${at}
key, limit, span, rate = KEYS[1], ARGV[argument + 1] + 0, ARGV[argument + 2] + 0, ARGV[argument + 3] + 0
found, wait, charged = 0, 0, false
${lua.open}`,
    each: (block) => `do ${block(lua)} end\n`,
  };
}

function severalPolicies(algorithms: readonly LimitAlgorithm[]): PoliciesLua {
  const choose = (block: (algorithm: AlgorithmLua) => string) =>
    algorithms
      .map(({ code, lua }) => `if code == '${code}' then\n${block(lua)}\nelse`)
      .join('')
      .concat(`\n  error('unknown algorithm')\nend`);
  return {
    open: (at) => /* lua */ `
local states, codes = {}, {}
for i = 1, #KEYS do
  local argument = ${at}
  local code = ARGV[argument]
  codes[i] = code
  ${choose(
    (lua) => /* lua */ `
  local ${variablesOf(lua)}
  ${lua.helpers}
  key, limit, span, rate = KEYS[i], ARGV[argument + 1] + 0, ARGV[argument + 2] + 0, ARGV[argument + 3] + 0
  found, wait, charged = 0, 0, false
  ${lua.open}
  states[i] = { ${variablesOf(lua)} }`,
  )}
end
`,
    each: (block) => /* lua */ `
for i = 1, #KEYS do
  local s, code = states[i], codes[i]
  ${choose(
    (lua) => /* lua */ `
  local ${variablesOf(lua)} = unpack(s, 1, ${variablesOf(lua).split(',').length})
  ${lua.helpers}
  ${block(lua)}
  states[i] = { ${variablesOf(lua)} }`,
  )}
end
`,
  };
}

/**
 * Returns a function that returns the operation for policies of certain algorithms. Its script has the code of these
 * algorithms only. `define` is called once for each set of algorithms.
 */
export function operationsByAlgorithms<Args, Reply>(
  define: (policies: PoliciesLua) => Operation<Args, Reply>,
): (policies: readonly PolicyArgs[]) => Operation<Args, Reply> {
  const operations = new Map<string, Operation<Args, Reply>>();
  return (policies) => {
    const algorithms = [...new Set(policies.map(({ algorithm }) => algorithm))];
    algorithms.sort((a, b) => (a.code < b.code ? -1 : 1));
    const [only] = algorithms;
    const isOne = policies.length === 1 && only !== undefined;
    const name = `${policies.length === 1 ? '' : '+'}${algorithms.map(({ code }) => code).join('')}`;
    const operation = operations.get(name) ?? define(isOne ? onePolicy(only) : severalPolicies(algorithms));
    operations.set(name, operation);
    return operation;
  };
}

/** A policy in the form that `open` reads. */
export function encodePolicy({ algorithm, numbers }: PolicyArgs): string[] {
  return [algorithm.code, ...numbers.map(String)];
}
