import inject from 'light-my-request';
import { describeAdapter } from './adapter-suite.ts';

// A separate file, since light-my-request changes the prototype of every Express response of the process.
describeAdapter('a response of light-my-request', (app) => async ({ method, path: url, headers }) => {
  const answer = await inject(app as never, { method, url, headers });
  const cookies = answer.headers['set-cookie'] ?? [];
  return {
    status: answer.statusCode,
    text: answer.payload,
    cookies: Array.isArray(cookies) ? cookies : [String(cookies)],
    header: (name) => answer.headers[name],
  };
});
