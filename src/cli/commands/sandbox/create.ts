import type { CreateOptions } from '../../../sandbox/index.ts';
import { complain } from '../../failure.ts';
import { pairs, withHost } from '../../host.ts';
import { Interruption } from '../../interruption.ts';
import { policyOf } from '../../network-policy.ts';
import { printJson, sayProgress } from '../../output.ts';

interface Options {
  id?: string;
  key?: string;
  image?: string;
  env: string[];
  label: string[];
  user?: string;
  cwd?: string;
  memory?: number;
  cpus?: number;
  pids?: number;
  disk?: number;
  runtime?: string;
  idleTimeout?: number;
  maxLifetime?: number;
  network?: 'none' | 'open';
  allow: string[];
  json?: boolean;
}

export async function create(given: Options): Promise<number> {
  const { json, env, label, memory, cpus, pids, disk, network: named, allow, ...rest } = given;
  const network = policyOf(named, allow);
  const options: CreateOptions = {
    ...rest,
    env: pairs('--env', env),
    labels: pairs('--label', label),
    ...(network !== undefined && { network }),
    limits: {
      ...(memory !== undefined && { memory }),
      ...(cpus !== undefined && { cpus }),
      ...(pids !== undefined && { pids }),
      ...(disk !== undefined && { disk }),
    },
  };
  const interruption = new Interruption({ onFirst: () => sayProgress('stopping: removes the sandbox') });
  return withHost(async (host) => {
    const sandbox = await host.create({ ...options, signal: interruption.signal }).catch((error: unknown) => {
      if (interruption.code === undefined) throw error;
    });
    if (interruption.code !== undefined || !sandbox) {
      await sandbox?.remove();
      return interruption.code ?? 1;
    }
    const info = await sandbox.info();
    for (const limit of info.unlimited ?? []) {
      if (limit !== 'disk')
        complain(`the container engine does not hold sandbox ${sandbox.id} to its limit of ${limit}`);
    }
    if (json) printJson(info);
    else process.stdout.write(`${sandbox.id}\n`);
    return 0;
  });
}
