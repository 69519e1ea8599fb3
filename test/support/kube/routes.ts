/** Which paths the API server double knows; custom resources are added as their definitions are created. */
import type { Json } from './object-store.ts';

interface Kind {
  readonly group: string;
  readonly versions: readonly string[];
  readonly plural: string;
  readonly namespaced: boolean;
  readonly hasStatus: boolean;
}

export interface Route {
  readonly group: string;
  readonly plural: string;
  /** Of the objects, whatever version they are asked for in. */
  readonly collection: string;
  /** Empty for all, or for a kind without. */
  readonly namespace: string;
  /** Empty for the whole collection. */
  readonly name: string;
  readonly subresource: string;
  readonly hasStatus: boolean;
  /** `namespace/name`, or the name. */
  readonly key: string;
}

const builtIn = (
  group: string,
  version: string,
  plural: string,
  namespaced: boolean,
  hasStatus = false,
): Kind => ({ group, versions: [version], plural, namespaced, hasStatus });

const CRD = 'customresourcedefinitions';

export class Routes {
  readonly #kinds: Kind[] = [
    builtIn('', 'v1', 'nodes', false, true),
    builtIn('', 'v1', 'namespaces', false),
    builtIn('', 'v1', 'configmaps', true),
    builtIn('', 'v1', 'secrets', true),
    builtIn('', 'v1', 'serviceaccounts', true),
    builtIn('', 'v1', 'pods', true, true),
    builtIn('', 'v1', 'events', true),
    builtIn('apps', 'v1', 'deployments', true, true),
    builtIn('apps', 'v1', 'daemonsets', true, true),
    builtIn('apps', 'v1', 'statefulsets', true, true),
    builtIn('coordination.k8s.io', 'v1', 'leases', true),
    builtIn('apiextensions.k8s.io', 'v1', CRD, false, true),
  ];

  /** A definition that was created makes its kind known. */
  learn(route: Route, object: Json): void {
    if (route.plural !== CRD) return;
    const spec = object.spec as {
      group: string;
      scope: string;
      names: { plural: string };
      versions: { name: string; subresources?: { status?: object } }[];
    };
    this.#kinds.push({
      group: spec.group,
      versions: spec.versions.map(({ name }) => name),
      plural: spec.names.plural,
      namespaced: spec.scope === 'Namespaced',
      hasStatus: spec.versions.some(({ subresources }) => subresources?.status !== undefined),
    });
  }

  /** The collection whose definition was deleted, if it was one. */
  forget(route: Route, object: Json): string | undefined {
    if (route.plural !== CRD) return undefined;
    const { group, names } = object.spec as { group: string; names: { plural: string } };
    const index = this.#kinds.findIndex((kind) => kind.group === group && kind.plural === names.plural);
    if (index >= 0) this.#kinds.splice(index, 1);
    return `${names.plural}.${group}`;
  }

  /** `/apis/<group>` and `/apis/<group>/<version>`. */
  discover(path: string): Json | undefined {
    const [, apis, group, version, ...rest] = path.split('/');
    if (apis !== 'apis' || group === undefined || rest.length > 0) return undefined;
    const kinds = this.#kinds.filter((kind) => kind.group === group);
    if (kinds.length === 0) return undefined;
    if (version === undefined) {
      const versions = [...new Set(kinds.flatMap((kind) => kind.versions))];
      return { kind: 'APIGroup', name: group, versions: versions.map((each) => ({ version: each })) };
    }
    const served = kinds.filter((kind) => kind.versions.includes(version));
    if (served.length === 0) return undefined;
    return { kind: 'APIResourceList', resources: served.map(({ plural }) => ({ name: plural })) };
  }

  find(path: string): Route | undefined {
    const parts = path
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
    const root = parts.shift();
    const group = root === 'apis' ? (parts.shift() ?? '') : '';
    const version = parts.shift() ?? '';
    let namespace = '';
    if (parts[0] === 'namespaces' && parts.length > 2) {
      namespace = parts[1] ?? '';
      parts.splice(0, 2);
    }
    const [plural = '', name = '', subresource = '', ...rest] = parts;
    const kind = this.#kinds.find(
      (each) => each.group === group && each.plural === plural && each.versions.includes(version),
    );
    if (kind === undefined || rest.length > 0 || (root !== 'api' && root !== 'apis')) return undefined;
    if (subresource !== '' && !(subresource === 'status' && kind.hasStatus)) return undefined;
    const { hasStatus } = kind;
    const collection = `${plural}.${group}`;
    const key = namespace === '' ? name : `${namespace}/${name}`;
    return { group, plural, collection, namespace, name, subresource, hasStatus, key };
  }
}
