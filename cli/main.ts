import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { CommandError, EXIT } from './client.js';
import { registerClientCommands } from './commands/register.js';
import { down } from './up/down.js';
import { ROOT } from './up/root.js';
import { StateFolder } from './up/state.js';
import { status } from './up/status.js';

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65535) throw new InvalidArgumentError('a port is a whole number from 1 to 65535');
  return value;
}

const program = new Command('upid').exitOverride().showHelpAfterError(false).helpCommand(false);
program.addHelpText('beforeAll', '');
program.helpInformation = () => helpText;
const helpText = await readFile(join(ROOT, 'cli', 'help.txt'), 'utf8');
const stateOption = ['--state <dir>', 'folder of data, logs and keys', process.env.UPID_STATE_DIR ?? join(ROOT, '.upid')] as const;

interface UpFlags { detach?: boolean; demo?: boolean; kubeconfig?: string; context?: string; clusterId?: string; allowChanges?: boolean; scenario?: string; port: number; state: string }
const start = (name: string) => program.command(name)
  .option('-d, --detach', 'return when ready').option('--port <port>', 'port of the gateway', port, 8000).option(...stateOption);
// What starts services loads all that they need: commands that only ask do not wait for it.
const runUp = async (flags: UpFlags) => (await import('./up/up.js')).up({
  detach: flags.detach ?? false, demo: flags.demo ?? false, kubeconfig: flags.kubeconfig ?? null, context: flags.context ?? null, clusterId: flags.clusterId ?? null, allowChanges: flags.allowChanges ?? false, scenario: flags.scenario ?? null, port: flags.port, state: flags.state,
}, process.argv.slice(2));

start('up').option('--demo', 'the demo cluster').option('--kubeconfig <file>', 'attach to a real cluster').option('--context <name>', 'context of the kubeconfig').option('--cluster-id <id>', 'id of the cluster')
  .option('--allow-changes', 'let jobs change the cluster').action(runUp);
start('demo').requiredOption('--scenario <file>', 'a scenario in YAML').action(runUp);
program.command('down').option('--leave-asleep', 'end even where something sleeps').option(...stateOption)
  .action((flags: { leaveAsleep?: boolean; state: string }) => down(new StateFolder(flags.state), { leaveAsleep: flags.leaveAsleep ?? false }));
program.command('status').option('--json', 'for programs').option(...stateOption)
  .action(async (flags: { json?: boolean; state: string }) => { process.exitCode = await status(new StateFolder(flags.state), flags.json ?? false); });
program.command('keys').requiredOption('--dir <dir>', 'folder for keys').option('--cluster <ids...>', 'ids of clusters', ['demo']).option('--database-host <host>', 'host of the database', 'postgres')
  .action(async (flags: { dir: string; cluster: string[]; databaseHost: string }) => (await import('./up/keys.js')).makeKeys({ dir: flags.dir, clusters: flags.cluster, databaseHost: flags.databaseHost }));

registerClientCommands(program, stateOption);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage;
  else if (error instanceof CommandError) {
    console.error(`upid: ${error.message}`);
    process.exitCode = error.exitCode;
  } else {
    console.error(`upid: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    process.exitCode = EXIT.failed;
  }
}
