import type { Command } from 'commander';
import type { AuthorityView, RootView } from '../../shared/wire/api.ts';
import { type HubFlags, hubClient, withHub } from './hub-access.ts';
import type { CliIo } from './io.ts';
import { table } from './tables.ts';

interface Flags extends HubFlags {
  readonly json?: true;
  readonly pem?: true;
  readonly force?: true;
}

/** `ca`, `ca rotate` and `ca drop`: the authority that all certificates are of. */
export function addCa(program: Command, io: CliIo): void {
  const ca = withHub(program.command('ca'))
    .description('show the roots of the authority')
    .enablePositionalOptions()
    .option('--pem', 'the certificates themselves, for --ca FILE')
    .option('--json', 'JSON instead of a table')
    .action(async ({ json, pem, ...flags }: Flags) => {
      const view = await hubClient(flags, io).call<AuthorityView>('GET', '/v1/ca');
      if (json === true) io.stdout.write(`${JSON.stringify(view)}\n`);
      else
        io.stdout.write(pem === true ? view.roots.map((root) => root.pem).join('') : rootsTable(view.roots));
    });
  withHub(ca.command('rotate'))
    .description('add a root that issues from now on; those before stay trusted until `ca drop`')
    .addHelpText(
      'after',
      '\nPools learn the new root by the broker within seconds, nodes that are away when they are back. Nodes renew at two\nthirds of the life of their certificates; `ca` shows how many are left of the root before. Drop it when none is.',
    )
    .action(async (flags: Flags) => {
      const view = await hubClient(flags, io).call<AuthorityView>('POST', '/v1/ca/rotate');
      io.stdout.write(rootsTable(view.roots));
    });
  withHub(ca.command('drop'))
    .description('trust a root no longer: what it has signed is worth nothing from now on')
    .argument('<id>', 'as `ca` shows it')
    .option('--force', 'also when nodes have certificates of it; they have to be enrolled again')
    .action(async (id: string, { force, ...flags }: Flags) => {
      const query = force === true ? '?force=true' : '';
      await hubClient(flags, io).call<null>('DELETE', `/v1/ca/roots/${encodeURIComponent(id)}${query}`);
    });
}

function rootsTable(roots: readonly RootView[]): string {
  return table(
    ['ID', 'ISSUES', 'HUB', 'CERTIFICATES', 'ENDS'],
    roots.map(({ id, issues, ofHub, certificates, notAfter }) => [
      id,
      issues ? 'yes' : 'no',
      ofHub ? 'yes' : 'no',
      String(certificates),
      new Date(notAfter).toISOString(),
    ]),
  );
}
