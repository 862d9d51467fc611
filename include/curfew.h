/*
 * Curfew: decides, for every request that passes an access proxy, whether the session it belongs to
 * may go on.
 *
 * Made from the sources of the library: changes go there. docs/c-api.md has a whole small program.
 *
 * Conventions
 *
 *   Status      Every function that can fail returns a curfew_status. Outputs come last, and are
 *               written if and only if it is CURFEW_OK (a curfew_error: if and only if it is not).
 *               Zero a verdict first, and a call that failed has let nobody pass.
 *   Structs     The first member, struct_size, is the size of the struct as the program was built
 *               with it. It must be set, also in structs that are only written; curfew_..._init does
 *               it. Programs and libraries of different versions then work together.
 *   Pointers    No pointer may be null, unless the function says so; curfew_error may be, everywhere.
 *               "As every output struct": struct_size says how much may be written. "As every
 *               output array": so does that of the first element, which is also the distance
 *               between them; it may be null if there is no element.
 *   Ownership   What a program passes stays the program's and is not kept. What the library returns
 *               as text lives as long as the program. Tables are the only thing to be given back.
 *   Threads     Every function may be called from any thread, with the same table at the same time;
 *               none from a signal handler, and no thread may be cancelled (pthread_cancel) in one.
 *   Forks       A table belongs to the process that opened it. In a child, calls with its parent's
 *               tables answer CURFEW_FORKED: it opens the region for itself. (A child of a bare clone
 *               system call must exec, or not touch tables at all.)
 *   Units       Times are ticks, lengths of time milliseconds, both of at most CURFEW_NEVER.
 *   Memory      Arguments may overlap, except where a function says otherwise, and need not be
 *               aligned. A function that is passed wild pointers is beyond help.
 */


#ifndef CURFEW_H
#define CURFEW_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The version of this header. curfew_version() and curfew_version_number() are the library's. */
#define CURFEW_VERSION "0.1.0"
#define CURFEW_VERSION_NUMBER 1000


/**
 * The tick that never comes, and the length of time that is never over.
 */
#define CURFEW_NEVER 281474976710655

/**
 * Ask the system for 2 MiB pages, which make large regions faster. A hint. A region file in memory
 * (tmpfs) takes all of its memory at once then; other files have small pages.
 */
#define CURFEW_HUGE_PAGES 1

/**
 * Take `epoch` from this struct. Without it the epoch is the moment of creation by
 * `CLOCK_BOOTTIME`, which is what `curfew_now` counts from.
 */
#define CURFEW_OWN_EPOCH 2

/**
 * In `curfew_filter`: `policy` counts.
 */
#define CURFEW_BY_POLICY 1

/**
 * In `curfew_filter`: `started_before` counts.
 */
#define CURFEW_STARTED_BEFORE 2

/**
 * In `curfew_filter`: `idle_since` counts.
 */
#define CURFEW_IDLE_SINCE 4

/**
 * Policies are numbered from zero; a region has at most this many.
 */
#define CURFEW_MOST_POLICIES 64

/**
 * Longest name of a policy, with its final zero.
 */
#define CURFEW_POLICY_NAME_SIZE 32

/**
 * Bytes of a key as text, with its final zero.
 */
#define CURFEW_KEY_TEXT_SIZE 33

/**
 * The cursor of `curfew_list` after the last page.
 */
#define CURFEW_LAST_PAGE 18446744073709551615ull

/**
 * What a function answers. `CURFEW_OK` is zero; the numbers never change meaning, and later
 * versions may add some. Outputs are written if and only if the answer is `CURFEW_OK`.
 */
enum curfew_status
#ifdef __cplusplus
  : int32_t
#endif // __cplusplus
 {
  /**
   * Done.
   */
  CURFEW_OK = 0,
  /**
   * A pointer that must not be null is.
   */
  CURFEW_NULL_ARGUMENT = 1,
  /**
   * An argument is out of range, or arrays overlap.
   */
  CURFEW_INVALID_ARGUMENT = 2,
  /**
   * `struct_size` is not the size of this struct in any version: it was not set.
   */
  CURFEW_STRUCT_SIZE = 3,
  /**
   * The caller was built for a later version and asks for what this library does not know.
   */
  CURFEW_UNSUPPORTED = 4,
  /**
   * Not an open table: it was closed, or never was one.
   */
  CURFEW_CLOSED = 5,
  /**
   * The table was opened before this process was forked: open it in this process.
   */
  CURFEW_FORKED = 6,
  /**
   * A defect in Curfew; the call did not happen, or only in part. The region stays usable.
   */
  CURFEW_PANIC = 7,
  /**
   * The system refused; `curfew_error` has its number.
   */
  CURFEW_SYSTEM = 8,
  /**
   * As many tables are open in this process as there can be.
   */
  CURFEW_TOO_MANY_TABLES = 9,
  /**
   * The buffer is too small for the text and its final zero.
   */
  CURFEW_BUFFER_TOO_SMALL = 10,
  /**
   * There is something at this path, or a region in this memory, already. It was left alone.
   */
  CURFEW_EXISTS = 20,
  /**
   * There is nothing at this path.
   */
  CURFEW_NOT_FOUND = 21,
  /**
   * The file system has no room for the region.
   */
  CURFEW_NO_SPACE = 22,
  /**
   * This is something else than a region.
   */
  CURFEW_NOT_A_REGION = 23,
  /**
   * The region was made by a version of Curfew with another layout.
   */
  CURFEW_OTHER_VERSION = 24,
  /**
   * The region is truncated or damaged.
   */
  CURFEW_DAMAGED = 25,
  /**
   * The file is a link, another user's, or others can read or write it.
   */
  CURFEW_UNSAFE_FILE = 26,
  /**
   * The region is from before this machine's last boot: its times mean nothing now. Remove it, and restore a
   * snapshot.
   */
  CURFEW_OTHER_BOOT = 27,
  /**
   * As many processes have the region open as there can be.
   */
  CURFEW_TOO_MANY_PROCESSES = 28,
  /**
   * The region was never finished, or the file was replaced just now.
   */
  CURFEW_UNFINISHED = 29,
  /**
   * The configuration is out of range.
   */
  CURFEW_OUT_OF_RANGE = 30,
  /**
   * The memory that was passed is too small or not aligned to 64 bytes.
   */
  CURFEW_MEMORY = 31,
  /**
   * The memory is not shared, or with another lock file.
   */
  CURFEW_NOT_SHARED = 32,
  /**
   * A policy needs `idle_ms` or `lifetime_ms`: with neither, no session would ever end.
   */
  CURFEW_NO_LIMIT = 40,
  /**
   * A limit is longer than time can be.
   */
  CURFEW_TOO_LONG = 41,
  /**
   * A policy's name has 1 to 31 bytes of UTF-8.
   */
  CURFEW_BAD_NAME = 42,
  /**
   * The region has as many policies as there can be.
   */
  CURFEW_TOO_MANY_POLICIES = 43,
  /**
   * The policy changed several times and its sessions are still being looked through: call
   * `curfew_advance`, then try again.
   */
  CURFEW_POLICY_BUSY = 44,
  /**
   * There is no such policy in this region.
   */
  CURFEW_UNKNOWN_POLICY = 45,
  /**
   * A session with this key is live.
   */
  CURFEW_SESSION_EXISTS = 60,
  /**
   * The session has ended; `curfew_peek` says why and when.
   */
  CURFEW_SESSION_ENDED = 61,
  /**
   * The region is full.
   */
  CURFEW_FULL = 62,
  /**
   * The subject has as many sessions as the policy allows.
   */
  CURFEW_LIMITED = 63,
  /**
   * The token has expired already.
   */
  CURFEW_TOKEN_EXPIRED = 64,
  /**
   * No session has this key, or none that is still remembered.
   */
  CURFEW_UNKNOWN_SESSION = 65,
  /**
   * The key was rotated a moment ago, by a parallel request.
   */
  CURFEW_ROTATED_ALREADY = 66,
  /**
   * The new key belongs to a session, live or ended.
   */
  CURFEW_KEY_TAKEN = 67,
  /**
   * This is something else than a snapshot.
   */
  CURFEW_NOT_A_SNAPSHOT = 80,
  /**
   * The snapshot was made by a version of Curfew with another format.
   */
  CURFEW_SNAPSHOT_VERSION = 81,
  /**
   * The snapshot is not as long as it says; or it is too short to be one.
   */
  CURFEW_SNAPSHOT_TRUNCATED = 82,
  /**
   * The snapshot is not as it was written, or holds what no region can hold.
   */
  CURFEW_SNAPSHOT_DAMAGED = 83,
  /**
   * The clocks cannot tell how long ago the snapshot was taken, or how old its sessions are.
   */
  CURFEW_CLOCKS = 84,
  /**
   * Sessions ended faster than a snapshot could follow: try again when it is quieter.
   */
  CURFEW_OVERRUN = 85,
};
#ifndef __cplusplus
typedef int32_t curfew_status;
#endif // __cplusplus

