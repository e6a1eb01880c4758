import { askControl } from './control.js';
import { EXIT } from '../client.js';
import type { RunRecord, StateFolder } from './state.js';

/** `upid status`: each process as its supervisor sees it. Exit code 1 where nothing runs or something does not. */
export async function status(state: StateFolder, json: boolean): Promise<number> {
  const run = await askControl<RunRecord>(state, { ask: 'status' });
  if (json) {
    console.log(JSON.stringify({ state: state.dir, running: run !== null, ready: run?.ready ?? false, url: run?.url ?? null, pid: run?.pid ?? null, started_at: run?.startedAt ?? null, processes: run?.processes ?? [] }, null, 2));
  } else if (run === null) {
    console.log(`UPID does not run in ${state.dir}. Start it with \`upid up\`.`);
  } else {
    console.log(`UPID ${run.ready ? 'is ready' : 'is starting'}: ${run.url} (supervisor ${run.pid}, since ${run.startedAt})`);
    const rows = run.processes.map((each) => [each.name, String(each.pid ?? '-'), each.state, String(each.restarts), each.since, each.last_exit ?? '']);
    const head = ['NAME', 'PID', 'STATE', 'RESTARTS', 'SINCE', 'LAST EXIT'];
    const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)));
    for (const row of [head, ...rows]) console.log(row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd());
  }
  return run !== null && run.processes.every((each) => each.state === 'running') ? EXIT.done : EXIT.failed;
}
