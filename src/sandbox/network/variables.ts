import { authorityFiles, proxyPort } from '../../protocol/network.ts';

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
  ['JAVA_TOOL_OPTIONS', javaProxy()],
];

/** What common programs look at to find whom to trust, where the host reads what they say to a server. */
export const authorityVariables: [name: string, value: string][] = [
  // Beside those that they bring.
  ...['NODE_EXTRA_CA_CERTS', 'DENO_CERT'].map((name): [string, string] => [name, authorityFiles.own]),
  // In place of those that they bring: OpenSSL, Go, uv and Ruby; Python's requests; pip; curl; git; cargo; the AWS tools; Nix.
  ...[
    ...['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'PIP_CERT', 'CURL_CA_BUNDLE', 'GIT_SSL_CAINFO', 'CARGO_HTTP_CAINFO'],
    ...['AWS_CA_BUNDLE', 'NIX_SSL_CERT_FILE'],
  ].map((name): [string, string] => [name, authorityFiles.bundle]),
  [
    'JAVA_TOOL_OPTIONS',
    `${javaProxy()} -Djavax.net.ssl.trustStore=${authorityFiles.javaStore} -Djavax.net.ssl.trustStoreType=JKS`,
  ],
];

function javaProxy(): string {
  const proxy = (scheme: string) => `-D${scheme}.proxyHost=127.0.0.1 -D${scheme}.proxyPort=${proxyPort}`;
  return `${proxy('http')} ${proxy('https')} -Dhttp.nonProxyHosts=localhost|127.*|[::1]`;
}

function pair(name: string, value: string): [string, string][] {
  return [
    [name, value],
    [name.toUpperCase(), value],
  ];
}
