import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import Docker from 'dockerode';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WorkspaceUnreachableError } from '../../../src/engine/errors.ts';
import { findEngine } from '../../../src/engine/socket.ts';
import { testSandboxes } from './behaviour.ts';
import { type HostOnEngine, openHostOn } from './host-on-engine.ts';
import { answers, install, reasonToSkip, type SecondEngine, startEngine } from './second-engine.ts';

const namespace = `berth-${process.pid}`;
/** Of addresses for documentation, RFC 5737; a machine may use them all the same. */
const network = '198.51.100';
const [here, there] = [`${network}.1`, `${network}.2`];

const certificates = `set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca-key.pem -out ca.pem
sign() {
  openssl req -newkey rsa:2048 -nodes -subj /CN=$1 -keyout $2key.pem -out $2.csr
  printf "$3" > $2.ext
  openssl x509 -req -days 2 -in $2.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -extfile $2.ext -out $2cert.pem
}
sign engine server- 'subjectAltName=IP:${there}'
sign client '' 'extendedKeyUsage=clientAuth'`;

async function makeNamespace(): Promise<void> {
  // An address that is in use would cut the machine off.
  const { stdout: routes } = await execa('ip', ['route', 'show', 'table', 'all']);
  if (routes.includes(network)) throw new Error(`this machine uses ${network}.0/24: the test needs it`);
  const [out, inside] = [`be${process.pid}a`, `be${process.pid}b`];
  const script = `set -e
ip netns add ${namespace}
ip link add ${out} type veth peer name ${inside} netns ${namespace}
ip addr add ${here}/30 dev ${out}
ip link set ${out} up
ip -n ${namespace} addr add ${there}/30 dev ${inside}
ip -n ${namespace} link set ${inside} up
ip -n ${namespace} link set lo up`;
  await execa('sh', ['-c', script]);
}

const name = `an engine on another network, over TLS${reasonToSkip === undefined ? '' : `: ${reasonToSkip}`}`;
describe.skipIf(reasonToSkip !== undefined)(name, () => {
  let engine: SecondEngine;
  let opened: HostOnEngine;
  let folder: string;
  beforeAll(async () => {
    await install({ ip: 'iproute2', openssl: 'openssl' });
    await makeNamespace();
    engine = await startEngine({
      // Not `ip netns exec`: that mounts a /sys without cgroups.
      within: ['nsenter', `--net=/run/netns/${namespace}`],
      prepare: async (path) => {
        await execa('sh', ['-c', certificates], { cwd: path });
        folder = path;
        const file = (one: string) => join(path, one);
        return [
          `--host=tcp://${there}:2376`,
          '--tlsverify',
          `--tlscacert=${file('ca.pem')}`,
          `--tlscert=${file('server-cert.pem')}`,
          `--tlskey=${file('server-key.pem')}`,
        ];
      },
    });
    const [ca, cert, key] = await Promise.all(
      ['ca.pem', 'cert.pem', 'key.pem'].map((one) => readFile(join(folder, one))),
    );
    const address = { protocol: 'https', host: there, port: 2376, ca, cert, key } as const;
    // It listens there a moment later than on its socket.
    await answers(new Docker(address), { exitCode: null }, () => '');
    opened = await openHostOn({ address, docker: engine.docker });
  }, 300_000);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
    await execa('ip', ['netns', 'delete', namespace]); // with its end of the veth, and so the other one
  });

  testSandboxes(
    () => opened.host,
    (id) => opened.wireOf(id),
    { wire: 'exec' },
  );

  test('nothing of this machine is mounted, and a workspace of it is refused', async () => {
    await using sandbox = await opened.host.create();
    const { Mounts } = await engine.docker.getContainer(`berth-${sandbox.id}`).inspect();
    expect(Mounts.map(({ Type }) => Type)).not.toContain('bind');
    const making = opened.host.create({ workspace: { bind: folder } });
    await expect(making).rejects.toBeInstanceOf(WorkspaceUnreachableError);
    await using other = await opened.host.create({ workspace: { volume: 'berth-test-remote' } });
    expect((await other.exec('touch made && ls')).stdout).toBe('made\n');
  });

  test('is found by DOCKER_HOST and its companions, and by a context', async () => {
    const tls = { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: folder };
    const byHost = await findEngine({ env: { DOCKER_HOST: `tcp://${there}:2376`, ...tls } });
    expect(byHost).toMatchObject({ source: 'DOCKER_HOST', url: `tcp://${there}:2376` });
    const config = join(folder, 'config');
    const endpoint = ['ca', 'cert', 'key'].map((one) => `${one}=${join(folder, `${one}.pem`)}`).join(',');
    await execa('docker', ['context', 'create', 'far', '--docker', `host=tcp://${there}:2376,${endpoint}`], {
      env: { DOCKER_CONFIG: config },
    });
    const byContext = await findEngine({ env: { DOCKER_CONFIG: config, DOCKER_CONTEXT: 'far' } });
    expect(byContext).toMatchObject({ source: 'DOCKER_CONTEXT', url: `tcp://${there}:2376` });
  });
});
