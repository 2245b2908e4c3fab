#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { UsageError } from './errors.ts';
import { fail } from './failure.ts';
import { exitWith, guardOutput } from './output.ts';

const { version }: { version: string } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'), // our own file
);

guardOutput();

/** What the command that ran ends the process with. */
let exitCode = 0;

const program = new Command('berth')
  .description('Runs agents and their code in sandboxes.')
  .version(version)
  .exitOverride()
  .configureOutput({
    // One line, whatever commander breaks it into.
    outputError: (text, write) =>
      write(
        `${text
          .trim()
          .replace(/^error: /, 'berth: ')
          .replace(/\n/g, ' ')}\n`,
      ),
  })
  .showHelpAfterError(false)
  .helpCommand(false);

program.hook('preAction', () => {
  const level = process.env.BERTH_LOG;
  const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
  if (!level) delete process.env.BERTH_LOG;
  else if (!levels.includes(level)) throw new UsageError(`BERTH_LOG is one of ${levels.join(', ')}, not ${level}.`);
});

const json = new Option('--json', 'print JSON on standard output and nothing else');

program
  .command('run')
  .description('run a workflow and show it live')
  .argument('<file | workflow>', 'a file that exports a workflow as default, or the NAME of workflows/NAME.ts')
  .option('--input <JSON>', 'the input of the workflow')
  .option('--input-file <file>', 'a file with the input, JSON')
  .option('--model <provider/model>', 'in place of the model of the workflow’s agent')
  .addOption(json)
  .option('--watch', 'run again when the file changes, or one that it imports')
  .addOption(new Option('--watched').hideHelp())
  .addHelpText(
    'after',
    '\nWith --json each line is an event of the run; the last line is {"type":"run","record":…}, the record of the run.',
  )
  .action(async (target, options) => {
    if (options.watch) {
      const { watch } = await import('./watch.ts');
      exitCode = await watch(target, options);
    } else {
      const { run } = await import('./commands/run.ts');
      exitCode = await run(target, options);
    }
  });

const policies = ['none', 'open'];
const ruleHelp = 'as registry.npmjs.org, *.github.com or 10.0.0.5:5432; may be given several times';

const sandbox = program.command('sandbox').description('make and use sandboxes').helpCommand(false);
sandbox
  .command('create')
  .description('make a sandbox, whose files live until it is removed, and print its id')
  .option('--id <id>', 'its id (default: a random one)')
  .option('--key <key>', 'the same key gives the same sandbox, until it is removed')
  .option('--image <image>', 'any Linux image that the engine has')
  .option('--env <NAME=VALUE>', 'a variable of its environment; may be given several times', collect, [])
  .option('--label <NAME=VALUE>', 'to find it by; may be given several times', collect, [])
  .option('--user <user>', 'of its commands')
  .option('--cwd <path>', 'where its commands start')
  .option('--memory <bytes>', 'the most that it may use', number)
  .option('--cpus <number>', 'the most that it may use', number)
  .option('--pids <number>', 'the most processes and threads that it may have', number)
  .option('--disk <bytes>', 'the most that its files may take, where the engine can limit that', number)
  .option('--runtime <name>', 'of the engine’s OCI runtimes, as runsc for gVisor (default: the engine’s)')
  .option(
    '--idle-timeout <milliseconds>',
    'it stops by itself after that time without a command or work on files',
    number,
  )
  .option('--max-lifetime <milliseconds>', 'it stops by itself that long after its start', number)
  .addOption(new Option('--network <policy>', 'what programs in it may reach (default: none)').choices(policies))
  .option('--allow <rule>', `what programs in it may reach, ${ruleHelp}`, collect, [])
  .addOption(json)
  .action(async (options) => {
    const { create } = await import('./commands/sandbox/create.ts');
    exitCode = await create(options);
  });
sandbox
  .command('ls')
  .description('list the sandboxes of this state directory')
  .option('--label <NAME=VALUE>', 'only those with this label; may be given several times', collect, [])
  .addOption(json)
  .action(async (options) => {
    const { ls } = await import('./commands/sandbox/ls.ts');
    exitCode = await ls(options);
  });
sandbox
  .command('exec')
  .description('run a command in a sandbox; the exit code is the command’s own, 124 after a timeout')
  .usage('<id> [options] -- <command> [arguments]')
  .argument('<id>')
  .argument('<command...>', 'started as it is, without a shell')
  .option('--cwd <path>', 'where it starts')
  .option('--env <NAME=VALUE>', 'a variable of its environment; may be given several times', collect, [])
  .option('--user <user>', 'whose rights it has')
  .option('--timeout <milliseconds>', 'then all that it started is killed', number)
  .addOption(json)
  .action(async (id, command, options) => {
    const { exec } = await import('./commands/sandbox/exec.ts');
    exitCode = await exec(id, command, options);
  });
sandbox
  .command('shell')
  .description('open a terminal in a sandbox; the exit code is that of what ran on it')
  .usage('<id> [options] [-- <command> [arguments]]')
  .argument('<id>')
  .argument('[command...]', 'started as it is, in place of the user’s shell')
  .option('--cwd <path>', 'where it starts')
  .option('--env <NAME=VALUE>', 'a variable of its environment; may be given several times', collect, [])
  .option('--user <user>', 'whose rights it has')
  .option('--attach [terminal]', 'come to a terminal that is open, by its id or as the only one, and see its screen')
  .addHelpText('after', '\nCtrl-] three times within a second leaves the terminal open, for --attach.')
  .action(async (id, command, options) => {
    const { shell } = await import('./commands/sandbox/shell.ts');
    exitCode = await shell(id, command, options);
  });
