package curfew

// #include <curfew.h>
import "C"

import (
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

// Tick is engine time: milliseconds since the region's epoch.
type Tick uint64

const (
	// Never is the tick that does not come.
	Never Tick = C.CURFEW_NEVER
	// Now stands for the present tick wherever a method takes one. It is none itself: [Table.Now] gives that.
	Now Tick = math.MaxUint64
	// Forever is a length of time that is never over.
	Forever time.Duration = math.MaxInt64
)

// Add gives the tick so much later; Never stays Never.
func (t Tick) Add(length time.Duration) Tick {
	if t >= Never || length == Forever {
		return Never
	}
	millis := length.Milliseconds()
	if millis < 0 && uint64(-millis) > uint64(t) {
		return 0
	}
	if sum := t + Tick(millis); sum < Never {
		return sum
	}
	return Never
}

// Sub gives the time from earlier to t; Forever if t is Never.
func (t Tick) Sub(earlier Tick) time.Duration {
	switch {
	case t >= Never:
		return Forever
	case t >= earlier:
		return duration(uint64(t - earlier))
	default:
		return -duration(uint64(earlier - t))
	}
}

func (t Tick) String() string {
	switch {
	case t == Now:
		return "now"
	case t >= Never:
		return "never"
	}
	return fmt.Sprintf("@%d", uint64(t))
}

func duration(millis uint64) time.Duration {
	if millis > math.MaxInt64/uint64(time.Millisecond) {
		return Forever
	}
	return time.Duration(millis) * time.Millisecond
}

// Whole milliseconds of a limit; not less than one, which would switch it off.
func limit(length time.Duration) (C.uint64_t, error) {
	switch {
	case length < 0:
		return 0, ErrInvalidArgument
	case length == Forever:
		return C.CURFEW_NEVER, nil
	case length > 0 && length < time.Millisecond:
		return 1, nil
	}
	return C.uint64_t(length.Milliseconds()), nil
}

// Key is the keyed digest of a session id: the only form in which an id exists in regions, events and lists.
// Fit for logs.
type Key [16]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads what Key.String wrote.
func ParseKey(text string) (Key, error) {
	var key Key
	if len(text) != hex.EncodedLen(len(key)) {
		return Key{}, &Error{Op: "parse key", Status: ErrInvalidArgument}
	}
	if _, err := hex.Decode(key[:], []byte(text)); err != nil {
		return Key{}, &Error{Op: "parse key", Status: ErrInvalidArgument}
	}
	return key, nil
}

// Subject is the keyed digest of whom a session belongs to; zero for nobody.
type Subject uint64

func (s Subject) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// Binding is the keyed digest of what a session is bound to, or of what a request presents; zero for nothing.
type Binding uint64

// PolicyID names a policy of one region.
type PolicyID uint32

// State is what a session is.
type State uint32

// The states.
const (
	Active   State = C.CURFEW_ACTIVE
	Grace    State = C.CURFEW_GRACE    // past the idle timeout and not gone yet
	Ended    State = C.CURFEW_ENDED    // over
	Mismatch State = C.CURFEW_MISMATCH // presented without what it is bound to
	Unknown  State = C.CURFEW_UNKNOWN  // no session has this key, or none that is still remembered
)

func (s State) String() string { return C.GoString(C.curfew_state_name(C.uint32_t(s))) }

// Cause is why a session ended.
type Cause uint32

// The causes.
const (
	Idle      Cause = C.CURFEW_CAUSE_IDLE
	Lifetime  Cause = C.CURFEW_CAUSE_LIFETIME
	Token     Cause = C.CURFEW_CAUSE_TOKEN
	Logout    Cause = C.CURFEW_CAUSE_LOGOUT
	Revoked   Cause = C.CURFEW_CAUSE_REVOKED
	Bound     Cause = C.CURFEW_CAUSE_BINDING
	Displaced Cause = C.CURFEW_CAUSE_DISPLACED
	Evicted   Cause = C.CURFEW_CAUSE_EVICTED
	Rotated   Cause = C.CURFEW_CAUSE_ROTATED
)

func (c Cause) String() string { return C.GoString(C.curfew_cause_name(C.uint32_t(c))) }

// Config is what a new region is to be.
type Config struct {
	Capacity  uint64    // sessions it has room for
	Events    uint64    // events it remembers; zero for a number that goes with the capacity
	Secret    *[32]byte // what digests are keyed with; nil for random bytes
	HugePages bool      // ask for 2 MiB pages
}

// GraceMode is what the window after the idle timeout allows.
type GraceMode uint32

// The grace modes.
const (
	GraceReauth GraceMode = C.CURFEW_GRACE_REAUTH // the session waits for Reauthenticate
	GraceResume GraceMode = C.CURFEW_GRACE_RESUME // a touch brings it back
)

// OnMismatch is what happens when a session is presented without what it is bound to.
type OnMismatch uint32

// What can happen.
const (
	MismatchDeny OnMismatch = C.CURFEW_MISMATCH_DENY // the request does not pass
	MismatchEnd  OnMismatch = C.CURFEW_MISMATCH_END  // the session ends
	MismatchLog  OnMismatch = C.CURFEW_MISMATCH_LOG  // it passes, and the verdict says so
)

// OnLimit is what happens when a subject with MaxPerSubject sessions starts another.
type OnLimit uint32

// What can happen.
const (
	LimitDeny           OnLimit = C.CURFEW_LIMIT_DENY
	LimitEndOldest      OnLimit = C.CURFEW_LIMIT_END_OLDEST
	LimitEndLeastRecent OnLimit = C.CURFEW_LIMIT_END_LEAST_RECENT
)

// OnFull is what a start does when the region is full. Live sessions are never given up.
type OnFull uint32

// What can happen.
const (
	FullRefuse     OnFull = C.CURFEW_FULL_REFUSE
	FullEvictEnded OnFull = C.CURFEW_FULL_EVICT_ENDED // forget the ended session that would be forgotten soonest
)

// Policy is a named set of limits. Zero switches a limit off; Idle or Lifetime must be set. Lengths are whole
// milliseconds; shorter ones than one count as one.
type Policy struct {
	Idle          time.Duration // longest time between two activities
	Lifetime      time.Duration // longest time from start or last re-authentication to end
	Grace         time.Duration // window after Idle in which the session is not gone
	GraceMode     GraceMode
	OnMismatch    OnMismatch
	MaxPerSubject uint32
	OnLimit       OnLimit
	// How long an ended session is remembered, so that its id cannot start anew. Zero: until its lifetime or its
	// token would have been over, or a day if it had neither. Negative: not at all.
	Retain time.Duration
	OnFull OnFull
}

func (p Policy) c() (C.curfew_policy, error) {
	policy := C.curfew_policy_init()
	for _, one := range []struct {
		to   *C.uint64_t
		from time.Duration
	}{{&policy.idle_ms, p.Idle}, {&policy.lifetime_ms, p.Lifetime}, {&policy.grace_ms, p.Grace}} {
		millis, err := limit(one.from)
		if err != nil {
			return policy, &Error{Op: "set policy", Status: ErrInvalidArgument, Message: "a limit is negative"}
		}
		*one.to = millis
	}
	if p.Retain != 0 {
		policy.retain_mode = C.CURFEW_RETAIN_FOR
	}
	if p.Retain > 0 {
		policy.retain_ms, _ = limit(p.Retain)
	}
	policy.grace_mode = C.uint32_t(p.GraceMode)
	policy.on_mismatch = C.uint32_t(p.OnMismatch)
	policy.max_per_subject = C.uint32_t(p.MaxPerSubject)
	policy.on_limit = C.uint32_t(p.OnLimit)
	policy.on_full = C.uint32_t(p.OnFull)
	return policy, nil
}

func policyOf(policy *C.curfew_policy) Policy {
	retain := time.Duration(0)
	if policy.retain_mode == C.CURFEW_RETAIN_FOR {
		if retain = duration(uint64(policy.retain_ms)); retain == 0 {
			retain = -1
		}
	}
	return Policy{
		Idle:          duration(uint64(policy.idle_ms)),
		Lifetime:      duration(uint64(policy.lifetime_ms)),
		Grace:         duration(uint64(policy.grace_ms)),
		GraceMode:     GraceMode(policy.grace_mode),
		OnMismatch:    OnMismatch(policy.on_mismatch),
		MaxPerSubject: uint32(policy.max_per_subject),
		OnLimit:       OnLimit(policy.on_limit),
		Retain:        retain,
		OnFull:        OnFull(policy.on_full),
	}
}

// Start is what a session begins with.
type Start struct {
	Policy  PolicyID
	Subject Subject   // whose it is
	Binding Binding   // what every request must then present
	Expires time.Time // when its token expires; the zero time if it has none
}

// Verdict is the answer to a touch or a peek. Its zero value lets nobody pass.
type Verdict struct {
	Passes   bool // whether the request may pass
	State    State
	Cause    Cause // of the end, if there was one
	Mismatch bool  // presented without what it is bound to, also where that may pass
	Policy   PolicyID
	EndedAt  Tick // if it has ended
	// While it is alive: how long each limit still allows. Forever where a limit is off.
	IdleLeft, LifetimeLeft, TokenLeft, EndLeft time.Duration
	Age                                        time.Duration // since start or last re-authentication
}

func (v Verdict) String() string {
	switch v.State {
	case Active, Grace:
		if v.EndLeft == Forever {
			return v.State.String()
		}
		return fmt.Sprintf("%v, %v left", v.State, v.EndLeft)
	case Ended:
		return fmt.Sprintf("%v: %v", v.State, v.Cause)
	}
	return v.State.String()
}

// Whether nothing may be open of the session any more.
func (v Verdict) isOver() bool { return v.State == Ended || v.State == Unknown }

// What ends the session if nothing happens.
func (v Verdict) due() Cause {
	switch v.EndLeft {
	case v.LifetimeLeft:
		return Lifetime
	case v.TokenLeft:
		return Token
	}
	return Idle
}

func verdictOf(verdict *C.curfew_verdict) Verdict {
	return Verdict{
		Passes:       verdict.passes == 1,
		State:        State(verdict.state),
		Cause:        Cause(verdict.cause),
		Mismatch:     verdict.mismatch != 0,
		Policy:       PolicyID(verdict.policy),
		EndedAt:      Tick(verdict.ended_at),
		IdleLeft:     left(verdict.idle_left_ms),
		LifetimeLeft: left(verdict.lifetime_left_ms),
		TokenLeft:    left(verdict.token_left_ms),
		EndLeft:      left(verdict.end_left_ms),
		Age:          left(verdict.age_ms),
	}
}

func left(millis C.uint64_t) time.Duration {
	if millis >= C.CURFEW_NEVER {
		return Forever
	}
	return duration(uint64(millis))
}

// Session is a session as it was at one moment.
type Session struct {
	Key     Key
	Subject Subject
	State   State
	Cause   Cause
	Policy  PolicyID
	Start   Tick // or last re-authentication
	Last    Tick // last activity
	Token   Tick // token expiry, or Never
	End     Tick // when it ends if nothing happens, or has ended
	Bound   bool // to something
	Rotated bool // this is the old key of a session that has a new one
}

func sessionOf(session *C.curfew_session) Session {
	return Session{
		Key:     keyOf(session.key),
		Subject: Subject(session.subject),
		State:   State(session.state),
		Cause:   Cause(session.cause),
		Policy:  PolicyID(session.policy),
		Start:   Tick(session.start),
		Last:    Tick(session.last),
		Token:   Tick(session.token),
		End:     Tick(session.end),
		Bound:   session.bound != 0,
		Rotated: session.rotated != 0,
	}
}

// What tells apart the events.
type What uint32

// What can happen to a session.
const (
	EventEnded   What = C.CURFEW_EVENT_ENDED   // in exactly one event for every session that ends
	EventRotated What = C.CURFEW_EVENT_ROTATED // it has a new key; the event has the old one
	EventCut     What = C.CURFEW_EVENT_CUT     // something that was still open of it was cut off
)

// Event is something that happened to a session.
type Event struct {
	Number  uint64 // over the whole life of the region
	What    What
	Cause   Cause
	At      Tick // of an end by a deadline: the deadline
	Key     Key
	Subject Subject
	Policy  PolicyID
	Age     time.Duration // from its start or last re-authentication to At
	Idle    time.Duration // from its last activity to At
	Bytes   uint64        // of an EventCut: sent to the client by then
}

func (e Event) String() string {
	what := "ended"
	switch e.What {
	case EventRotated:
		what = "got a new key"
	case EventCut:
		what = fmt.Sprintf("was cut off after %d bytes", e.Bytes)
	}
	return fmt.Sprintf("%v %s at %v (%v), %v old, idle for %v", e.Key, what, e.At, e.Cause, e.Age, e.Idle)
}

func eventOf(event *C.curfew_event) Event {
	return Event{
		Number:  uint64(event.number),
		What:    What(event.what),
		Cause:   Cause(event.cause),
		At:      Tick(event.at),
		Key:     keyOf(event.key),
		Subject: Subject(event.subject),
		Policy:  PolicyID(event.policy),
		Age:     duration(uint64(event.age_ms)),
		Idle:    duration(uint64(event.idle_ms)),
		Bytes:   uint64(event.bytes),
	}
}

// Stats is what a table holds, and has counted.
type Stats struct {
	Capacity, Bytes, Used, Live, Started, Rotated uint64
	Ended                                         map[Cause]uint64
	RefusedFull, RefusedLimited, Mismatches       uint64
	Events, Recoveries                            uint64
}
