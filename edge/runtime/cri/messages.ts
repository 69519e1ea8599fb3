/**
 * The few messages of the container runtime interface that an agent speaks, with the field numbers of its public
 * definition (package runtime.v1). Fields that are not used are left out: both sides skip what they do not know.
 */
import protobuf from 'protobufjs/light.js';
import * as z from 'zod';

const root = protobuf.Root.fromJSON({
  nested: {
    VersionRequest: { fields: { version: { type: 'string', id: 1 } } },
    VersionResponse: {
      fields: {
        version: { type: 'string', id: 1 },
        runtimeName: { type: 'string', id: 2 },
        runtimeVersion: { type: 'string', id: 3 },
        runtimeApiVersion: { type: 'string', id: 4 },
      },
    },
    ImageSpec: {
      fields: {
        image: { type: 'string', id: 1 },
        userSpecifiedImage: { type: 'string', id: 18 },
      },
    },
    Image: {
      fields: {
        id: { type: 'string', id: 1 },
        repoTags: { rule: 'repeated', type: 'string', id: 2 },
        repoDigests: { rule: 'repeated', type: 'string', id: 3 },
        size: { type: 'uint64', id: 4 },
      },
    },
    // Of the filter nothing is used: all containers are wanted, those that have ended too.
    ListContainersRequest: { fields: {} },
    Container: {
      fields: {
        id: { type: 'string', id: 1 },
        image: { type: 'ImageSpec', id: 4 },
        imageRef: { type: 'string', id: 5 },
      },
    },
    ListContainersResponse: { fields: { containers: { rule: 'repeated', type: 'Container', id: 1 } } },
    ImageFilter: { fields: { image: { type: 'ImageSpec', id: 1 } } },
    ListImagesRequest: { fields: { filter: { type: 'ImageFilter', id: 1 } } },
    ListImagesResponse: { fields: { images: { rule: 'repeated', type: 'Image', id: 1 } } },
    ImageStatusRequest: {
      fields: { image: { type: 'ImageSpec', id: 1 }, verbose: { type: 'bool', id: 2 } },
    },
    ImageStatusResponse: { fields: { image: { type: 'Image', id: 1 } } },
    AuthConfig: { fields: { username: { type: 'string', id: 1 }, password: { type: 'string', id: 2 } } },
    PullImageRequest: {
      fields: { image: { type: 'ImageSpec', id: 1 }, auth: { type: 'AuthConfig', id: 2 } },
    },
    PullImageResponse: { fields: { imageRef: { type: 'string', id: 1 } } },
  },
});

const image = z.object({
  id: z.string(),
  repoTags: z.array(z.string()),
  repoDigests: z.array(z.string()),
  size: z.number(),
});

/** Unary calls: path, the messages' names, and the shape of the answer. */
export const METHODS = {
  version: {
    path: '/runtime.v1.RuntimeService/Version',
    request: 'VersionRequest',
    response: 'VersionResponse',
    schema: z.object({ runtimeName: z.string(), runtimeVersion: z.string() }),
  },
  listImages: {
    path: '/runtime.v1.ImageService/ListImages',
    request: 'ListImagesRequest',
    response: 'ListImagesResponse',
    schema: z.object({ images: z.array(image) }),
  },
  listContainers: {
    path: '/runtime.v1.RuntimeService/ListContainers',
    request: 'ListContainersRequest',
    response: 'ListContainersResponse',
    schema: z.object({
      containers: z.array(
        z.object({ imageRef: z.string(), image: z.object({ image: z.string() }).nullish() }),
      ),
    }),
  },
  imageStatus: {
    path: '/runtime.v1.ImageService/ImageStatus',
    request: 'ImageStatusRequest',
    response: 'ImageStatusResponse',
    schema: z.object({ image: image.nullish() }),
  },
  pullImage: {
    path: '/runtime.v1.ImageService/PullImage',
    request: 'PullImageRequest',
    response: 'PullImageResponse',
    schema: z.object({ imageRef: z.string() }),
  },
} as const;
export type MethodName = keyof typeof METHODS;

export function encodeMessage(type: string, value: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(root.lookupType(type).encode(value).finish());
}

/** Fields that were not sent have their empty values; numbers are numbers. @throws Error for bytes that are no such message */
export function decodeMessage(type: string, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  const found = root.lookupType(type);
  return found.toObject(found.decode(bytes), { defaults: true, arrays: true, longs: Number });
}
