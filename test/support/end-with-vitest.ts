// Ends this process, and so its servers, when vitest was killed. By SIGKILL, because vitest turns process.exit() in a test
// process into an error.
function endWithVitest(): void {
  process.kill(process.pid, 'SIGKILL');
}

// Without isolation vitest runs this file once per test file, all in one process.
const isListening = process.listeners('disconnect').some(({ name }) => name === endWithVitest.name);
if (!isListening) process.once('disconnect', endWithVitest);