/**
 * What a session is.
 */
enum curfew_state
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * Usable.
   */
  CURFEW_ACTIVE = 1,
  /**
   * Past the idle timeout and not gone yet.
   */
  CURFEW_GRACE = 2,
  /**
   * Over; `cause` says why.
   */
  CURFEW_ENDED = 3,
  /**
   * Presented without what it is bound to. Only in verdicts.
   */
  CURFEW_MISMATCH = 4,
  /**
   * No session has this key, or none that is still remembered. Only in verdicts.
   */
  CURFEW_UNKNOWN = 5,
};
#ifndef __cplusplus
typedef uint32_t curfew_state;
#endif // __cplusplus

/**
 * Why a session ended.
 */
enum curfew_cause
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * It did not end.
   */
  CURFEW_CAUSE_NONE = 0,
  /**
   * No activity for the idle timeout, and grace if there is one.
   */
  CURFEW_CAUSE_IDLE = 1,
  /**
   * Its lifetime is over.
   */
  CURFEW_CAUSE_LIFETIME = 2,
  /**
   * Its token has expired.
   */
  CURFEW_CAUSE_TOKEN = 3,
  /**
   * The user logged out.
   */
  CURFEW_CAUSE_LOGOUT = 4,
  /**
   * Somebody in charge ended it.
   */
  CURFEW_CAUSE_REVOKED = 5,
  /**
   * It was presented without what it is bound to.
   */
  CURFEW_CAUSE_BINDING = 6,
  /**
   * Its subject started one more session than the policy allows.
   */
  CURFEW_CAUSE_DISPLACED = 7,
  /**
   * It was given up to make room. Curfew itself does this to ended sessions only.
   */
  CURFEW_CAUSE_EVICTED = 8,
  /**
   * It goes on under a new id; this one is dead.
   */
  CURFEW_CAUSE_ROTATED = 9,
};
#ifndef __cplusplus
typedef uint32_t curfew_cause;
#endif // __cplusplus

/**
 * What happened to a session.
 */
enum curfew_what
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * It ended. Every session that ends does so in exactly one such event.
   */
  CURFEW_EVENT_ENDED = 1,
  /**
   * It got a new id; the event has the old key.
   */
  CURFEW_EVENT_ROTATED = 2,
  /**
   * Something that was still open of a session that had ended was cut off (`curfew_report_cut`), as often
   * as there was something to cut.
   */
  CURFEW_EVENT_CUT = 3,
};
#ifndef __cplusplus
typedef uint32_t curfew_what;
#endif // __cplusplus

/**
 * What the window after the idle timeout allows.
 */
enum curfew_grace_mode
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * The session waits for `curfew_reauthenticate`; a touch changes nothing.
   */
  CURFEW_GRACE_REAUTH = 0,
  /**
   * A touch brings the session back.
   */
  CURFEW_GRACE_RESUME = 1,
};
#ifndef __cplusplus
typedef uint32_t curfew_grace_mode;
#endif // __cplusplus

/**
 * What happens when a session is presented without what it is bound to.
 */
enum curfew_on_mismatch
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * The request does not pass; the session goes on for its rightful holder.
   */
  CURFEW_MISMATCH_DENY = 0,
  /**
   * The session ends.
   */
  CURFEW_MISMATCH_END = 1,
  /**
   * The request passes, and the verdict says so.
   */
  CURFEW_MISMATCH_LOG = 2,
};
#ifndef __cplusplus
typedef uint32_t curfew_on_mismatch;
#endif // __cplusplus

/**
 * What happens when a subject that has `max_per_subject` sessions starts another.
 */
enum curfew_on_limit
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * The new session is refused.
   */
  CURFEW_LIMIT_DENY = 0,
  /**
   * The session that started first ends.
   */
  CURFEW_LIMIT_END_OLDEST = 1,
  /**
   * The session that has been idle longest ends.
   */
  CURFEW_LIMIT_END_LEAST_RECENT = 2,
};
#ifndef __cplusplus
typedef uint32_t curfew_on_limit;
#endif // __cplusplus

/**
 * What a start does when the region is full. Live sessions are never given up.
 */
enum curfew_on_full
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * It is refused.
   */
  CURFEW_FULL_REFUSE = 0,
  /**
   * The ended session that would be forgotten soonest is forgotten now.
   */
  CURFEW_FULL_EVICT_ENDED = 1,
};
#ifndef __cplusplus
typedef uint32_t curfew_on_full;
#endif // __cplusplus

/**
 * How long an ended session is remembered, so that its id cannot start anew.
 */
enum curfew_retain_mode
#ifdef __cplusplus
  : uint32_t
#endif // __cplusplus
 {
  /**
   * Until its lifetime or its token would have been over; 24 hours if it had neither.
   */
  CURFEW_RETAIN_UNTIL_HARD_LIMIT = 0,
  /**
   * For `retain_ms` after its end; zero forgets at once.
   */
  CURFEW_RETAIN_FOR = 1,
};
#ifndef __cplusplus
typedef uint32_t curfew_retain_mode;
#endif // __cplusplus

/**
 * What a new region is to be.
 */
