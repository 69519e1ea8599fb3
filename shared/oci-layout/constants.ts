const MIB = 1024 * 1024;

/** The bundle's own statement; the other files are what any OCI image layout has. */
export const STATEMENT_FILE = 'tidepool/statement';
export const LAYOUT_FILE = 'oci-layout';
export const INDEX_FILE = 'index.json';

/** What a statement and a word are signed for, so that neither can be taken for the other or for what pools are told. */
export const STATEMENT_TOPIC = 'tidepool/v1/bundle';
export const WORD_TOPIC = 'tidepool/v1/image-word';

export const MAX_STATEMENT_BYTES = 4 * MIB;
export const MAX_MANIFEST_BYTES = 4 * MIB;
/** All manifests of a bundle together: they are held in memory until it is known to be good. */
export const MAX_MANIFESTS_BYTES = 64 * MIB;
export const MAX_IMAGES = 256;
export const MAX_MANIFESTS = 4_096;
export const MAX_BLOBS = 16_384;
/** An index of indexes of images; nobody needs more. */
export const MAX_DEPTH = 3;
/** Of a signed word in base64; ours takes about 2,000. */
export const MAX_WORD_CHARS = 8_192;
