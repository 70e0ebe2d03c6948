/*
 * Measures the import of redis-kit beside the packages that it replaces: each import in a process of its own, in
 * interleaved rounds. Prints the median and the quartiles.
 */
import { execFileSync } from 'node:child_process';
import { spreadOf } from './statistics.ts';

const ROUNDS = 15;

const IMPORTS: Readonly<Record<string, string>> = {
  'redis-kit': `await import('redis-kit');`,
  'redis-kit, with a first connection': `const { createRedisKit } = await import('redis-kit');
    void createRedisKit({ url: 'redis://localhost:1', logger: false }).close();`,
  'express-session + connect-redis + express-rate-limit + redis': `await import('express-session');
    await import('connect-redis'); await import('express-rate-limit'); await import('redis');`,
};

function measure(code: string): number {
  const program = `const began = performance.now(); ${code} console.log(performance.now() - began);`;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: import.meta.dirname,
    encoding: 'utf8',
  });
  return Number(output);
}

const samples = new Map<string, number[]>(Object.keys(IMPORTS).map((name) => [name, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, code] of Object.entries(IMPORTS)) samples.get(name)?.push(measure(code));
}
console.log('| import | ms |\n|---|---|');
for (const [name, times] of samples) {
  const { median, from, to } = spreadOf(times);
  console.log(`| ${name} | ${median.toFixed(0)} (${from.toFixed(0)} to ${to.toFixed(0)}) |`);
}
