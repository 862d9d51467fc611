package curfew

/*
#cgo pkg-config: curfew
#include <curfew.h>
#include <stdlib.h>

// Keys and verdicts go by value, so that a touch allocates nothing and passes no Go pointer, and the present
// time is read on the way: one call instead of two.

#define NOW UINT64_MAX

typedef struct { curfew_status status; curfew_verdict verdict; } judged;
typedef struct { curfew_status status; uint64_t value; } answered;

static inline curfew_status present(curfew_table table, curfew_tick *now) {
  return *now == NOW ? curfew_now(table, now) : CURFEW_OK;
}

static inline judged touch(curfew_table table, curfew_key key, curfew_binding binding, curfew_tick now, int counts) {
  judged answer = { CURFEW_OK, curfew_verdict_init() };
  answer.status = present(table, &now);
  if (answer.status == CURFEW_OK)
    answer.status = (counts ? curfew_touch : curfew_peek)(table, &key, binding, now, &answer.verdict);
  return answer;
}

static inline answered start(curfew_table table, curfew_key key, curfew_start_options options, curfew_tick now) {
  answered answer = { CURFEW_OK, 0 };
  uint32_t displaced = 0;
  answer.status = present(table, &now);
  if (answer.status == CURFEW_OK) answer.status = curfew_start(table, &key, &options, now, &displaced);
  answer.value = displaced;
  return answer;
}

static inline curfew_status reauthenticate(curfew_table table, curfew_key key, curfew_tick token, int sets, curfew_tick now) {
  curfew_status status = present(table, &now);
  return status == CURFEW_OK ? curfew_reauthenticate(table, &key, sets ? &token : NULL, now) : status;
}

static inline answered rotate(curfew_table table, curfew_key old_key, curfew_key new_key, uint64_t overlap, curfew_tick now) {
  answered answer = { CURFEW_OK, 0 };
  answer.status = present(table, &now);
  if (answer.status == CURFEW_OK)
    answer.status = curfew_rotate(table, &old_key, &new_key, overlap, now, &answer.value);
  return answer;
}

static inline curfew_status end(curfew_table table, curfew_key key, uint32_t cause, curfew_tick now) {
  curfew_status status = present(table, &now);
  return status == CURFEW_OK ? curfew_end(table, &key, cause, now) : status;
}

static inline answered end_subject(curfew_table table, curfew_subject subject, uint32_t cause, curfew_tick now) {
  answered answer = { CURFEW_OK, 0 };
  answer.status = present(table, &now);
  if (answer.status == CURFEW_OK) answer.status = curfew_end_subject(table, subject, cause, now, &answer.value);
  return answer;
}

static inline answered end_all(curfew_table table, curfew_filter filter, uint32_t cause, curfew_tick now) {
  answered answer = { CURFEW_OK, 0 };
  answer.status = present(table, &now);
  if (answer.status == CURFEW_OK) answer.status = curfew_end_all(table, &filter, cause, now, &answer.value);
  return answer;
}

static inline answered advance(curfew_table table, curfew_tick now, size_t budget) {
  answered answer = { CURFEW_OK, 0 };
  uint32_t more = 0;
  answer.status = present(table, &now);
  if (answer.status == CURFEW_OK) answer.status = curfew_advance(table, now, budget, NULL, &more);
  answer.value = more;
  return answer;
}

static inline answered present_tick(curfew_table table) {
  answered answer = { CURFEW_OK, 0 };
  answer.status = curfew_now(table, &answer.value);
  return answer;
}

static inline answered tick_of(curfew_table table, int64_t seconds) {
  answered answer = { CURFEW_OK, 0 };
  answer.status = curfew_tick_of_unix_time(table, seconds, &answer.value);
  return answer;
}

static inline answered next_due(curfew_table table) {
  answered answer = { CURFEW_OK, 0 };
  answer.status = curfew_next_due(table, &answer.value);
  return answer;
}
*/
import "C"

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Table is an open table of sessions. Its methods may be called from any goroutine at any time.
type Table struct {
	handle C.curfew_table
}

