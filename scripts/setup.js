// npm run setup: what is missing on this machine, nothing else.
import './node-version.js';
import { prepare } from './prepare.js';

await prepare();
