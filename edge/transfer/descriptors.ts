export { type Descriptor, type Descriptors, readDescriptors } from '../../shared/registry/descriptors.ts';
