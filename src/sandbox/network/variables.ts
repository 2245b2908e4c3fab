import { proxyPort } from '../../protocol/network.ts';

const http = `http://127.0.0.1:${proxyPort}`;
const socks = `socks5h://127.0.0.1:${proxyPort}`;
/** What is in the sandbox itself needs no way out. */
const direct = 'localhost,127.0.0.0/8,127.0.0.1,::1,[::1]';

/** What common programs look at to find a proxy. */
export const proxyVariables: [name: string, value: string][] = [
  ...pair('http_proxy', http),
  ...pair('https_proxy', http),
  ...pair('all_proxy', socks),
  ...pair('no_proxy', direct),
  // Node's own fetch and http, from 24 on; global-agent, of older programs.
  ['NODE_USE_ENV_PROXY', '1'],
  ['GLOBAL_AGENT_HTTP_PROXY', http],
  ['npm_config_proxy', http],
  ['npm_config_https_proxy', http],
  ['npm_config_noproxy', direct],
  ['YARN_HTTP_PROXY', http],
  ['YARN_HTTPS_PROXY', http],
  ['CARGO_HTTP_PROXY', http],
  ['PIP_PROXY', http],
  [
    'JAVA_TOOL_OPTIONS',
    ['http', 'https'].map((scheme) => `-D${scheme}.proxyHost=127.0.0.1 -D${scheme}.proxyPort=${proxyPort}`).join(' ') +
      ' -Dhttp.nonProxyHosts=localhost|127.*|[::1]',
  ],
];

function pair(name: string, value: string): [string, string][] {
  return [
    [name, value],
    [name.toUpperCase(), value],
  ];
}
