import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));

const program = `
import { SandboxHost } from 'berth/sandbox';

const shows = async ({ output }) => {
  for await (const bytes of output) if (String(bytes).includes('on the screen')) return;
  throw new Error('the terminal shows something else');
};
const host = await SandboxHost.open();
const sandbox = await host.create();
try {
  await sandbox.fs.writeFile('greeting', 'hello');
  console.log((await sandbox.exec('cat greeting')).stdout);
  const terminal = await sandbox.pty({ command: ['sh', '-c', 'echo on the screen; sleep 600'], cols: 80, rows: 24 });
  await shows(terminal);
  await shows(await sandbox.attachPty(terminal.id));
  console.log('restored');
} finally {
  await sandbox.remove();
  await host.close();
}
`;

test('the package has all that it takes, installed from what is published', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'berth-package-'));
  try {
    await execa('npm', ['pack', '--pack-destination', folder], { cwd: root });
    const [tarball = ''] = await readdir(folder);
    await writeFile(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    await execa('npm', ['install', '--no-audit', '--no-fund', join(folder, tarball)], { cwd: folder });
    await writeFile(join(folder, 'program.js'), program);
    const cli = await execa('npx', ['berth', '--version'], { cwd: folder });
    const { stdout } = await execa(process.execPath, ['program.js'], { cwd: folder });
    expect(stdout.split('\n')).toEqual(['hello', 'restored']);
    expect(cli.stdout).toMatch(/^\d+\.\d+\.\d+/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
