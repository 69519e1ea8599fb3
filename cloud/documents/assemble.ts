import { type LocatedYaml, parseYaml } from '../../shared/config-file.ts';
import { identityOf, type Projection, project } from '../desired/documents.ts';
import type { DesiredState, Problem } from '../desired/types.ts';

/** What one file last gave: its good documents by `kind/name`, and what is wrong with the others. */
export interface FileState {
  readonly documents: ReadonlyMap<string, Projection>;
  readonly problems: readonly Problem[];
}

/**
 * Reads one file. A bad document keeps its last good form; where a bad document's name cannot be read, everything that
 * the file held and that is not seen now is kept, because one missing quote must not take a pool away.
 */
export function readDocuments(file: string, text: string, before: FileState | undefined): FileState {
  const documents = new Map<string, Projection>();
  const problems: Problem[] = [];
  let unnamed = false;
  for (const document of parseYaml(text).flatMap(expandList)) {
    const source = `${file}:${document.line}`;
    const result = project(document, source);
    if ('offences' in result) {
      const identity = identityOf(document);
      const key = identity === undefined ? undefined : `${identity.kind}/${identity.name}`;
      const kept = key === undefined ? undefined : before?.documents.get(key);
      if (key !== undefined && kept !== undefined && !documents.has(key)) documents.set(key, kept);
      if (key === undefined) unnamed = true;
      const subject = identity === undefined ? '' : `${identity.kind} ${identity.name}: `;
      const ending = kept === undefined ? '' : ' (its last good form stays in force)';
      for (const { line, message } of result.offences) {
        problems.push({ source: `${file}:${line}`, message: `${subject}${message}${ending}` });
      }
    } else if (result.projection !== undefined) {
      const key = `${result.projection.kind}/${result.projection.name}`;
      if (documents.has(key)) {
        problems.push({ source, message: `${key} stands twice in this file; the first one counts` });
      } else {
        documents.set(key, result.projection);
      }
    }
  }
  if (unnamed) {
    for (const [key, projection] of before?.documents ?? []) {
      if (!documents.has(key)) documents.set(key, projection);
    }
  }
  return { documents, problems };
}

/** All files as one state, in the order of their names; the first of two equal documents counts. */
export function assemble(
  files: ReadonlyMap<string, FileState>,
  problems: readonly Problem[] = [],
): DesiredState {
  const seen = new Map<string, string>();
  const found: Problem[] = [...problems];
  const projections: Projection[] = [];
  for (const [file, state] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    found.push(...state.problems);
    for (const [key, projection] of state.documents) {
      const first = seen.get(key);
      if (first === undefined) {
        seen.set(key, file);
        projections.push(projection);
      } else {
        found.push({ source: file, message: `${key} stands in ${first} already; that one counts` });
      }
    }
  }
  return {
    nodes: projections.flatMap((each) => (each.kind === 'Node' ? [each.node] : [])),
    pools: projections.flatMap((each) => (each.kind === 'NodePool' ? [each.pool] : [])),
    tuning: projections.flatMap((each) => (each.kind === 'ConfigMap' ? [each.tuning] : []))[0],
    prefetches: projections.flatMap((each) => (each.kind === 'ImagePrefetch' ? [each.prefetch] : [])),
    workloads: projections.flatMap((each) => ('workload' in each ? [each.workload] : [])),
    problems: found,
  };
}

/** `kubectl get … -o yaml` writes a List; its items count as documents of their own. */
function expandList(document: LocatedYaml): readonly LocatedYaml[] {
  const { value } = document;
  if (typeof value !== 'object' || value === null || !('kind' in value) || !('items' in value)) {
    return [document];
  }
  if (typeof value.kind !== 'string' || !value.kind.endsWith('List') || !Array.isArray(value.items)) {
    return [document];
  }
  return value.items.map((item: unknown, index) => ({
    line: document.lineOf(['items', index]),
    errors: [],
    value: item,
    lineOf: (path) => document.lineOf(['items', index, ...path]),
  }));
}
