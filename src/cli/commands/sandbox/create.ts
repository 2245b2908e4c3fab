import type { CreateOptions } from '../../../sandbox/index.ts';
import { pairs, withHost } from '../../host.ts';
import { Interruption } from '../../interruption.ts';
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
  idleTimeout?: number;
  maxLifetime?: number;
  json?: boolean;
}

export async function create({ json, env, label, memory, cpus, pids, ...rest }: Options): Promise<number> {
  const options: CreateOptions = {
    ...rest,
    env: pairs('--env', env),
    labels: pairs('--label', label),
    limits: {
      ...(memory !== undefined && { memory }),
      ...(cpus !== undefined && { cpus }),
      ...(pids !== undefined && { pids }),
    },
  };
  const interruption = new Interruption({ onFirst: () => sayProgress('stopping: removes the sandbox') });
  return withHost(async (host) => {
    const sandbox = await host.create(options);
    if (interruption.code !== undefined) {
      await sandbox.remove();
      return interruption.code;
    }
    if (json) printJson(await sandbox.info());
    else process.stdout.write(`${sandbox.id}\n`);
    return 0;
  });
}
