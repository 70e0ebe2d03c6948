// Ends this process, and so its servers, when vitest was killed. By SIGKILL, because vitest turns process.exit() in a test
// process into an error.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