sandbox
  .command('cp')
  .description('copy a file or a directory into a sandbox, or out of it')
  .argument('<source>', 'ID:PATH in a sandbox, or a path of this machine')
  .argument('<destination>', 'the other one; below a directory that is there')
  .option('--max-size <bytes>', 'the most to copy out of a sandbox (default: half of what the disk has free)', size)
  .addOption(json)
  .action(async (source, destination, options) => {
    const { cp } = await import('./commands/sandbox/cp.ts');
    exitCode = await cp(source, destination, options);
  });
const changes = [
  ['start', 'start sandboxes that were stopped, or ended, with their files'],
  ['stop', 'end all that runs in sandboxes; their files stay, for start'],
  ['pause', 'freeze all that runs in sandboxes, until resume'],
  ['resume', 'let what was frozen go on'],
] as const;
for (const [name, description] of changes) {
  sandbox
    .command(name)
    .description(description)
    .argument('<id...>')
    .addOption(json)
    .action(async (ids, options) => {
      const { changeState } = await import('./commands/sandbox/change-state.ts');
      exitCode = await changeState(name, ids, options);
    });
}
sandbox
  .command('network')
  .description('say what programs in a sandbox may reach, or set it')
  .argument('<id>')
  .addArgument(new Argument('[policy]', 'in place of rules').choices(policies))
  .option('--allow <rule>', `what may be reached, ${ruleHelp}`, collect, [])
  .addOption(json)
  .action(async (id, policy, options) => {
    const { network } = await import('./commands/sandbox/network.ts');
    exitCode = await network(id, policy, options);
  });
sandbox
  .command('ps')
  .description('list the processes that run in a sandbox, or have left something running')
  .argument('<id>')
  .option('--all', 'also those of which only the end and the output are kept')
  .addOption(json)
  .action(async (id, options) => {
    const { ps } = await import('./commands/sandbox/ps.ts');
    exitCode = await ps(id, options);
  });
sandbox
  .command('logs')
  .description('print the kept output of a process, or of all: what it wrote to standard error goes there')
  .argument('<id>')
  .argument('[process]', 'its id, as ps has it')
  .option('--follow', 'go on with what comes, until the process ends')
  .addOption(json)
  .action(async (id, processId, options) => {
    const { logs } = await import('./commands/sandbox/logs.ts');
    exitCode = await logs(id, processId, options);
  });
sandbox
  .command('ports')
  .description('list the ports at which servers listen in a sandbox; to look does not keep it from being idle')
  .argument('<id>')
  .addOption(json)
  .action(async (id, options) => {
    const { ports } = await import('./commands/sandbox/ports.ts');
    exitCode = await ports(id, options);
  });
sandbox
  .command('expose')
  .description('reach a server in a sandbox at a port of this machine, until Ctrl-C; prints the URL')
  .argument('<id>')
  .argument('<port>', 'at which it listens in the sandbox', number)
  .option('--token [token]', 'let in only who brings it, by HTTP (default: a new one)')
  .addOption(json)
  .action(async (id, port, options) => {
    const { expose } = await import('./commands/sandbox/expose.ts');
    exitCode = await expose(id, port, options);
  });
sandbox
  .command('stats')
  .description('say what a sandbox uses, over one second; to look does not keep it from being idle')
  .argument('<id>')
  .option('--disk', 'also the size of the files that it changed or made')
  .addOption(json)
  .action(async (id, options) => {
    const { stats } = await import('./commands/sandbox/stats.ts');
    exitCode = await stats(id, options);
  });
sandbox
  .command('rm')
  .description('remove sandboxes with their files; one that is not there makes the exit code 1')
  .argument('<id...>')
  .addOption(json)
  .action(async (ids, options) => {
    const { changeState } = await import('./commands/sandbox/change-state.ts');
    exitCode = await changeState('remove', ids, options);
  });

program
  .command('serve')
  .description('serve the ports of all sandboxes by name, http://PORT-ID.localhost:7070/, until Ctrl-C')
  .option('--host <host>', 'the address or the name of this machine to listen at', '127.0.0.1')
  .option('--port <port>', 'to listen at; 0: any', number, 7070)
  .option('--token [token]', 'let in only who brings it (default: a new one, unless the host is the loopback)')
  .addOption(json)
  .action(async (options) => {
    const { serve } = await import('./commands/serve.ts');
    exitCode = await serve(options);
  });

const image = program.command('image').description('the images that Berth ships').helpCommand(false);
image
  .command('build')
  .description('make the base image of sandboxes, unless the engine has it')
  .addOption(json)
  .action(async (options) => {
    const { build } = await import('./commands/image/build.ts');
    exitCode = await build(options);
  });
image
  .command('ls')
  .description('list the base images that the engine has')
  .addOption(json)
  .action(async (options) => {
    const { ls } = await import('./commands/image/ls.ts');
    exitCode = await ls(options);
  });

program
  .command('doctor')
  .description('say what is missing on this machine, and the command that mends it')
  .addOption(json)
  .action(async (options) => {
    const { doctor } = await import('./commands/doctor.ts');
    exitCode = await doctor(options);
  });
program
  .command('gc')
  .description('remove what no live sandbox owns')
  .option('--dry-run', 'only say what would be removed')
  .addOption(json)
  .action(async (options) => {
    const { gc } = await import('./commands/gc.ts');
    exitCode = await gc(options);
  });

try {
  await program.parseAsync();
} catch (error) {
  // Commander has said what is wrong; the code is 0 for --help and --version.
  exitCode = error instanceof CommanderError ? (error.exitCode === 0 ? 0 : 2) : fail(error);
}
await exitWith(exitCode);

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new InvalidArgumentError('It is not a number.');
  }
  return value;
}

function size(text: string): number {
  const value = number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new InvalidArgumentError('It is not a number of bytes.');
  return value;
}
