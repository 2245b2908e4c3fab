import { join } from 'node:path';
import { SqliteStore } from '../../../src/journal/sqlite/sqlite-store.ts';
import { storeContract } from '../contract.ts';

storeContract('a file', (directory) => SqliteStore.open(join(directory, 'made/runtime.db')));
storeContract('memory', () => SqliteStore.open(':memory:'));
