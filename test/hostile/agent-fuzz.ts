import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { encodeFrame } from '../../src/protocol/frame.ts';
import { encodeMessage } from '../../src/protocol/messages.ts';
import { socketName } from '../../src/protocol/socket.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { StateDir } from '../../src/sandbox/state-dir.ts';
import type { OpenedHost } from '../support/sandbox-fixture.ts';
import { assertFor, type FuzzOptions } from './fuzz.ts';
import { lieSpecs, teller } from './lies.ts';
import { LyingHost, requestKinds } from './lying-host.ts';

const run = promisify(execFile);

/** Opens a sandbox, and a host of it that need not keep to the protocol. */
async function withLiar<Result>(
  { host, stateDir }: OpenedHost,
  use: (sandbox: Sandbox, liar: LyingHost) => Promise<Result>,
): Promise<Result> {
  await using sandbox = await host.create();
  const state = await StateDir.open(stateDir);
  try {
    return await use(sandbox, new LyingHost(join(stateDir, 'wire', sandbox.id, socketName), sandbox.id, state));
  } finally {
    state.close();
  }
}

/** The most memory that the sandbox-agent has ever had. */
export async function peakBytes(sandboxId: string): Promise<number> {
  const { stdout } = await run('docker', ['inspect', '--format', '{{.State.Pid}}', `berth-${sandboxId}`]);
  const status = await readFile(`/proc/${stdout.trim()}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** For what the first request of a kind loads and leaves: a terminal a thread, which is half of all that. */
const loadMs = 100;

/**
 * Asks a sandbox-agent for anything, with lies, and throws with the shortest conversation after which it does not serve
 * its honest host. @returns by how much its memory grew, beyond what it takes to be asked for each thing once
 */
export async function fuzzAgent(opened: OpenedHost, options: FuzzOptions): Promise<number> {
  return withLiar(opened, async (sandbox, liar) => {
    for (let kind = 0; kind < requestKinds; kind++) await liar.converse([kind], teller([]), loadMs);
    await sandbox.exec('true');
    const before = await peakBytes(sandbox.id);
    const conversation = fc.record({
      kinds: fc.array(fc.nat(requestKinds - 1), { minLength: 1, maxLength: 6 }),
      lies: lieSpecs,
    });
    await assertFor(
      fc.asyncProperty(conversation, async ({ kinds, lies }) => {
        await liar.converse(kinds, teller(lies), 15);
        const { stdout } = await sandbox.exec('echo on');
        if (stdout !== 'on\n') throw new Error(`its honest host got ${JSON.stringify(stdout)}`);
      }),
      options,
    );
    return (await peakBytes(sandbox.id)) - before;
  });
}

/** Asks without end and takes no answer, until the connection is closed. @returns as `fuzzAgent` */
export async function floodAgent(opened: OpenedHost): Promise<number> {
  return withLiar(opened, async (sandbox, liar) => {
    await sandbox.exec('true');
    const before = await peakBytes(sandbox.id);
    const { wire } = await liar.connect();
    wire.deafen();
    const path = `/${'x'.repeat(4_000)}`; // the answer names it, too
    const questions = Array.from({ length: 200 }, (_, requestId) =>
      encodeFrame({ kind: 'message', payload: encodeMessage({ type: 'fs.stat', requestId, path, follow: true }) }),
    );
    const many = Buffer.concat(questions.flat());
    while (await wire.drained()) wire.send(many);
    const { stdout } = await sandbox.exec('echo on');
    if (stdout !== 'on\n') throw new Error(`its honest host got ${JSON.stringify(stdout)}`);
    return (await peakBytes(sandbox.id)) - before;
  });
}