typedef struct {
  /**
   * `sizeof(curfew_config)`, set by you or by `curfew_config_init`.
   */
  size_t struct_size;
  /**
   * Sessions, live and ended ones that are still remembered, that it has room for: 1 to 2^30.
   */
  uint64_t capacity;
  /**
   * Events that are remembered until they are overwritten: 16 to 2^26; zero for a number that
   * goes with the capacity.
   */
  uint64_t events;
  /**
   * 32 bytes that digests are keyed with; null for random ones, which is right unless two regions
   * must give the same keys.
   */
  const uint8_t *secret;
  /**
   * With `CURFEW_OWN_EPOCH`: what your clock says, in milliseconds, at tick zero.
   */
  int64_t epoch;
  /**
   * `CURFEW_HUGE_PAGES`, `CURFEW_OWN_EPOCH`, or zero.
   */
  uint32_t flags;
  /**
   * Zero.
   */
  uint32_t reserved;
} curfew_config;

/**
 * Why a call was refused, for a person. Written only when the answer is not `CURFEW_OK`.
 */
typedef struct {
  /**
   * `sizeof(curfew_error)`, set by you.
   */
  size_t struct_size;
  /**
   * The answer, once more.
   */
  int32_t status;
  /**
   * What the system said (`errno`), or zero.
   */
  int32_t os_error;
  /**
   * What was wrong, where, and what to do; ends with a zero. Never holds a session id.
   */
  char message[496];
} curfew_error;

/**
 * An open table. Opaque; copy it as you like. All zeroes is no table.
 *
 * It may be used from any thread, by several at once. It belongs to the process that opened it:
 * in a child that is forked from that process, every call with it answers `CURFEW_FORKED`.
 */
typedef struct {
  /**
   * Not for you.
   */
  uint64_t id;
} curfew_table;

/**
 * Engine time: milliseconds since the region's epoch, which `curfew_now` counts for you. A tick is
 * a point in time; lengths of time are milliseconds too, and their names end in `_ms`.
 */
typedef uint64_t curfew_tick;

/**
 * What a table holds, and has counted.
 */
typedef struct {
  /**
   * `sizeof(curfew_stats)`, set by you or by `curfew_stats_init`.
   */
  size_t struct_size;
  /**
   * Sessions the region has room for.
   */
  uint64_t capacity;
  /**
   * Bytes of the region.
   */
  uint64_t bytes;
  /**
   * Records in use: live sessions and ended ones that are still remembered.
   */
  uint64_t used;
  /**
   * Sessions that were not ended yet, those included whose time has come since the last advance.
   */
  uint64_t live;
  /**
   * Sessions started.
   */
  uint64_t started;
  /**
   * Sessions ended, by `curfew_cause`.
   */
  uint64_t ended[10];
  /**
   * Sessions that got a new id.
   */
  uint64_t rotated;
  /**
   * Starts that were refused because the region was full.
   */
  uint64_t refused_full;
  /**
   * Starts that were refused because the subject had enough sessions.
   */
  uint64_t refused_limited;
  /**
   * Requests that did not present what their session is bound to.
   */
  uint64_t mismatches;
  /**
   * Events written.
   */
  uint64_t events;
  /**
   * Times that something was rebuilt because its last user had died in the middle.
   */
  uint64_t recoveries;
} curfew_stats;

/**
 * A named set of limits. A length of zero switches a limit off; `idle_ms` or `lifetime_ms` must be
 * set.
 */
typedef struct {
  /**
   * `sizeof(curfew_policy)`, set by you or by `curfew_policy_init`.
   */
  size_t struct_size;
  /**
   * Longest time between two activities.
   */
  uint64_t idle_ms;
  /**
   * Longest time from start or last re-authentication to end, whatever the activity.
   */
  uint64_t lifetime_ms;
  /**
   * Window after the idle timeout in which the session is not usable as before but not gone.
   */
  uint64_t grace_ms;
  /**
   * With `CURFEW_RETAIN_FOR`: how long an ended session is remembered.
   */
  uint64_t retain_ms;
  /**
   * A `curfew_retain_mode`.
   */
  uint32_t retain_mode;
  /**
   * A `curfew_grace_mode`.
   */
  uint32_t grace_mode;
  /**
   * A `curfew_on_mismatch`.
   */
  uint32_t on_mismatch;
  /**
   * Most live sessions of one subject; zero for no limit.
   */
  uint32_t max_per_subject;
  /**
   * A `curfew_on_limit`.
   */
  uint32_t on_limit;
  /**
   * A `curfew_on_full`.
   */
  uint32_t on_full;
} curfew_policy;

/**
 * The keyed digest of a session id (`curfew_derive_key`): the only form in which an id exists in
 * memory, files, events and lists. Fit for logs (`curfew_key_text`).
 */
typedef struct {
  /**
   * The digest.
   */
  uint8_t bytes[16];
} curfew_key;

/**
 * The keyed digest of whom a session belongs to (`curfew_derive_subject`). Zero for nobody.
 */
typedef uint64_t curfew_subject;

/**
 * The keyed digest of what a session is bound to, or of what a request has presented
 * (`curfew_derive_binding`). Zero for nothing.
 */
typedef uint64_t curfew_binding;

/**
 * The answer to a touch or a peek. Look at `passes`; the rest is for telling people why, and for
 * how long.
 */
typedef struct {
  /**
   * `sizeof(curfew_verdict)`, set by you or by `curfew_verdict_init`.
   */
  size_t struct_size;
  /**
   * 1 if the request may pass: `CURFEW_ACTIVE`, or `CURFEW_GRACE` under `CURFEW_GRACE_RESUME`.
   * Else 0. Of a peek: whether a touch would have let it pass.
   */
  uint32_t passes;
  /**
   * A `curfew_state`.
   */
  uint32_t state;
  /**
   * A `curfew_cause`: of the end, or `CURFEW_CAUSE_BINDING` if this mismatch has ended the session.
   */
  uint32_t cause;
  /**
   * 1 if the session was presented without what it is bound to, also where that may pass.
   */
  uint32_t mismatch;
  /**
   * The policy it lives under, in `CURFEW_ACTIVE` and `CURFEW_GRACE`.
   */
  uint32_t policy;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * In `CURFEW_ENDED`: when it ended, which may be before anybody noticed.
   */
  curfew_tick ended_at;
  /**
   * In `CURFEW_ACTIVE` and `CURFEW_GRACE`: until the idle timeout, zero in grace that waits for
   * re-authentication. `CURFEW_NEVER` if the limit is off, here and below.
   */
  uint64_t idle_left_ms;
  /**
   * Until the lifetime is over.
   */
  uint64_t lifetime_left_ms;
  /**
   * Until the token expires.
   */
  uint64_t token_left_ms;
  /**
   * Until the session ends if nothing happens: the least of the above, and grace.
   */
  uint64_t end_left_ms;
  /**
   * Since its start or last re-authentication.
   */
  uint64_t age_ms;
} curfew_verdict;

/**
 * What a session begins with.
 */
typedef struct {
  /**
   * `sizeof(curfew_start_options)`, set by you or by `curfew_start_options_init`.
   */
  size_t struct_size;
  /**
   * The policy it lives under (`curfew_set_policy`).
   */
  uint32_t policy;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * Whose it is; zero for nobody.
   */
  curfew_subject subject;
  /**
   * What every request must then present; zero for nothing.
   */
  curfew_binding binding;
  /**
   * When its token expires (`curfew_tick_of_unix_time`). `CURFEW_NEVER` if it has none, which is what
   * `curfew_start_options_init` sets; zero is long past.
   */
  curfew_tick token;
} curfew_start_options;

