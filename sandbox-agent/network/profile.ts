import { rmSync, statSync } from 'node:fs';
import type { NetworkServe } from '../../src/protocol/network.ts';
import { asRoot } from '../identity.ts';
import { replaceSmallFile } from '../small-file.ts';

const path = '/etc/profile.d/berth.sh';
const head = '# Berth: the way out of this sandbox, for login shells that begin with an empty environment\n';

/** Gives the variables of the network to shells that get none: those of `su -`, say. */
export class Profile {
  #env: NetworkServe['env'] | undefined = [];
  #written: string | undefined;

  /** What is there is of a sandbox-agent before, in a fork even that of its parent. */
  constructor() {
    this.set(undefined);
  }

  set(env: NetworkServe['env'] | undefined): void {
    if (env === this.#env) return;
    this.#env = env;
    const lines = (env ?? []).map(
      ([name, value]) => `[ -n "\${${name}+x}" ] || export ${name}='${value.replaceAll("'", "'\\''")}'\n`,
    );
    const text = lines.length === 0 ? '' : head + lines.join('');
    if (text === this.#written) return;
    this.#written = text;
    try {
      asRoot(() => {
        if (text === '') rmSync(path, { force: true });
        else if (statSync('/etc/profile.d', { throwIfNoEntry: false })?.isDirectory()) replaceSmallFile(path, text);
      });
    } catch (error) {
      // Such shells do without.
      console.error(`${path} can’t be written:`, error);
    }
  }
}
