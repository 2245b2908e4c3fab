import { createRequire, Module } from 'node:module';
import type Dockerode from 'dockerode';

const require = createRequire(import.meta.url);
const ofClient = createRequire(require.resolve('dockerode'));
const ofTransport = createRequire(ofClient.resolve('docker-modem'));

// Two thirds of the time that a command takes to start would go into gRPC and SSH, which dockerode needs for BuildKit and
// for addresses with ssh:// only.
loadWhenCalled(ofClient, './session');
loadWhenCalled(ofTransport, './ssh');

/** Dockerode, with what is seldom needed loaded then. */
export const Docker: typeof Dockerode = require('dockerode');

/** Puts a module in place whose function loads the real one and calls that. */
function loadWhenCalled(require: NodeJS.Require, path: string): void {
  const id = require.resolve(path);
  if (require.cache[id]) return;
  const later = new Module(id);
  later.exports = (...args: unknown[]) => {
    delete require.cache[id];
    return require(id)(...args);
  };
  later.loaded = true;
  require.cache[id] = later;
}
