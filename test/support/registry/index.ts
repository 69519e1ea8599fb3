export {
  buildImage,
  buildIndex,
  hostPlatform,
  type ImageInit,
  MEDIA_TYPES,
  type SampleImage,
} from './image.ts';
export type { AuthInit, Fault, LoggedRequest, RegistryOptions, SampleRequest } from './options.ts';
export { SampleRegistry, type SampleRegistryInit } from './registry.ts';
