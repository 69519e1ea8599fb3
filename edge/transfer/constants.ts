/** A member starts on the WAN when all live members have answered its join, or after this long. */
export const JOIN_WAIT_MS = 500;
/** A timer that fires this late says that this node was starved: answers lie unread in its sockets, which come after timers. */
export const STARVED_MS = 50;
/** How often a deadline that fired so late is put off. */
export const STARVED_TURNS = 3;
/** Blobs whose announcements are kept for when this node wants them too. */
export const NOTED_BLOBS = 256;
/** Most pieces ahead of the first missing one that a member starts over the WAN. */
export const WINDOW_MAX = 16;
export const WINDOW_START = 1;
export const WINDOW_GROWTH = 2;
/** Pieces ahead that are fetched from neighbours who have them. */
export const LAN_WINDOW = 16;
/** Pieces ahead of a reader of ranges, never past what it asked for. */
export const RANGE_WINDOW = 3;
/** A blob whose turn in the window has not come for this long starts all the same. */
export const WINDOW_PATIENCE_MS = 2_000;
/** Origin reads of one blob at a time: this many when owners are many, more when they are few. */
export const DEPTH_MIN = 2;
export const DEPTH_SUM = 4;
/**
 * A held ask is watched from this long on. A whole window takes 1.3 s at 100 Mbit/s: begun before, the watch asks a question
 * for nearly every piece, which costs some hundredths of what an agent takes for it.
 */
export const HEDGE_FIRST_MS = 2_000;
/** And this often. */
export const HEDGE_POLL_MS = 1_000;
/** An owner whose count stands still this long, while others' bytes move, is passed over. */
export const HEDGE_STILL_MS = 5_000;
/** One that has a piece and sends nothing of it for this long is passed over: it may be queued there, but not for ever. */
export const HOLDER_STILL_MS = 12_000;
/** A begun piece that has taken this many times what those took that overtook it, and HOLDER_STILL_MS, is passed over. */
export const DRIP_RATIO = 8;
/** How many must have overtaken it: on a wire that is slow for all, none do. */
export const DRIP_SAMPLES = 3;
/** "In flight at X" is followed this often, then the askers' ranking decides. */
export const MAX_HOPS = 4;
/** A download that had progress keeps trying a lost origin for this long. */
export const ORIGIN_PATIENCE_MS = 20_000;
export const ORIGIN_RETRY = { baseMs: 250, maxMs: 4_000 } as const;
/** How long a finished or left download still answers for its swarm. */
export const LINGER_MS = 30_000;
/** Members that are not in the view yet are asked again this often. */
export const REJOIN_MS = 5_000;
/** A holder feeds this many waiters a piece itself, where owners are few, and sends the rest on to them. */
export const FAN_OUT = 2;
/** Owners are few when there are more than this many members on the blob for each. */
export const FAN_OUT_RATIO = 4;
/** Whether a registry takes ranges is waited for this long, so often, before another read finds out. */
export const PROBE_WAIT_MS = 1_000;
export const PROBE_ROUNDS = 3;
/** That a registry takes no ranges is believed for this long. */
export const RANGELESS_MS = 600_000;
/** Of two members that read the same blob from start to end, the later in rank stops within this time from its begin. */
export const STREAM_YIELDS_MS = 10_000;
/** Rounds of rereading after a blob's digest did not match. */
export const MEND_ROUNDS = 2;
/** Largest lease handed to a reader, bytes. */
export const READ_BYTES = 1024 * 1024;
/** A small question is waited for this long before what is known here answers; where the registry's pace is known, for less. */
export const TAG_WAIT_MS = 5_000;
/** The question itself goes on for longer than a connection may take, so that what comes of it is known. */
export const QUESTION_MS = 6_000;
/** After this long without its answer, neighbours are asked whether they can reach it. */
export const HEARSAY_AFTER_MS = 200;
/** Those that have not answered by then have heard nothing either. */
export const HEARSAY_WAIT_MS = 500;
/** A registry that is silent for this many times what it took at most of late, and this long, is away. */
export const PATIENCE_RATIO = 3;
export const PATIENCE_MIN_MS = 1_000;
/** When this share of the patience is over, what a record names is brought here from neighbours, in case it is needed. */
export const WARM_SHARE = 0.25;
/** It is brought on for this long after the tag was answered: by then who asked for the tag has asked for the content. */
export const WARM_KEEP_MS = 5_000;
/** What a registry took at most fades by this with each answer: half of it over 23 of them. */
export const PACE_DECAY = 0.97;
/** Registries whose pace is known. */
export const MAX_PACES = 64;
/** A pace is written down when the patience that follows from it has changed by more than this. */
export const PATIENCE_WRITE_RATIO = 1.5;
/** A small question to neighbours. */
export const ASK_WAIT_MS = 2_000;
/** Records that one member may state of a tag: as many as an honest one keeps. */
export const STATED_RECORDS = 2;
/** Images of the container runtime that are looked at. */
export const MAX_LOADED_IMAGES = 2_000;
/** Manifests of one index that are looked at. */
export const MAX_LOADED_MANIFESTS = 64;
/** Registries are asked at most so often in one round who may pull from a repository. */
export const ASKED_REPOSITORIES = 100;
/** One that said no, or knows no such repository, is asked again after this long. */
export const ASKED_AGAIN_MS = 3_600_000;
/** A blob that is said to be whole here, and cannot be read, is looked for so often before it is fetched. */
export const WHOLE_ATTEMPTS = 3;
