import { closeSync, constants, lstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Problems } from '../define/checks.ts';
import { DefinitionError } from '../define/errors.ts';
import { pathText } from '../schema/path.ts';
import { checkFiles, makeSkill, maxFiles, maxFilesBytes, maxSkillBytes, type SkillReference } from './skill.ts';
import { parseSkillFile } from './skill-file.ts';

const leftOut = new Set(['.git', 'node_modules', '.DS_Store']);

/** What people keep secrets in. A model would be shown what is in it, and the provider of that model too. */
const secret = new RegExp(
  [
    /^\.(env|dev\.vars)/,
    /^\.(ssh|aws|gnupg|kube|docker|netrc|npmrc|pypirc|pgpass|htpasswd|git-credentials)$/,
    /^_netrc$/,
    /^id_(rsa|dsa|ecdsa|ed25519)(_sk)?$/,
    /^(secrets?|credentials?)(\..*)?$/,
    /\.(key|pem|p12|pfx|ppk|jks|keystore|kdbx)$/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'i',
);

/**
 * Loads a skill from a folder of this machine, at once: call it when the program starts. Its `SKILL.md` says what it is,
 * its other files are brought along, but for `.git` and `node_modules`.
 * @param directory - a path, or a `file:` URL; relative ones start at the working directory of the process
 * @throws {DefinitionError} with everything that is wrong with the folder: also a symbolic link in it, and a name like
 * those of secrets (`.env`, `id_rsa`, `*.pem`)
 * @example const review = loadSkill(new URL('./skills/review', import.meta.url));
 */
export function loadSkill(directory: string | URL): SkillReference {
  const definition = `The skill in ${directory}`;
  const problems = new Problems(definition);
  try {
    const root = hostPath(directory);
    const paths = filesBelow(problems, root);
    problems.throwIfAny();
    const read = (path: string) => readUnlinked(join(root, path));
    const files = paths.filter((path) => path !== 'SKILL.md').map((path) => [path, read(path)] as const);
    checkFiles(problems, files);
    return makeSkill(parseSkillFile(problems, read('SKILL.md'), basename(root)), files);
  } catch (error) {
    if (error instanceof DefinitionError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new DefinitionError(definition, [{ path: '', message: `can't be read: ${reason}` }], { cause: error });
  }
}

function readUnlinked(path: string): Buffer {
  const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return readFileSync(file);
  } finally {
    closeSync(file);
  }
}

/** @throws what Node says of what is neither a path nor a URL of a file */
function hostPath(directory: string | URL): string {
  return resolve(directory instanceof URL ? fileURLToPath(directory) : directory);
}

/** The paths of all files. What is wrong with any is a problem; nothing is read yet. */
function filesBelow(problems: Problems, root: string): string[] {
  const files: string[] = [];
  if (!lstatSync(root).isDirectory()) {
    problems.add('', 'is no directory, but a file or a link');
    return files;
  }
  const folders = [''];
  let entries = 0;
  let bytes = 0;
  for (const folder of folders) {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      if (leftOut.has(entry.name)) continue;
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      const add = (message: string) => problems.add(pathText('files', [path]), message);
      if (++entries > maxFiles) {
        problems.add('files', `and folders are more than ${maxFiles}`);
        return files;
      }
      if (entry.isSymbolicLink()) add('is a symbolic link: put there what it leads to');
      else if (secret.test(entry.name)) add('has a name that secrets have, and a model would read it');
      else if (entry.isDirectory()) folders.push(path);
      else if (!entry.isFile()) add('is no file');
      else {
        const { size } = lstatSync(join(root, path));
        if (path === 'SKILL.md' && size > maxSkillBytes) problems.add(path, 'is larger than 1 MB');
        bytes += size;
        files.push(path);
      }
    }
  }
  if (bytes > maxFilesBytes) problems.add('files', 'are together larger than 16 MB');
  if (problems.issues.length === 0 && !files.includes('SKILL.md')) problems.add('SKILL.md', 'is not there');
  return files;
}
