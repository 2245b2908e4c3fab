import { SandboxHost } from '../../src/sandbox/host.ts';
import type { Sandbox } from '../../src/sandbox/sandbox.ts';
import { calls } from './calls.ts';

// A process of its own, whose memory is that of a host and of nothing else. It makes the calls that it is told to, of a
// sandbox whose sandbox-agent lies, and meanwhile uses an honest one.

export type Order = { call: string } | 'measure' | 'end';

export type Report =
  | 'ready'
  /** The call has ended. */
  | 'over'
  | {
      /** The most that it has ever had. */
      rssBytes: number;
      /** What the honest sandbox did since the call. */
      honestCalls: number;
      /** What the call rejected with. */
      outcome: string | undefined;
      stray: string[];
    };

const [stateDir = '', liar = '', honest = ''] = process.argv.slice(2);
const report = (what: Report) => void process.send?.(what);
const stray: string[] = [];
process.on('unhandledRejection', (error) => void stray.push(String(error)));
process.on('uncaughtException', (error) => void stray.push(String(error)));

const host = await SandboxHost.open({ stateDir });
const other = await host.connect(honest);

/** Begins to read, and does not go on. */
async function spawnUnread(sandbox: Sandbox): Promise<unknown> {
  const { stdout } = await sandbox.spawn('cat');
  return new Promise((_, reject) => stdout.on('error', reject).read(0));
}

let honestCalls = 0;
let isUsed = false;
let using = Promise.resolve();
async function use(): Promise<void> {
  for (isUsed = true; isUsed; honestCalls++) await other.exec('true');
}

let finish: () => Promise<string | undefined> = async () => undefined;
process.on('message', async (order: Order) => {
  if (order === 'end') {
    await host.close();
    process.disconnect();
  } else if (order === 'measure') {
    isUsed = false;
    await using; // while the flood goes on
    const outcome = await finish();
    report({ rssBytes: process.resourceUsage().maxRSS * 1024, honestCalls, outcome, stray: stray.splice(0) });
  } else {
    const sandbox = await host.find(liar);
    const call = calls[order.call] ?? spawnUnread;
    const outcome = call(sandbox).then(
      () => undefined,
      (error: Error) => `${error.name}: ${error.message}`,
    );
    void outcome.then(() => report('over'));
    finish = async () => {
      await sandbox.close();
      return outcome;
    };
    honestCalls = 0;
    using = use();
  }
});
report('ready');
