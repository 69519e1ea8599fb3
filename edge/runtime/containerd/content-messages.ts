/**
 * The few messages of containerd's own interface that an agent speaks, with the field numbers of its public definition
 * (packages containerd.services.*.v1 and containerd.types). Fields that are not used are left out.
 */
import protobuf from 'protobufjs/light.js';
import * as z from 'zod';

const labels = { keyType: 'string', type: 'string' } as const;

const root = protobuf.Root.fromJSON({
  nested: {
    ListNamespacesRequest: { fields: { filter: { type: 'string', id: 1 } } },
    Namespace: { fields: { name: { type: 'string', id: 1 } } },
    ListNamespacesResponse: { fields: { namespaces: { rule: 'repeated', type: 'Namespace', id: 1 } } },
    Descriptor: {
      fields: {
        mediaType: { type: 'string', id: 1 },
        digest: { type: 'string', id: 2 },
        size: { type: 'int64', id: 3 },
      },
    },
    Image: {
      fields: {
        name: { type: 'string', id: 1 },
        labels: { ...labels, id: 2 },
        target: { type: 'Descriptor', id: 3 },
      },
    },
    ListImagesRequest: { fields: { filters: { rule: 'repeated', type: 'string', id: 1 } } },
    ListImagesResponse: { fields: { images: { rule: 'repeated', type: 'Image', id: 1 } } },
    GetImageRequest: { fields: { name: { type: 'string', id: 1 } } },
    GetImageResponse: { fields: { image: { type: 'Image', id: 1 } } },
    FieldMask: { fields: { paths: { rule: 'repeated', type: 'string', id: 1 } } },
    UpdateImageRequest: {
      fields: { image: { type: 'Image', id: 1 }, updateMask: { type: 'FieldMask', id: 2 } },
    },
    UpdateImageResponse: { fields: { image: { type: 'Image', id: 1 } } },
    Info: { fields: { digest: { type: 'string', id: 1 }, labels: { ...labels, id: 5 } } },
    InfoRequest: { fields: { digest: { type: 'string', id: 1 } } },
    InfoResponse: { fields: { info: { type: 'Info', id: 1 } } },
  },
});

const image = z.object({
  name: z.string(),
  labels: z.record(z.string(), z.string()),
  target: z.object({ mediaType: z.string(), digest: z.string(), size: z.number() }).nullish(),
});

/** Unary calls: path, the messages' names, and the shape of the answer. */
export const CONTENT_METHODS = {
  namespaces: {
    path: '/containerd.services.namespaces.v1.Namespaces/List',
    request: 'ListNamespacesRequest',
    response: 'ListNamespacesResponse',
    schema: z.object({ namespaces: z.array(z.object({ name: z.string() })) }),
  },
  images: {
    path: '/containerd.services.images.v1.Images/List',
    request: 'ListImagesRequest',
    response: 'ListImagesResponse',
    schema: z.object({ images: z.array(image) }),
  },
  getImage: {
    path: '/containerd.services.images.v1.Images/Get',
    request: 'GetImageRequest',
    response: 'GetImageResponse',
    schema: z.object({ image: image.nullish() }),
  },
  updateImage: {
    path: '/containerd.services.images.v1.Images/Update',
    request: 'UpdateImageRequest',
    response: 'UpdateImageResponse',
    schema: z.object({ image: image.nullish() }),
  },
  info: {
    path: '/containerd.services.content.v1.Content/Info',
    request: 'InfoRequest',
    response: 'InfoResponse',
    schema: z.object({ info: z.object({ labels: z.record(z.string(), z.string()) }).nullish() }),
  },
} as const;
export type ContentMethod = keyof typeof CONTENT_METHODS;

export function encodeContentMessage(type: string, value: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(root.lookupType(type).encode(value).finish());
}

/** Fields that were not sent have their empty values. @throws Error for bytes that are no such message */
export function decodeContentMessage(type: string, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  const found = root.lookupType(type);
  return found.toObject(found.decode(bytes), { defaults: true, arrays: true, objects: true, longs: Number });
}