var _ io.Closer = (*Table)(nil)

// Version is the version of the library.
func Version() string { return C.GoString(C.curfew_version()) }

// NewPrivate creates a table for this process alone.
func NewPrivate(config Config) (*Table, error) {
	return open("create", config, func(config *C.curfew_config, why *C.curfew_error, table *C.curfew_table) C.curfew_status {
		return C.curfew_create_private(config, why, table)
	})
}

// Create creates a region file that other processes of this user can open.
func Create(path string, config Config) (*Table, error) {
	name, err := textOf("create", path, ErrInvalidArgument)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(name))
	return open("create", config, func(config *C.curfew_config, why *C.curfew_error, table *C.curfew_table) C.curfew_status {
		return C.curfew_create(name, config, why, table)
	})
}

// Open opens a region file.
func Open(path string) (*Table, error) {
	name, err := textOf("open", path, ErrInvalidArgument)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(name))
	return open("open", Config{}, func(_ *C.curfew_config, why *C.curfew_error, table *C.curfew_table) C.curfew_status {
		return C.curfew_open(name, why, table)
	})
}

// OpenOrCreate opens a region file, or creates it if there is none.
func OpenOrCreate(path string, config Config) (*Table, error) {
	name, err := textOf("open", path, ErrInvalidArgument)
	if err != nil {
		return nil, err
	}
	defer C.free(unsafe.Pointer(name))
	return open("open", config, func(config *C.curfew_config, why *C.curfew_error, table *C.curfew_table) C.curfew_status {
		return C.curfew_open_or_create(name, config, why, table)
	})
}

func open(op string, config Config, how func(*C.curfew_config, *C.curfew_error, *C.curfew_table) C.curfew_status) (*Table, error) {
	from := C.curfew_config_init(C.uint64_t(config.Capacity))
	from.events = C.uint64_t(config.Events)
	if config.HugePages {
		from.flags |= C.CURFEW_HUGE_PAGES
	}
	if config.Secret != nil {
		// In C's memory: what is passed to C must not hold pointers to Go's.
		secret := C.CBytes(config.Secret[:])
		defer C.free(secret)
		from.secret = (*C.uint8_t)(secret)
	}
	why := C.curfew_error_init()
	table := new(Table)
	if err := explained(op, how(&from, &why, &table.handle), &why); err != nil {
		return nil, err
	}
	return table, nil
}

// Close gives back the table's memory, when the calls that others are in have returned. The region file stays.
func (t *Table) Close() error { return refusal("close", C.curfew_close(t.handle)) }

// Now gives the present tick.
func (t *Table) Now() (Tick, error) {
	answer := C.present_tick(t.handle)
	return Tick(answer.value), refusal("now", answer.status)
}

// At gives the tick at which the wall clock, as it goes now, will show this time; zero if that was before the
// region's epoch.
func (t *Table) At(when time.Time) (Tick, error) {
	answer := C.tick_of(t.handle, C.int64_t(when.Unix()))
	return Tick(answer.value), refusal("at", answer.status)
}

func (t *Table) present(now Tick) (Tick, error) {
	if now == Now {
		return t.Now()
	}
	return now, nil
}

// Key gives the key of a session id.
func (t *Table) Key(id string) (Key, error) {
	var key C.curfew_key
	from, length := bytesOf(id)
	status := C.curfew_derive_key(t.handle, from, length, &key)
	return keyOf(key), refusal("key", status)
}

// Subject gives the digest of whom sessions belong to; zero for an empty name.
func (t *Table) Subject(name string) (Subject, error) {
	var subject C.curfew_subject
	from, length := bytesOf(name)
	status := C.curfew_derive_subject(t.handle, from, length, &subject)
	return Subject(subject), refusal("subject", status)
}

// Binding gives the digest of what sessions are bound to and requests present; zero for nothing.
func (t *Table) Binding(what string) (Binding, error) {
	var binding C.curfew_binding
	from, length := bytesOf(what)
	status := C.curfew_derive_binding(t.handle, from, length, &binding)
	return Binding(binding), refusal("binding", status)
}

