import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: {
    // Tests and examples that import the package by its name run on the sources.
    alias: [{ find: /^redis-kit$/, replacement: fileURLToPath(new URL('./src/index.ts', import.meta.url)) }],
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/end-with-vitest.ts'],
    testTimeout: 20_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
    // Tests start and kill processes and may end their own; a fork keeps that apart, and two keep within a small machine.
    pool: 'forks',
    maxWorkers: 2,
    unstubEnvs: true,
  },
});