/**
 * Which sessions `curfew_end_all` ends: those for which everything that `set` names holds.
 */
typedef struct {
  /**
   * `sizeof(curfew_filter)`, set by you or by `curfew_filter_init`.
   */
  size_t struct_size;
  /**
   * What counts: `CURFEW_BY_POLICY`, `CURFEW_STARTED_BEFORE`, `CURFEW_IDLE_SINCE`. Zero means all
   * sessions there are.
   */
  uint32_t set;
  /**
   * Those under this policy.
   */
  uint32_t policy;
  /**
   * Those that started, or were last re-authenticated, before this tick.
   */
  curfew_tick started_before;
  /**
   * Those whose last activity was before this tick.
   */
  curfew_tick idle_since;
} curfew_filter;

/**
 * A session as it was at one moment.
 */
typedef struct {
  /**
   * `sizeof(curfew_session)`. In an array you set the first one's.
   */
  size_t struct_size;
  /**
   * Its key.
   */
  curfew_key key;
  /**
   * Whose it is; zero for nobody.
   */
  curfew_subject subject;
  /**
   * Start or last re-authentication.
   */
  curfew_tick start;
  /**
   * Last activity.
   */
  curfew_tick last;
  /**
   * Token expiry, or `CURFEW_NEVER`; that also once it was ended.
   */
  curfew_tick token;
  /**
   * When it ends if nothing happens; when it ended, if it has.
   */
  curfew_tick end;
  /**
   * A `curfew_state`: `CURFEW_ACTIVE`, `CURFEW_GRACE` or `CURFEW_ENDED`.
   */
  uint32_t state;
  /**
   * A `curfew_cause`.
   */
  uint32_t cause;
  /**
   * The policy it lives under.
   */
  uint32_t policy;
  /**
   * 1 if it is bound to something.
   */
  uint32_t bound;
  /**
   * 1 if this is the old key of a session that was rotated.
   */
  uint32_t rotated;
  /**
   * Zero.
   */
  uint32_t reserved;
} curfew_session;

/**
 * Something that happened to a session.
 */
typedef struct {
  /**
   * `sizeof(curfew_event)`. In an array you set the first one's.
   */
  size_t struct_size;
  /**
   * Its number. Events are numbered from zero over the whole life of a region.
   */
  uint64_t number;
  /**
   * When; of an end by a deadline, the deadline; of a cut, when it was made.
   */
  curfew_tick at;
  /**
   * The session's key.
   */
  curfew_key key;
  /**
   * Whose it was; zero for nobody's.
   */
  curfew_subject subject;
  /**
   * From its start or last re-authentication to `at`.
   */
  uint64_t age_ms;
  /**
   * From its last activity to `at`.
   */
  uint64_t idle_ms;
  /**
   * A `curfew_what`.
   */
  uint32_t what;
  /**
   * A `curfew_cause`.
   */
  uint32_t cause;
  /**
   * The policy it lived under.
   */
  uint32_t policy;
  /**
   * Zero.
   */
  uint32_t reserved;
  /**
   * Of `CURFEW_EVENT_CUT`, the bytes that had been sent to the client by then; else zero.
   */
  uint64_t bytes;
} curfew_event;

/**
 * A session that something is open of: a WebSocket, a download, a long poll. It is yours: copy it, keep it
 * where you keep the connection; there is nothing to give back. It knows its session by the key: if the
 * same id is begun anew after its session was ended and forgotten, all between two looks, the new one is
 * taken for it.
 */
typedef struct {
  /**
   * `sizeof(curfew_watch)`, set by you or by `curfew_watch_init`.
   */
  size_t struct_size;
  /**
   * The session's key. Calls put the new one here when the session got a new id.
   */
  curfew_key key;
  /**
   * What the request proved to have when it was let through; zero for nothing.
   */
  curfew_binding binding;
} curfew_watch;

/**
 * What a snapshot holds. When sessions change while it is taken, some are counted twice.
 */
typedef struct {
  /**
   * `sizeof(curfew_snapshotted)`, set by you or by `curfew_snapshotted_init`.
   */
  size_t struct_size;
  /**
   * Sessions that nobody had ended.
   */
  uint64_t live;
  /**
   * Ended sessions that are still remembered.
   */
  uint64_t ended;
  /**
   * Records that were left out because nothing can be made of them (`curfew_repair`).
   */
  uint64_t damaged;
  /**
   * Bytes of the file.
   */
  uint64_t bytes;
} curfew_snapshotted;

/**
 * What a region that is restored from a snapshot is to be, where it differs from the one before.
 */
typedef struct {
  /**
   * `sizeof(curfew_restore_options)`, set by you or by `curfew_restore_options_init`.
   */
  size_t struct_size;
  /**
   * Sessions it has room for; zero for as many as before.
   */
  uint64_t capacity;
  /**
   * Events that are remembered; zero for as many as before.
   */
  uint64_t events;
  /**
   * How long it was from the snapshot to now, where the clocks cannot tell (`CURFEW_CLOCKS`) or tell it wrong;
   * zero to go by the clocks. What has certainly passed, which is the time since the boot at least, counts in
   * any case.
   */
  uint64_t downtime_ms;
  /**
   * `CURFEW_HUGE_PAGES`, or zero.
   */
  uint32_t flags;
  /**
   * Zero.
   */
  uint32_t reserved;
} curfew_restore_options;

/**
 * What came back from a snapshot.
 */
typedef struct {
  /**
   * `sizeof(curfew_restored)`, set by you or by `curfew_restored_init`.
   */
  size_t struct_size;
  /**
   * Sessions that go on.
   */
  uint64_t live;
  /**
   * Sessions whose time has come meanwhile. They have ended; the next `curfew_advance` reports them.
   */
  uint64_t over;
  /**
   * Sessions that had ended before, and are still remembered.
   */
  uint64_t ended;
  /**
   * Sessions that had ended before, and need not be remembered any longer.
   */
  uint64_t forgotten;
  /**
   * The time that counts against every session.
   */
  uint64_t downtime_ms;
  /**
   * The tick that it is now.
   */
  curfew_tick now;
} curfew_restored;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library, such as "0.1.0". `CURFEW_VERSION` is that of the header.
 */
const char *curfew_version(void);

/**
 * The version of the library as a number: a million for the first part, a thousand for the second.
 * `CURFEW_VERSION_NUMBER` is that of the header.
 */
uint32_t curfew_version_number(void);

/**
 * The name of a `curfew_status` in lower case, such as "session_ended"; "unknown" for a number that
 * this version does not have. Never null; lives as long as the program.
 */
const char *curfew_status_name(int32_t status_number);

/**
 * What a `curfew_status` means, in a few words for a person. Never null; lives as long as the
 * program.
 */
const char *curfew_status_text(int32_t status_number);

/**
 * The name of a `curfew_state` in lower case, such as "active"; "invalid" for a number that is none.
 * Never null; lives as long as the program.
 */
