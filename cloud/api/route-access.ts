/** What each route of the API asks of its caller: one table, and a route that is not in it is for admins. */
import type { Role } from '../../shared/wire/api.ts';

export type Need =
  /** Open to everyone who gets as far as this port. */
  | 'nobody'
  /** The body says who it is, and the route judges: the enrolment of a node. */
  | 'enrolment'
  /** Any certificate, judged by the route: one that has ended may still ask for its next. */
  | 'certificate'
  /** A node's certificate that is good now. */
  | 'node'
  /** A secret of its own, judged by the route. */
  | 'hook'
  /** As the settings say: `view`, or open. */
  | 'metrics'
  | Role;

export interface RouteAccess {
  readonly need: Need;
  /**
   * When the audit log is written. `before`: a line before and one after. `after`: one line before the answer leaves,
   * for callers whom only the route knows: a stranger must not be able to fill the log. Absent: nothing is changed.
   */
  readonly audit?: 'before' | 'after';
}

const view: RouteAccess = { need: 'view' };
const operate: RouteAccess = { need: 'operate', audit: 'before' };
const admin: RouteAccess = { need: 'admin', audit: 'before' };
const adminView: RouteAccess = { need: 'admin' };

/** By method and path as the routes are registered. */
export const ROUTES: Readonly<Record<string, RouteAccess>> = {
  'GET /healthz': { need: 'nobody' },
  'GET /readyz': { need: 'nobody' },
  'GET /metrics': { need: 'metrics' },
  'POST /v1/enroll': { need: 'enrolment', audit: 'after' },
  'POST /v1/renew': { need: 'certificate', audit: 'after' },
  'POST /v1/node/credentials': { need: 'node', audit: 'after' },
  'POST /v1/hooks/registry': { need: 'hook', audit: 'before' },

  'GET /v1/pools': view,
  'GET /v1/pools/:pool/tuning': view,
  'GET /v1/pools/:pool/inventory': view,
  'GET /v1/nodes': view,
  'GET /v1/nodes/:node': view,
  'GET /v1/nodes/:node/tuning': view,
  'GET /v1/nodes/:node/events': view,
  'GET /v1/events': view,
  'GET /v1/problems': view,
  'GET /v1/broker/acl': view,
  'GET /v1/prefetches': view,
  'GET /v1/prefetches/:id': view,

  'POST /v1/prefetches': operate,
  'PUT /v1/prefetches/:id': operate,
  'DELETE /v1/prefetches/:id': operate,
  'POST /v1/prefetches/:id/suspend': operate,
  'POST /v1/bundles/sign': operate,
  // They change nothing, and cost the hub and registries something.
  'POST /v1/prefetch-plans': { need: 'operate' },
  'GET /v1/pools/:pool/bootstrap': { need: 'operate' },
  'POST /v1/tuning-checks': { need: 'operate' },

  'DELETE /v1/nodes/:node': admin,
  'POST /v1/nodes/:node/move': admin,
  'POST /v1/nodes/:node/revoke': admin,
  'GET /v1/nodes/:node/credentials': adminView,
  'GET /v1/tokens': adminView,
  'POST /v1/tokens': admin,
  'DELETE /v1/tokens/:id': admin,
  'GET /v1/ca': adminView,
  'POST /v1/ca/rotate': admin,
  'DELETE /v1/ca/roots/:root': admin,
  'GET /v1/api-tokens': adminView,
  'POST /v1/api-tokens': admin,
  'DELETE /v1/api-tokens/:name': admin,
  'GET /v1/audit': adminView,
};

const UNLISTED: Readonly<Record<'reads' | 'changes', RouteAccess>> = { reads: adminView, changes: admin };

/** Undefined for a route that the table does not name. */
export function listedAccess(method: string, path: string): RouteAccess | undefined {
  const key = `${method === 'HEAD' ? 'GET' : method} ${path}`;
  return Object.hasOwn(ROUTES, key) ? ROUTES[key] : undefined;
}

export function accessOf(method: string, path: string): RouteAccess {
  return listedAccess(method, path) ?? UNLISTED[method === 'GET' || method === 'HEAD' ? 'reads' : 'changes'];
}
