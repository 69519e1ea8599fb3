/** How long a neighbour may take to accept a connection on a LAN. */
export const CONNECT_TIMEOUT_MS = 1_000;
/** For a small question to a live neighbour. */
export const QUESTION_TIMEOUT_MS = 2_000;
/** How often neighbours that do not answer are probed. */
export const PROBE_INTERVAL_MS = 5_000;
/** Addresses given by hand are greeted this often before that, at growing intervals: a site's nodes come up together. */
export const FIRST_PROBES = 5;
export const FIRST_PROBE = { baseMs: 250, maxMs: PROBE_INTERVAL_MS, floor: 0.5 } as const;
/** A neighbour that sent bytes unlike its own claim. */
export const SET_ASIDE_MS = 10 * 60_000;
/** A neighbour that only its own word made a member is forgotten after this long without one. */
export const LEARNED_TTL_MS = 24 * 3_600_000;
/** Bound of the member table: the design's pools have at most 100 nodes. */
export const MAX_MEMBERS = 1_000;
/** Addresses named by beacons that wait to be greeted. */
export const MAX_CANDIDATES = 64;
/** Asks that are out to one neighbour in one lane. */
export const ASKS_PER_CHANNEL = 64;
/** The same, as the neighbour bounds them: those that were withdrawn may not have been told of yet. */
export const MAX_ASKS_PER_CHANNEL = 2 * ASKS_PER_CHANNEL;
/** Asks that were withdrawn and of which the neighbour says nothing; past this the channel is given up. */
export const MAX_WITHDRAWN = ASKS_PER_CHANNEL / 2;
/** Largest JSON body either way: a join with the bitmap of a 1 TiB blob is 22 KiB. */
export const MAX_JSON_BYTES = 256 * 1024;
/** The server's keep-alive is longer than the client's, so that the client never writes into a closing socket. */
export const SERVER_KEEP_ALIVE_MS = 75_000;
export const CLIENT_KEEP_ALIVE_MS = 60_000;
/** Bytes that a neighbour may send nothing for, once it has begun a piece. */
export const PIECE_STALL_MS = 10_000;
/** Connections to one neighbour that is asked without a channel: for its name, or as an upstream. */
export const QUESTION_CONNECTIONS = 8;
/** The same over TLS, where each costs both ends a handshake and its state. */
export const SECURE_QUESTION_CONNECTIONS = 2;
/** For a TLS handshake, once the connection is there: boxes of a small site take some ms, busy ones more. */
export const HANDSHAKE_TIMEOUT_MS = 5_000;
/** Connections that have not shown a certificate yet; past this the oldest of them makes room. */
export const MAX_HANDSHAKES = 1_024;
/** The same, of one address: a node that has just come back opens many at once. */
export const MAX_HANDSHAKES_PER_ADDRESS = 128;
/** Connections of one node to this one, above what an agent opens for pieces and for questions. */
export const MAX_CONNECTIONS_PER_NODE = 128;
/** All connections to this node. */
export const MAX_CONNECTIONS = 8_192;
/** For a request's head, and for all of a request: asks have no body, and others have a small one. */
export const HEADERS_TIMEOUT_MS = 10_000;
export const REQUEST_TIMEOUT_MS = 20_000;
/** For one part of an answer, of up to 1 MiB: who takes longer holds a piece of this node's memory for nothing. */
export const SEND_TIMEOUT_MS = 120_000;