const char *curfew_state_name(uint32_t state);

/**
 * The name of a `curfew_cause` in lower case, such as "idle"; "none" for `CURFEW_CAUSE_NONE`, "invalid" for
 * a number that is no cause. Never null; lives as long as the program.
 */
const char *curfew_cause_name(uint32_t cause);

/**
 * Bytes of a region with this configuration, for memory that you provide (`curfew_create_in`).
 *
 * Answers `CURFEW_OUT_OF_RANGE` when there can be no such region.
 *
 * Pointers:
 * `config` and `error` as everywhere; `bytes` can be written.
 */
curfew_status curfew_bytes_needed(const curfew_config *config, curfew_error *error, size_t *bytes);

/**
 * Creates a region in memory of this process's own, for its threads. Memory is taken as it is used.
 *
 * `error` may be null. On `CURFEW_OK` the table is yours, to be closed with `curfew_close`.
 *
 * Pointers:
 * `config` and `error` as everywhere; `table` can be written.
 */
curfew_status curfew_create_private(const curfew_config *config,
                                    curfew_error *error,
                                    curfew_table *table);

/**
 * Creates a region file at `path`, with mode 0600, which other processes of this user can open. The
 * file must be on a file system of this machine (/run, /dev/shm); it takes all of its room at
 * once. Who cuts it short kills all that have it open (SIGBUS).
 *
 * Answers `CURFEW_EXISTS` when there is something at `path`, which is left alone. `error` may be
 * null. On `CURFEW_OK` the table is yours, to be closed with `curfew_close`; the file stays.
 *
 * Pointers:
 * `path` ends with a zero; `config` and `error` as everywhere; `table` can be written.
 */
curfew_status curfew_create(const char *path,
                            const curfew_config *config,
                            curfew_error *error,
                            curfew_table *table);

/**
 * Opens the region file at `path`, which another process has created, or this one before.
 *
 * Answers `CURFEW_NOT_FOUND` when there is none; `CURFEW_OTHER_VERSION`, `CURFEW_DAMAGED`,
 * `CURFEW_UNSAFE_FILE` and their like, and changes nothing, when what is there cannot be used.
 * `error` may be null. On `CURFEW_OK` the table is yours, to be closed with `curfew_close`.
 *
 * Pointers:
 * `path` ends with a zero; `error` as everywhere; `table` can be written.
 */
curfew_status curfew_open(const char *path, curfew_error *error, curfew_table *table);

/**
 * Opens the region file at `path`, or creates it when there is none. Of several processes that do
 * this at once, one creates it and the others open what it made.
 *
 * Otherwise as `curfew_create` and `curfew_open`.
 *
 * Pointers:
 * As for `curfew_create`.
 */
curfew_status curfew_open_or_create(const char *path,
                                    const curfew_config *config,
                                    curfew_error *error,
                                    curfew_table *table);

/**
 * Creates a region in memory that you own: `bytes` bytes at `memory`, aligned to 64, at least as
 * many as `curfew_bytes_needed` says. What stands there is overwritten, but for a region.
 *
 * Until the table is closed the memory must stay where it is, and nothing else may write to it.
 *
 * With `lock_path` other processes that have the same memory can open the region with
 * `curfew_open_in`. The file, made if it is missing, stays empty; its bytes are locked to show who
 * lives. Without (null) the region is for the threads of this process, and opening it a second
 * time is refused.
 *
 * Answers `CURFEW_MEMORY` when the memory is too small or not aligned, `CURFEW_EXISTS` when there is
 * a region in it: open that, or clear the memory. `error` may be null. On `CURFEW_OK` the table is
 * yours, to be closed with `curfew_close`; the memory stays yours.
 *
 * Pointers:
 * `memory` is null or `bytes` bytes that can be written, as above; `lock_path` is null or ends with a
 * zero; `config` and `error` as everywhere; `table` can be written.
 */
curfew_status curfew_create_in(void *memory,
                               size_t bytes,
                               const char *lock_path,
                               const curfew_config *config,
                               curfew_error *error,
                               curfew_table *table);

/**
 * Opens the region that another process has created with `curfew_create_in` in memory which this
 * one has too, at whatever address. `lock_path` must lead to the same file as there, under whatever
 * name.
 *
 * Answers `CURFEW_NOT_SHARED` when the region was created without a lock file, or with another one.
 * Otherwise as `curfew_open`.
 *
 * Pointers:
 * As for `curfew_create_in`.
 */
curfew_status curfew_open_in(void *memory,
                             size_t bytes,
                             const char *lock_path,
                             curfew_error *error,
                             curfew_table *table);

/**
 * Closes a table: waits for the calls that other threads are in, and gives back its memory. A region
 * file stays, with everything in it.
 *
 * Answers `CURFEW_CLOSED` when it was closed already; calls that come later answer that too. Also a
 * child that was forked should close what its parent had open. Must not be called from a signal
 * handler.
 */
curfew_status curfew_close(curfew_table table);

/**
 * The present time of a region, for the `now` of every other call: milliseconds of `CLOCK_BOOTTIME`
 * since its epoch. So all processes agree, whenever they opened the region, and time goes on while the
 * machine sleeps. About 50 ns; an event loop may as well ask once per round.
 *
 * Not for regions that were created with `CURFEW_OWN_EPOCH` and another clock: those have their own.
 *
 * Pointers:
 * `now` can be written.
 */
curfew_status curfew_now(curfew_table table,
                         curfew_tick *now);

/**
 * The tick at which the wall clock, as it goes now, will show `unix_seconds` since 1970: for the
 * expiry of a token (its `exp`). A time before the region's epoch gives tick zero, which is long
 * past; one that is too far away gives `CURFEW_NEVER`.
 *
 * For regions whose time is `curfew_now`.
 *
 * Pointers:
 * `tick` can be written.
 */
curfew_status curfew_tick_of_unix_time(curfew_table table, int64_t unix_seconds, curfew_tick *tick);

/**
 * Does what is due at `now`, at most `budget` units of it (some tens of nanoseconds each): ends
 * sessions whose time has come, each in one event, forgets ended ones that need not be remembered, and
 * catches up with changed policies. Never what enforces: a touch is exact whether this has run or not.
 *
 * `done` gets the units that were used, `more` 1 if there is more due at `now`: call again at once. Either
 * may be null. Otherwise call it at `curfew_next_due`, or every now and then. Several threads and processes
 * may call it and share the work.
 *
 * Pointers:
 * `done` and `more` can be written or are null.
 */
curfew_status curfew_advance(curfew_table table,
                             curfew_tick now,
                             size_t budget,
                             size_t *done,
                             uint32_t *more);

/**
 * The earliest tick at which `curfew_advance` may have something to do, `CURFEW_NEVER` if there is none: an
 * event loop may sleep until then. It may be earlier than the next end, and later calls, of any process,
 * may bring it nearer: sleep no longer than you would like an end to be reported late.
 *
 * Pointers:
 * `due` can be written.
 */
curfew_status curfew_next_due(curfew_table table,
                              curfew_tick *due);

