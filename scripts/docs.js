// npm run docs: the reference of the public API, made of the docstrings in the declarations that the package ships.
import './node-version.js';
import { run } from './run.js';

process.exitCode =
  (await run(process.execPath, ['scripts/build.js'])) || (await run('typedoc', ['--tsconfig', 'tsconfig.docs.json']));
