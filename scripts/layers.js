// Checks the layer rules. dependency-cruiser is content with a run that saw nothing, as after an upgrade of TypeScript
// that it can't load; here that is a failure.
import { cruise } from 'dependency-cruiser';
import extractDepcruiseOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';

const options = await extractDepcruiseOptions('./.dependency-cruiser.cjs');
const { output } = await cruise(['src', 'sandbox-agent'], options, undefined, {
  tsConfig: extractTSConfig('tsconfig.json'),
});
if (typeof output === 'string') throw new Error(output);
const { totalCruised, violations } = output.summary;
for (const { rule, from, to } of violations) console.error(`${rule.severity} ${rule.name}: ${from} → ${to}`);
const folders = ['src/protocol/', 'src/engine/', 'src/sandbox/', 'src/runtime/', 'src/server/', 'sandbox-agent/'];
const unseen = folders.filter((folder) => !output.modules.some(({ source }) => source.startsWith(folder)));
if (unseen.length > 0) console.error(`no module was seen in ${unseen.join(', ')}`);
if (violations.length > 0 || unseen.length > 0) process.exit(1);
console.log(`${totalCruised} modules keep to their layers`);