/**
 * What a table holds, and has counted. The figures are read one after the other while others go on.
 *
 * Pointers:
 * `stats` as every output struct.
 */
curfew_status curfew_get_stats(curfew_table table, curfew_stats *stats);

/**
 * Looks through the whole region for anything that is not as it must be, while others go on. For tests
 * and after an accident; takes its time.
 *
 * Answers `CURFEW_DAMAGED`, and says in `error`, which may be null, what it found first.
 *
 * Pointers:
 * `error` as everywhere.
 */
curfew_status curfew_check(curfew_table table,
                           curfew_error *error);

/**
 * Makes everything that can be told from the sessions themselves anew, while others go on: what a region
 * that may have been damaged calls for. Looks at every record.
 */
curfew_status curfew_repair(curfew_table table);

/**
 * Adds the policy `name`, or changes it for all sessions that live under it, at once; `policy_number`
 * gets the number by which sessions name it.
 *
 * A session that had ended under the old policy before `now` stays ended. Setting a policy to what it
 * is does nothing, so every process may set its policies when it starts. Answers
 * `CURFEW_NO_LIMIT`, `CURFEW_TOO_LONG`, `CURFEW_BAD_NAME`, `CURFEW_TOO_MANY_POLICIES`, or
 * `CURFEW_POLICY_BUSY` when it changed three times and `curfew_advance` has not caught up. `error` may be
 * null.
 *
 * Pointers:
 * `name` ends with a zero; `policy` and `error` as everywhere; `policy_number` can be written.
 */
curfew_status curfew_set_policy(curfew_table table,
                                const char *name,
                                const curfew_policy *policy,
                                curfew_tick now,
                                curfew_error *error,
                                uint32_t *policy_number);

/**
 * The number of the policy `name`. Answers `CURFEW_UNKNOWN_POLICY` when there is none.
 *
 * Pointers:
 * `name` ends with a zero; `policy_number` can be written.
 */
curfew_status curfew_find_policy(curfew_table table, const char *name, uint32_t *policy_number);

/**
 * What a policy says now. Answers `CURFEW_UNKNOWN_POLICY` when there is none of this number: numbers
 * below `CURFEW_MOST_POLICIES` are all that need be tried to see every policy.
 *
 * Pointers:
 * `policy` as every output struct.
 */
curfew_status curfew_get_policy(curfew_table table,
                                uint32_t policy_number,
                                curfew_policy *policy);

/**
 * The name of a policy, into a buffer of `size` bytes; `CURFEW_POLICY_NAME_SIZE` are always enough.
 * Answers `CURFEW_UNKNOWN_POLICY` when there is none of this number.
 *
 * Pointers:
 * `name` can be written for `size` bytes.
 */
curfew_status curfew_policy_name(curfew_table table,
                                 uint32_t policy_number,
                                 char *name,
                                 size_t size);

/**
 * The key of a session id: `length` bytes, any bytes, at most a megabyte. About 0.1 us. The id is not
 * kept. The same id has the same key in every process that has the region open, and none in another
 * region.
 *
 * Pointers:
 * `id` points to `length` bytes; `key` can be written.
 */
curfew_status curfew_derive_key(curfew_table table,
                                const uint8_t *id,
                                size_t length,
                                curfew_key *key);

/**
 * The digest of whom sessions belong to: a user's name or number, `length` bytes; zero for none.
 *
 * Pointers:
 * `name` points to `length` bytes; `subject` can be written.
 */
curfew_status curfew_derive_subject(curfew_table table,
                                    const uint8_t *name,
                                    size_t length,
                                    curfew_subject *subject);

/**
 * The digest of what sessions are bound to, and requests present: the thumbprint of a client
 * certificate, a DPoP key, a device id, `length` bytes; zero for none.
 *
 * Pointers:
 * `what` points to `length` bytes; `binding` can be written.
 */
curfew_status curfew_derive_binding(curfew_table table,
                                    const uint8_t *what,
                                    size_t length,
                                    curfew_binding *binding);

/**
 * Writes a key as 32 hexadecimal digits and a zero, into a buffer of `size` bytes, of which
 * `CURFEW_KEY_TEXT_SIZE` are needed.
 *
 * Pointers:
 * `key` is null or points to a key; `to` can be written for `size` bytes.
 */
curfew_status curfew_key_text(const curfew_key *key, char *to, size_t size);

/**
 * Reads a key that `curfew_key_text` wrote, in letters of either case. Answers `CURFEW_INVALID_ARGUMENT` for anything else.
 *
 * Pointers:
 * `from` ends with a zero; `key` can be written.
 */
curfew_status curfew_key_parse(const char *from,
                               curfew_key *key);

/**
 * Decides whether a session may go on at `now`, and counts as activity if it may. The one call of the
 * hot path: takes no lock, allocates nothing, makes no system call; except that a wrong binding under
 * `CURFEW_MISMATCH_END` ends the session.
 *
 * `binding` is what the request proved to have; zero for nothing. `CURFEW_OK` means that there is a
 * verdict, not that it is favourable: a request passes if `verdict->passes`.
 *
 * Pointers:
 * `key` is null or points to a key; `verdict` as every output struct.
 */
curfew_status curfew_touch(curfew_table table,
                           const curfew_key *key,
                           curfew_binding binding,
                           curfew_tick now,
                           curfew_verdict *verdict);

/**
 * Answers as `curfew_touch` would, and changes nothing. For requests that are no activity.
 *
 * Pointers:
 * As for `curfew_touch`.
 */
curfew_status curfew_peek(curfew_table table,
                          const curfew_key *key,
                          curfew_binding binding,
                          curfew_tick now,
                          curfew_verdict *verdict);

/**
 * `curfew_derive_key` and `curfew_touch` in one.
 *
 * Pointers:
 * `id` points to `length` bytes; `verdict` as every output struct.
 */
curfew_status curfew_touch_id(curfew_table table,
                              const uint8_t *id,
                              size_t length,
                              curfew_binding binding,
                              curfew_tick now,
                              curfew_verdict *verdict);

/**
 * `curfew_derive_key` and `curfew_peek` in one.
 *
 * Pointers:
 * As for `curfew_touch_id`.
 */
curfew_status curfew_peek_id(curfew_table table,
                             const uint8_t *id,
                             size_t length,
                             curfew_binding binding,
                             curfew_tick now,
                             curfew_verdict *verdict);

/**
 * Touches `count` sessions, asking for their memory ahead of time, which with many sessions is two to three
 * times as fast as one by one. Each is answered as `curfew_touch` would answer it, in order.
 *
 * `bindings` may be null, if nothing was presented with any. `verdicts` has room for as many; the first
 * one's `struct_size` counts for all. The arrays must not overlap (`CURFEW_INVALID_ARGUMENT`).
 *
 * Pointers:
 * `keys` points to `count` keys, `bindings` to `count` bindings or is null; `verdicts` as every output
 * array.
 */
curfew_status curfew_touch_many(curfew_table table,
                                const curfew_key *keys,
                                const curfew_binding *bindings,
                                size_t count,
                                curfew_tick now,
                                curfew_verdict *verdicts);

