import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { compiledSources } from './test/support/compiled-kit.ts';

export default defineConfig({
  plugins: [compiledSources()],
  resolve: {
    // Tests and examples that import the package by its name run on the sources.
    alias: [{ find: /^redis-kit$/, replacement: fileURLToPath(new URL('./src/index.ts', import.meta.url)) }],
  },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/end-with-vitest.ts'],
    // For what hangs. They must not end what a loaded machine only slows down.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
    // Tests start and kill processes and may end their own; a fork keeps that apart. Many tests wait for servers, so that
    // three forks use a machine of two cores.
    pool: 'forks',
    maxWorkers: 3,
    unstubEnvs: true,
    server: { deps: { external: [/\/\.cache\/run-/] } },
  },
});