func bytesOf(text string) (*C.uint8_t, C.size_t) {
	if text == "" {
		return nil, 0
	}
	bytes := []byte(text)
	return (*C.uint8_t)(unsafe.Pointer(&bytes[0])), C.size_t(len(bytes))
}

// A text as C has it, to be freed. One with a NUL, which would end it, is refused.
func textOf(op, text string, status Status) (*C.char, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, &Error{Op: op, Status: status, Message: fmt.Sprintf("%q has a NUL", text)}
	}
	return C.CString(text), nil
}

func keyOf(key C.curfew_key) Key { return *(*Key)(unsafe.Pointer(&key)) }

func (k Key) c() C.curfew_key { return *(*C.curfew_key)(unsafe.Pointer(&k)) }

// SetPolicy adds a policy, or changes the one of this name for all sessions that live under it, at once. A name has 1 to
// 31 bytes of UTF-8, and no NUL ([ErrBadName]).
func (t *Table) SetPolicy(name string, policy Policy, now Tick) (PolicyID, error) {
	from, err := policy.c()
	if err != nil {
		return 0, err
	}
	now, err = t.present(now)
	if err != nil {
		return 0, err
	}
	text, err := textOf("set policy", name, ErrBadName)
	if err != nil {
		return 0, err
	}
	defer C.free(unsafe.Pointer(text))
	var number C.uint32_t
	why := C.curfew_error_init()
	status := C.curfew_set_policy(t.handle, text, &from, C.curfew_tick(now), &why, &number)
	return PolicyID(number), explained("set policy", status, &why)
}

// FindPolicy gives the policy of this name.
func (t *Table) FindPolicy(name string) (PolicyID, error) {
	text, err := textOf("find policy", name, ErrBadName)
	if err != nil {
		return 0, err
	}
	defer C.free(unsafe.Pointer(text))
	var number C.uint32_t
	status := C.curfew_find_policy(t.handle, text, &number)
	return PolicyID(number), refusal("find policy", status)
}

// Policy says what a policy says now.
func (t *Table) Policy(id PolicyID) (Policy, error) {
	policy := C.curfew_policy_init()
	status := C.curfew_get_policy(t.handle, C.uint32_t(id), &policy)
	return policyOf(&policy), refusal("policy", status)
}

// PolicyName gives the name of a policy.
func (t *Table) PolicyName(id PolicyID) (string, error) {
	var name [C.CURFEW_POLICY_NAME_SIZE]C.char
	status := C.curfew_policy_name(t.handle, C.uint32_t(id), &name[0], C.size_t(len(name)))
	return C.GoString(&name[0]), refusal("policy name", status)
}

// Start begins a session, and says how many of the same subject were ended to make place. Call it only on a
// trusted signal: the application has issued this very id just now.
func (t *Table) Start(key Key, start Start, now Tick) (displaced int, err error) {
	options := C.curfew_start_options_init(C.uint32_t(start.Policy))
	options.subject = C.curfew_subject(start.Subject)
	options.binding = C.curfew_binding(start.Binding)
	if !start.Expires.IsZero() {
		token, err := t.At(start.Expires)
		if err != nil {
			return 0, err
		}
		options.token = C.curfew_tick(token)
	}
	answer := C.start(t.handle, key.c(), options, C.curfew_tick(now))
	return int(answer.value), refusal("start", answer.status)
}

// Touch decides whether a session may go on, and counts as activity if it may. It takes no lock and allocates
// nothing. The error tells that there is no verdict; the verdict then lets nobody pass.
func (t *Table) Touch(key Key, presented Binding, now Tick) (Verdict, error) {
	answer := C.touch(t.handle, key.c(), C.curfew_binding(presented), C.curfew_tick(now), 1)
	if answer.status != C.CURFEW_OK {
		return Verdict{}, refusal("touch", answer.status)
	}
	return verdictOf(&answer.verdict), nil
}

