import { AsyncLocalStorage } from 'node:async_hooks';
import type { Runtime } from './runtime.ts';

/** A run, or the work on a submission. */
export interface Work {
  readonly runtime: Runtime;
  readonly runId?: string;
  /** False from its end on: what it left behind may still call. */
  underWay: boolean;
}

/** The work that the caller is a part of. */
export const currentWork = new AsyncLocalStorage<Work>();
