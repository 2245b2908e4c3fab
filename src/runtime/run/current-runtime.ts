import { AsyncLocalStorage } from 'node:async_hooks';
import type { Runtime } from './runtime.ts';

/** The runtime whose work the caller is a part of. */
export const currentRuntime = new AsyncLocalStorage<Runtime>();