// Peek answers as Touch would, and changes nothing.
func (t *Table) Peek(key Key, presented Binding, now Tick) (Verdict, error) {
	answer := C.touch(t.handle, key.c(), C.curfew_binding(presented), C.curfew_tick(now), 0)
	if answer.status != C.CURFEW_OK {
		return Verdict{}, refusal("peek", answer.status)
	}
	return verdictOf(&answer.verdict), nil
}

var batches = sync.Pool{New: func() any { return new([256]C.curfew_verdict) }}

// TouchMany touches many sessions in one call, and appends their verdicts to those it is given. Presented is nil
// if nothing was presented with any, else as long as keys.
func (t *Table) TouchMany(verdicts []Verdict, keys []Key, presented []Binding, now Tick) ([]Verdict, error) {
	if presented != nil && len(presented) != len(keys) {
		return verdicts, &Error{Op: "touch many", Status: ErrInvalidArgument, Message: "not as many bindings as keys"}
	}
	now, err := t.present(now)
	if err != nil {
		return verdicts, err
	}
	batch := batches.Get().(*[256]C.curfew_verdict)
	defer batches.Put(batch)
	for first := 0; first < len(keys); first += len(batch) {
		count := len(keys) - first
		if count > len(batch) {
			count = len(batch)
		}
		var bindings *C.curfew_binding
		if presented != nil {
			bindings = (*C.curfew_binding)(unsafe.Pointer(&presented[first]))
		}
		batch[0].struct_size = C.sizeof_curfew_verdict
		status := C.curfew_touch_many(t.handle, (*C.curfew_key)(unsafe.Pointer(&keys[first])), bindings,
			C.size_t(count), C.curfew_tick(now), &batch[0])
		if status != C.CURFEW_OK {
			return verdicts, refusal("touch many", status)
		}
		for nth := range batch[:count] {
			verdicts = append(verdicts, verdictOf(&batch[nth]))
		}
	}
	return verdicts, nil
}

// Reauthenticate restarts idle and lifetime of a session whose user has proved presence. Expires is its new token
// expiry; the zero time leaves it. Give it a new id as well (Rotate).
func (t *Table) Reauthenticate(key Key, expires time.Time, now Tick) error {
	var token Tick
	sets := C.int(0)
	if !expires.IsZero() {
		var err error
		if token, err = t.At(expires); err != nil {
			return err
		}
		sets = 1
	}
	return refusal("reauthenticate", C.reauthenticate(t.handle, key.c(), C.curfew_tick(token), sets, C.curfew_tick(now)))
}

// Rotate gives a session a new key, against fixation; for overlap from now on the old one answers as the new one,
// and then it has ended.
func (t *Table) Rotate(old, new Key, overlap time.Duration, now Tick) (oldUntil Tick, err error) {
	if overlap < 0 {
		overlap = 0
	}
	answer := C.rotate(t.handle, old.c(), new.c(), C.uint64_t(overlap.Milliseconds()), C.curfew_tick(now))
	return Tick(answer.value), refusal("rotate", answer.status)
}

// End ends a session. Its id is dead from this call on, in every process.
func (t *Table) End(key Key, cause Cause, now Tick) error {
	return refusal("end", C.end(t.handle, key.c(), C.uint32_t(cause), C.curfew_tick(now)))
}

// EndSubject ends all sessions of a subject, and says how many.
func (t *Table) EndSubject(subject Subject, cause Cause, now Tick) (uint64, error) {
	answer := C.end_subject(t.handle, C.curfew_subject(subject), C.uint32_t(cause), C.curfew_tick(now))
	return uint64(answer.value), refusal("end subject", answer.status)
}

// Filter says which sessions EndAll ends: those for which everything that is set holds. The zero Filter means all.
type Filter struct {
	Policy        *PolicyID
	StartedBefore *Tick
	IdleSince     *Tick
}

