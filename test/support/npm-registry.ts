import { createHash } from 'node:crypto';
import type { RequestListener } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Sandbox } from '../../src/sandbox/index.ts';

/**
 * A registry of npm packages that has one, `greeting`, whose export is the text `installed`.
 * @param url - where it is asked
 */
export async function npmRegistry(url: () => string): Promise<RequestListener> {
  const tar = pack();
  tar.entry({ name: 'package/package.json' }, JSON.stringify({ name: 'greeting', version: '1.0.0', main: 'main.js' }));
  tar.entry({ name: 'package/main.js' }, "module.exports = 'installed'");
  tar.finalize();
  const tarball = gzipSync(await buffer(tar));
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
  const path = '/greeting/-/greeting-1.0.0.tgz';
  return (request, response) => {
    if (request.url === path) return void response.end(tarball);
    if (request.url !== '/greeting') return void response.writeHead(404).end();
    const version = { name: 'greeting', version: '1.0.0', dist: { tarball: `${url()}${path}`, integrity } };
    const time = { '1.0.0': '2020-01-01T00:00:00.000Z' }; // yarn takes no version that is new
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ name: 'greeting', 'dist-tags': { latest: '1.0.0' }, versions: { '1.0.0': version }, time }),
    );
  };
}

/** What installs `greeting` from the registry at `$REGISTRY`, with the folder of this machine that it comes from. */
export interface PackageManager {
  from: string;
  command: string;
}

const installed = (name: string) => fileURLToPath(new URL(`../../node_modules/${name}`, import.meta.url));
export const packageManagers = {
  'yarn 1': {
    from: installed('yarn'),
    command: 'node /tmp/manager/bin/yarn.js add --registry $REGISTRY greeting',
  },
  'yarn 4': {
    from: installed('@yarnpkg/cli-dist'),
    command:
      'YARN_NODE_LINKER=node-modules YARN_NPM_REGISTRY_SERVER=$REGISTRY node /tmp/manager/bin/yarn.js add greeting',
  },
  'pnpm 10': {
    from: installed('pnpm'),
    command: 'node /tmp/manager/bin/pnpm.cjs add --registry $REGISTRY greeting',
  },
} satisfies Record<string, PackageManager>;

export async function bring(sandbox: Sandbox, { from }: PackageManager): Promise<void> {
  await sandbox.fs.rm('/tmp/manager', { recursive: true, force: true });
  await sandbox.fs.mkdir('/tmp/manager');
  await sandbox.fs.upload(from, '/tmp/manager');
}

/** In a new project, with nothing kept from before; prints what was installed at the end. */
export function installing({ command }: Pick<PackageManager, 'command'>): string {
  const fresh =
    'rm -rf project ~/.cache ~/.local ~/.npm ~/.yarn; mkdir project && cd project && echo {} > package.json';
  return `${fresh} && ${command} && node -p "require('greeting')"`;
}
