import { expect } from 'vitest';
import type { Sandbox } from '../../../src/sandbox/sandbox.ts';
import { test } from '../../support/sandbox-fixture.ts';

/** What there is below the working directory: type, mode, owner, size, link, content, time of a file. */
async function shown(sandbox: Sandbox): Promise<string> {
  const listing = String.raw`find . -mindepth 1 \( -type f -printf '%P %y %m %U:%G %T@ ' -exec sh -c 'sha1sum < "$1"' - {} \; \) -o -printf '%P %y %m %U:%G %l\n' | LC_ALL=C sort`;
  const { stdout, exitCode, stderr } = await sandbox.exec(listing);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

const make = String.raw`
mkdir -p kept/deep replaced-by-file/inner gone/inner shut
echo one > kept/same; echo one > kept/changed; echo one > kept/mode; echo x > replaced-by-file/inner/file; echo x > gone/inner/file
echo x > replaced-by-directory; ln -s same kept/link; ln -s same kept/link-changed; mkfifo pipe
printf 'x' > "$(printf 'odd\377name')"; printf 'x' > "$(printf 'new\nline')"; ln kept/same kept/second-name
find . -type f -exec touch -d '2001-02-03 04:05:06.75' {} +
`;
const change = String.raw`
echo three > kept/changed; chmod 600 kept/mode; chmod 750 kept/deep
ln -sfn elsewhere kept/link-changed
rm -r replaced-by-file gone; echo file > replaced-by-file
rm replaced-by-directory; mkdir replaced-by-directory; echo x > replaced-by-directory/file
mkdir -p new/a/b; echo x > new/a/b/file; chmod 555 new/a/b; ln -s /etc/passwd new/link
printf 'yy' > "$(printf 'odd\377name')"; rm "$(printf 'new\nline')"; printf 'y' > "$(printf 'new\377\nfile')"
touch new/dated; mkfifo new/pipe
find . -type f -newermt 2002-01-01 -exec touch -d '2011-02-03 04:05:06.5' {} +
`;

test('brings what changed in one sandbox into another, whatever it is', async ({ host }) => {
  await using one = await host.create();
  await using other = await host.create();
  for (const sandbox of [one, other]) {
    await sandbox.exec(make);
    await sandbox.fs.checkpoint('base', '.');
  }
  await one.exec(change);
  await other.fs.land('base', one.fs.packChanges('base'));
  const withoutPipes = (listing: string) => listing.split('\n').filter((line) => !line.includes('pipe p'));
  expect(withoutPipes(await shown(other))).toEqual(withoutPipes(await shown(one)));
  expect(await other.fs.readdir('.')).not.toContainEqual(expect.stringContaining('.berth-'));
  // Again: all of it is there.
  await other.fs.land('base', one.fs.packChanges('base'));
});

test('makes a tree as it was', async ({ sandbox }) => {
  await sandbox.exec(make);
  await sandbox.fs.checkpoint('before', '.', { copy: true });
  const before = await shown(sandbox);
  // Such as the checkpoint is, it can be used again.
  for (let times = 0; times < 2; times++) {
    await sandbox.exec(change);
    expect(await shown(sandbox)).not.toBe(before);
    await sandbox.fs.rollback('before');
    expect(await shown(sandbox)).toBe(before);
  }
});
