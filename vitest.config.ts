import { fileURLToPath } from 'node:url';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import { compiledSources } from './test/support/compiled-kit.ts';

/** The files that need a process of their own. */
const ALONE = [
  // They measure the heap.
  'test/base/bounded-map.test.ts',
  'test/cache/store/namespaces.test.ts',
  // They count the timers of the process.
  'test/waiting/alarm.test.ts',
  'test/waiting/leases.test.ts',
  // Without the properties that session middleware of other files adds to the prototypes of requests.
  'test/session/called-apps.test.ts',
  // light-my-request changes the prototypes of `express.request` and `express.response`, which all apps share.
  'test/http/light-my-request.test.ts',
  'test/http/response/partial-responses.test.ts',
  'test/http/response/response-prototype.test.ts',
];

function project(
  name: string,
  test: NonNullable<TestProjectInlineConfiguration['test']>,
): TestProjectInlineConfiguration {
  return {
    plugins: [compiledSources()],
    resolve: {
      // Tests and examples that import the package by its name run on the sources.
      alias: [
        { find: /^redis-kit$/, replacement: fileURLToPath(new URL('./src/index.ts', import.meta.url)) },
      ],
    },
    test: {
      name,
      setupFiles: ['test/support/end-with-vitest.ts'],
      // For what hangs. They must not end what a loaded machine only slows down.
      testTimeout: 120_000,
      hookTimeout: 120_000,
      // Tests start and kill processes and may end their own; a fork keeps that apart.
      pool: 'forks',
      unstubEnvs: true,
      server: { deps: { external: [/\/\.cache\/run-/] } },
      ...test,
    },
  };
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    // Most of the time of a test is waiting, so that five forks use a machine of two cores.
    maxWorkers: 5,
    teardownTimeout: 60_000,
    projects: [
      // Most files share a process: to load the packages again for each would take longer than most of the tests.
      project('shared process', { include: ['test/**/*.test.ts'], exclude: ALONE, isolate: false }),
      project('own process', { include: ALONE }),
    ],
  },
});
