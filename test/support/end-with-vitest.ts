// A test that waits for something would otherwise outlive a vitest that was killed, and its servers with it. SIGKILL,
// because vitest turns process.exit() in a test's process into an error.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
