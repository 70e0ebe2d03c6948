import { describe } from '../base/describe.ts';
import { ConfigError } from '../base/errors.ts';
import { checkHost, type ServerAddress } from './address.ts';

export interface Environment {
  readonly endpoint: ServerAddress;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number | undefined;
}

/** Reads `REDIS_HOST` and the variables that go with it. An empty variable counts as absent. */
export function readEnvironment(where: string, env: NodeJS.ProcessEnv): Environment {
  if (!env.REDIS_HOST) {
    throw new ConfigError(
      `${where}: nothing says where Redis is; set \`url\` ('redis://localhost:6379', or 'memory:' to try ` +
        `things out), \`host\`, \`path\`, \`cluster\`, \`sentinel\`, \`client\` or \`instance\`, or set REDIS_URL or REDIS_HOST`,
    );
  }
  return {
    endpoint: {
      host: checkHost(`${where}: REDIS_HOST`, env.REDIS_HOST),
      port: numberFrom(where, env, { name: 'REDIS_PORT', min: 1, max: 65_535 }) ?? 6379,
    },
    username: env.REDIS_USERNAME || undefined,
    password: env.REDIS_PASSWORD || undefined,
    db: numberFrom(where, env, { name: 'REDIS_DB', min: 0, max: 2 ** 31 - 1 }),
  };
}

function numberFrom(
  where: string,
  env: NodeJS.ProcessEnv,
  { name, min, max }: { readonly name: string; readonly min: number; readonly max: number },
): number | undefined {
  const text = env[name];
  if (!text) return undefined;
  if (/^\d{1,10}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
  // Kubernetes sets such variables for each Service, after the manner of Docker links.
  const remedy = /^tcp:\/\/[\w.:[\]-]+$/.test(text)
    ? 'Kubernetes sets it for a Service named `redis`; set `enableServiceLinks: false` in the spec of the pod, ' +
      'or set REDIS_URL, or the options `host` and `port`'
    : `it must be a whole number from ${min} to ${max}`;
  throw new ConfigError(`${where}: ${name} is ${describe(text)}; ${remedy}`);
}