// EndAll ends all sessions that match, and says how many. It looks at every record.
func (t *Table) EndAll(filter Filter, cause Cause, now Tick) (uint64, error) {
	from := C.curfew_filter_init()
	if filter.Policy != nil {
		from.set |= C.CURFEW_BY_POLICY
		from.policy = C.uint32_t(*filter.Policy)
	}
	if filter.StartedBefore != nil {
		from.set |= C.CURFEW_STARTED_BEFORE
		from.started_before = C.curfew_tick(*filter.StartedBefore)
	}
	if filter.IdleSince != nil {
		from.set |= C.CURFEW_IDLE_SINCE
		from.idle_since = C.curfew_tick(*filter.IdleSince)
	}
	answer := C.end_all(t.handle, from, C.uint32_t(cause), C.curfew_tick(now))
	return uint64(answer.value), refusal("end all", answer.status)
}

// Sessions calls each with every session, live and ended ones that are still remembered, until it returns false.
func (t *Table) Sessions(now Tick, each func(Session) bool) error {
	now, err := t.present(now)
	if err != nil {
		return err
	}
	page := make([]C.curfew_session, 64)
	var cursor C.uint64_t
	for cursor != C.CURFEW_LAST_PAGE {
		var count C.size_t
		page[0].struct_size = C.sizeof_curfew_session
		status := C.curfew_list(t.handle, C.curfew_tick(now), &cursor, &page[0], C.size_t(len(page)), &count)
		if status != C.CURFEW_OK {
			return refusal("sessions", status)
		}
		for nth := range page[:count] {
			if !each(sessionOf(&page[nth])) {
				return nil
			}
		}
	}
	return nil
}

// SessionsOf gives the live sessions of a subject, the newest first.
func (t *Table) SessionsOf(subject Subject, now Tick) ([]Session, error) {
	now, err := t.present(now)
	if err != nil {
		return nil, err
	}
	for room := 16; ; room *= 2 {
		found := make([]C.curfew_session, room)
		found[0].struct_size = C.sizeof_curfew_session
		var count C.size_t
		status := C.curfew_list_subject(t.handle, C.curfew_subject(subject), C.curfew_tick(now), &found[0], C.size_t(room), &count)
		if status != C.CURFEW_OK {
			return nil, refusal("sessions of", status)
		}
		if int(count) > room {
			continue
		}
		sessions := make([]Session, count)
		for nth := range sessions {
			sessions[nth] = sessionOf(&found[nth])
		}
		return sessions, nil
	}
}

// Advance does what is due, at most budget units of it: reports ends and reclaims memory. More says that there is
// more to do at once. [Table.Run] does this by itself.
func (t *Table) Advance(now Tick, budget int) (more bool, err error) {
	if budget < 0 {
		budget = 0
	}
	answer := C.advance(t.handle, C.curfew_tick(now), C.size_t(budget))
	return answer.value != 0, refusal("advance", answer.status)
}

// NextDue gives the earliest tick at which Advance may have something to do.
func (t *Table) NextDue() (Tick, error) {
	answer := C.next_due(t.handle)
	return Tick(answer.value), refusal("next due", answer.status)
}

// Stats tells what the table holds, and has counted.
func (t *Table) Stats() (Stats, error) {
	stats := C.curfew_stats_init()
	if status := C.curfew_get_stats(t.handle, &stats); status != C.CURFEW_OK {
		return Stats{}, refusal("stats", status)
	}
	ended := make(map[Cause]uint64)
	for cause, count := range stats.ended {
		if cause > 0 {
			ended[Cause(cause)] = uint64(count)
		}
	}
	return Stats{
		Capacity: uint64(stats.capacity), Bytes: uint64(stats.bytes), Used: uint64(stats.used), Live: uint64(stats.live),
		Started: uint64(stats.started), Rotated: uint64(stats.rotated), Ended: ended,
		RefusedFull: uint64(stats.refused_full), RefusedLimited: uint64(stats.refused_limited),
		Mismatches: uint64(stats.mismatches), Events: uint64(stats.events), Recoveries: uint64(stats.recoveries),
	}, nil
}

// Check looks through the whole region for anything that is not as it must be.
func (t *Table) Check() error {
	why := C.curfew_error_init()
	return explained("check", C.curfew_check(t.handle, &why), &why)
}

// Repair makes everything that can be told from the sessions themselves anew.
func (t *Table) Repair() error { return refusal("repair", C.curfew_repair(t.handle)) }