/**
 * Begins a session. Call it only on a trusted signal: the application has issued this very id just now. An
 * id that a client made up must not become a session.
 *
 * `displaced`, which may be null, gets how many sessions of the same subject were ended to make place.
 * Answers `CURFEW_SESSION_EXISTS`, `CURFEW_SESSION_ENDED` (the id has ended and is still remembered),
 * `CURFEW_FULL`, `CURFEW_LIMITED`, `CURFEW_TOKEN_EXPIRED` or `CURFEW_UNKNOWN_POLICY`. Locks a shard, for a
 * bounded time.
 *
 * Pointers:
 * `key` and `options` are null or point to one; `displaced` can be written or is null.
 */
curfew_status curfew_start(curfew_table table,
                           const curfew_key *key,
                           const curfew_start_options *options,
                           curfew_tick now,
                           uint32_t *displaced);

/**
 * `curfew_derive_key` and `curfew_start` in one.
 *
 * Pointers:
 * `id` points to `length` bytes; the others as for `curfew_start`.
 */
curfew_status curfew_start_id(curfew_table table,
                              const uint8_t *id,
                              size_t length,
                              const curfew_start_options *options,
                              curfew_tick now,
                              uint32_t *displaced);

/**
 * The user has proved presence: restarts idle and lifetime of a session that is active or in grace.
 *
 * `token`, if not null, is the new token expiry (`CURFEW_NEVER`: it has none any more); null leaves it. Issue
 * a new id as well (`curfew_rotate`). Answers `CURFEW_UNKNOWN_SESSION`, `CURFEW_SESSION_ENDED` or
 * `CURFEW_TOKEN_EXPIRED`; the session is as it was then.
 *
 * Pointers:
 * `key` is null or points to a key, `token` to a tick.
 */
curfew_status curfew_reauthenticate(curfew_table table,
                                    const curfew_key *key,
                                    const curfew_tick *token,
                                    curfew_tick now);

/**
 * Gives a session a new id, against fixation: `new_key` becomes its key, and for `overlap_ms` from now on
 * `old_key` answers as the new one, for requests that are in flight; then it has ended (at once if the
 * session is rotated sixteen times more meanwhile). `old_until`, which
 * may be null, gets the tick at which it does.
 *
 * Answers `CURFEW_UNKNOWN_SESSION`, `CURFEW_SESSION_ENDED`, `CURFEW_ROTATED_ALREADY`, `CURFEW_KEY_TAKEN` or
 * `CURFEW_FULL`; the session is as it was then.
 *
 * Pointers:
 * `old_key` and `new_key` are null or point to a key; `old_until` can be written or is null.
 */
curfew_status curfew_rotate(curfew_table table,
                            const curfew_key *old_key,
                            const curfew_key *new_key,
                            uint64_t overlap_ms,
                            curfew_tick now,
                            curfew_tick *old_until);

/**
 * Ends a session, for a `curfew_cause`. Its id is dead from this call on, in every process.
 *
 * Answers `CURFEW_UNKNOWN_SESSION`, or `CURFEW_SESSION_ENDED` when it had ended already.
 *
 * Pointers:
 * `key` is null or points to a key.
 */
curfew_status curfew_end(curfew_table table,
                         const curfew_key *key,
                         uint32_t cause,
                         curfew_tick now);

/**
 * Ends all sessions of a subject, for a `curfew_cause`; `ended`, which may be null, gets how many. Costs what
 * the subject has, not what the table holds. None is no error, and nobody (zero) has none.
 *
 * Pointers:
 * `ended` can be written or is null.
 */
curfew_status curfew_end_subject(curfew_table table,
                                 curfew_subject subject,
                                 uint32_t cause,
                                 curfew_tick now,
                                 uint64_t *ended);

/**
 * Ends all sessions that match, for a `curfew_cause`; `ended`, which may be null, gets how many. Looks at
 * every record, in steps between which others get their turn.
 *
 * Pointers:
 * `filter` is null or points to one; `ended` can be written or is null.
 */
curfew_status curfew_end_all(curfew_table table,
                             const curfew_filter *filter,
                             uint32_t cause,
                             curfew_tick now,
                             uint64_t *ended);

/**
 * All sessions, live and ended ones that are still remembered, in pages: up to `room` of them from
 * `*cursor` on, which is zero to begin with and is moved to the next page; after the last it is
 * `CURFEW_LAST_PAGE`. `count` gets how many there were; a page may be empty and not the last.
 *
 * Takes no lock: a session that comes or goes meanwhile may or may not be among them; every other one is,
 * once.
 *
 * Pointers:
 * `cursor` can be read and written; `sessions` as every output array; `count` can be written.
 */
curfew_status curfew_list(curfew_table table,
                          curfew_tick now,
                          uint64_t *cursor,
                          curfew_session *sessions,
                          size_t room,
                          size_t *count);

/**
 * The live sessions of a subject, the newest first. `count` gets how many there are, which may be more than
 * the `room` there was; `sessions` may be null when `room` is zero.
 *
 * Pointers:
 * `sessions` as every output array; `count` can be written.
 */
curfew_status curfew_list_subject(curfew_table table,
                                  curfew_subject subject,
                                  curfew_tick now,
                                  curfew_session *sessions,
                                  size_t room,
                                  size_t *count);

/**
 * Where a reader of events begins: `oldest` gets the number of the oldest event that is still there, `next`
 * that of the next one to come. Either may be null.
 *
 * Pointers:
 * `oldest` and `next` can be written or are null.
 */
curfew_status curfew_event_range(curfew_table table,
                                 uint64_t *oldest,
                                 uint64_t *next);

/**
 * Reads up to `room` events from number `*cursor` on, in order, and moves the cursor behind the last of them.
 * `count` gets how many there were, zero when there is none yet; `missed`, which may be null, how many on the
 * way were overwritten before they could be read.
 *
 * Readers have their own cursors, and disturb neither each other nor those who write. A cursor is good for as
 * long as the region is, in any process: keep it to go on from there.
 *
 * Pointers:
 * `cursor` can be read and written; `events` as every output array; `count` can be written; `missed` can be
 * written or is null.
 */
curfew_status curfew_read_events(curfew_table table,
                                 uint64_t *cursor,
                                 curfew_event *events,
                                 size_t room,
                                 size_t *count,
                                 uint64_t *missed);

/**
 * A number that is another one whenever a session was ended on record, got a new id, or had its policy
 * changed since it was read last, by whichever process. About as cheap as calling a function: read it often,
 * and ask about what is open (`curfew_peek_watched`) when it has changed.
 *
 * Read it before you ask: then who sees it unchanged the next time has missed nothing. A deadline that has
 * passed is on record only once some `curfew_advance` has come by it, so mind the nearest `end_left_ms` that
 * you were told, too. The number means nothing in itself, and may change when nothing has happened that
 * matters.
 *
 * Pointers:
 * `changes` can be written.
 */
curfew_status curfew_changes(curfew_table table,
                             uint64_t *changes);

