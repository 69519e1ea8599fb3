import type { FastifyInstance } from 'fastify';
import * as z from 'zod';
import { TidepoolError } from '../../shared/errors.ts';
import { BROKER_ACL_FORMATS, type BrokerAclView } from '../../shared/wire/api.ts';
import { brokerAcl } from '../trust/broker-acl.ts';
import type { EnrolledNodes } from '../trust/types.ts';

const aclQuery = z.looseObject({ format: z.enum(BROKER_ACL_FORMATS).default('mosquitto') });

export interface BrokerRouteComponents {
  readonly trust?: { readonly book: { readonly nodes: Pick<EnrolledNodes, 'enrolled'> } } | undefined;
}

/** What brokers that are not ours have to know of who may what. */
export function addBrokerRoutes(app: FastifyInstance, { trust }: BrokerRouteComponents): void {
  app.get('/v1/broker/acl', (request): BrokerAclView => {
    if (trust === undefined) {
      throw new TidepoolError(
        'CONFLICT',
        'this hub is insecure: it knows nobody by a certificate, so there are no rules to write',
      );
    }
    const query = aclQuery.safeParse(request.query);
    if (!query.success) {
      throw new TidepoolError('INVALID_ARGUMENT', `format: one of ${BROKER_ACL_FORMATS.join(', ')}`);
    }
    const { format } = query.data;
    return { format, ...brokerAcl(format, trust.book.nodes.enrolled()) };
  });
}