/**
 * Answers about a watched session as `curfew_peek` would, except that a session which got a new id goes on
 * under it, also when the overlap of the old one is over: `watch->key` is then the new one. Ask at least once
 * while a rotation's overlap lasts; `curfew_changes` tells of each.
 *
 * What was open of a session is to be cut when the verdict is `CURFEW_ENDED`, or `CURFEW_UNKNOWN`: ended, and
 * not remembered any longer. Takes no lock, makes no system call. A watch is for one thread at a time.
 *
 * Pointers:
 * `watch` is null or points to a watch that can be read and written; `verdict` as every output struct.
 */
curfew_status curfew_peek_watched(curfew_table table,
                                  curfew_watch *watch,
                                  curfew_tick now,
                                  curfew_verdict *verdict);

/**
 * Counts as activity of a watched session what `curfew_touch` would, such as bytes that came from the client,
 * and answers like it. Follows the session through rotations, as `curfew_peek_watched` does. Costs what a
 * touch costs; a session's time has whole milliseconds, so one of them is enough in each.
 *
 * Pointers:
 * As for `curfew_peek_watched`.
 */
curfew_status curfew_touch_watched(curfew_table table,
                                   curfew_watch *watch,
                                   curfew_tick now,
                                   curfew_verdict *verdict);

/**
 * Reports that what was open of an ended session was cut off, after `bytes` were sent to the client: one event,
 * `CURFEW_EVENT_CUT`, for whoever reads events. `cause` is the `curfew_cause` of the session's end. Changes
 * nothing else, and moves `curfew_changes`. Takes a lock, for a bounded time.
 *
 * Pointers:
 * `watch` is null or points to a watch.
 */
curfew_status curfew_report_cut(curfew_table table,
                                const curfew_watch *watch,
                                uint32_t cause,
                                uint64_t bytes,
                                curfew_tick now);

/**
 * Writes everything that the region holds to a file that outlives the machine's boot, while all others go on:
 * a touch is not held up. The file has mode 0600 and appears at `path` whole or not at all; a snapshot that
 * was there before is replaced only then. Some 0.2 us for each session: call it every few minutes, and before
 * going down.
 *
 * A session whose start had returned and that was not ended is in it; one whose end had returned is not alive
 * in it. Events and statistics are not in it, nor are ids. For regions whose time is `curfew_now`.
 *
 * Answers `CURFEW_EXISTS` when the file at `path` is no snapshot, such as the region itself; `CURFEW_OVERRUN` when
 * sessions ended faster than they could be followed; `CURFEW_CLOCKS` when ticks were not taken from `curfew_now`;
 * `CURFEW_NOT_FOUND`, `CURFEW_NO_SPACE` or `CURFEW_SYSTEM` for what the file system said. What is at `path` then is
 * whole, and nearly always what was there before. `error` and `snapshotted` may be null.
 *
 * Pointers:
 * `path` ends with a zero; `error` as everywhere; `snapshotted` as every output struct, or null.
 */
curfew_status curfew_snapshot(curfew_table table,
                              const char *path,
                              curfew_error *error,
                              curfew_snapshotted *snapshotted);

/**
 * Creates a region file at `path` with everything that is in the snapshot file `snapshot`, and opens it. The
 * file appears with everything in it or not at all, and never replaces another: to change the size of a
 * region, take a snapshot, close the region everywhere, remove its file, and restore with another capacity.
 *
 * The time from the snapshot to now counts against every limit of every session: one whose time came meanwhile
 * is over at the first touch, and the next `curfew_advance` reports it. Keys are the same as before, and so are
 * the cursors of readers of events; statistics begin anew. An old snapshot is an old truth: what was ended
 * after it was taken is alive in it (`curfew_end_all`).
 *
 * `options` may be null: as large as it was, by the clocks. `error` and `restored` may be null. The whole
 * snapshot is looked at before anything of it is used. Answers
 *
 * - `CURFEW_NOT_FOUND`, `CURFEW_UNSAFE_FILE` when there is no snapshot, or it is not this user's alone,
 * - `CURFEW_NOT_A_SNAPSHOT`, `CURFEW_SNAPSHOT_VERSION`, `CURFEW_SNAPSHOT_TRUNCATED`,
 *   `CURFEW_SNAPSHOT_DAMAGED` when it is none, or not as it was written,
 * - `CURFEW_CLOCKS` when the clocks cannot tell how long ago it was taken: set them, or state it,
 * - `CURFEW_EXISTS` when there is something at `path`, which is left alone,
 * - `CURFEW_FULL` when the capacity is too small for what is in it, `CURFEW_OUT_OF_RANGE` when there can be
 *   no such region, and as `curfew_create` besides;
 *
 * no region is made then, and the snapshot stays what it is. On `CURFEW_OK` the table is yours, to be closed with
 * `curfew_close`. Takes some 0.7 us for each session; until it is done, forks and other calls that open or
 * close tables in this process wait.
 *
 * Pointers:
 * `snapshot` and `path` end with a zero; `options` is null or its `struct_size` is right; `error` as everywhere;
 * `restored` as every output struct, or null; `table` can be written.
 */
curfew_status curfew_restore(const char *snapshot,
                             const char *path,
                             const curfew_restore_options *options,
                             curfew_error *error,
                             curfew_restored *restored,
                             curfew_table *table);

/**
 * The same into memory of this process's own, for its threads.
 *
 * Pointers:
 * As for `curfew_restore`.
 */
curfew_status curfew_restore_private(const char *snapshot,
                                     const curfew_restore_options *options,
                                     curfew_error *error,
                                     curfew_restored *restored,
                                     curfew_table *table);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

/*
 * Structs to begin with: all zeroes, but for their size and what is said here.
 */
#define CURFEW_INIT_(type)                                                                         \
  static inline type type##_init(void) {                                                           \
    type value;                                                                                    \
    memset(&value, 0, sizeof value);                                                               \
    value.struct_size = sizeof value;                                                              \
    return value;                                                                                  \
  }

CURFEW_INIT_(curfew_error)
CURFEW_INIT_(curfew_policy)
CURFEW_INIT_(curfew_verdict)
CURFEW_INIT_(curfew_filter)
CURFEW_INIT_(curfew_session)
CURFEW_INIT_(curfew_event)
CURFEW_INIT_(curfew_stats)
CURFEW_INIT_(curfew_snapshotted)
CURFEW_INIT_(curfew_restore_options)
CURFEW_INIT_(curfew_restored)

#undef CURFEW_INIT_

/* A region for `capacity` sessions. */
static inline curfew_config curfew_config_init(uint64_t capacity) {
  curfew_config value;
  memset(&value, 0, sizeof value);
  value.struct_size = sizeof value;
  value.capacity = capacity;
  return value;
}

/* Nobody's session, bound to nothing and without a token. */
static inline curfew_start_options curfew_start_options_init(uint32_t policy) {
  curfew_start_options value;
  memset(&value, 0, sizeof value);
  value.struct_size = sizeof value;
  value.policy = policy;
  value.token = CURFEW_NEVER;
  return value;
}

/* Something that is open of the session with this key, for which `binding` was presented. */
static inline curfew_watch curfew_watch_init(curfew_key key, curfew_binding binding) {
  curfew_watch value;
  memset(&value, 0, sizeof value);
  value.struct_size = sizeof value;
  value.key = key;
  value.binding = binding;
  return value;
}

#endif /* CURFEW_H */
