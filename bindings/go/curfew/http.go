package curfew

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// StreamActivity is what counts as activity of a session while something of it is open.
type StreamActivity int

// What can count.
const (
	// StreamClient: bytes that come from the client, in a request's body or on a connection that was taken over, such
	// as a WebSocket's.
	StreamClient StreamActivity = iota
	// StreamBoth: those, and bytes that go to it. A page that somebody has left open then keeps its session alive.
	StreamBoth
	// StreamOff: the beginning of a request alone.
	StreamOff
)

// Options is how a [Handler] finds and judges sessions. Table must be set.
type Options struct {
	Table *Table
	// Cookie names the cookie that has the session id; "sid" if it is empty. A request that has it twice is refused
	// with 400, and so is one in which an application may find another one than net/http does.
	Cookie string
	// ID finds the session id of a request instead; "" for none. It must find the one that the application does.
	ID func(*http.Request) string
	// Binding finds what a request proves to have, such as the thumbprint of its client certificate, in the request
	// as the client has sent it. Sessions that TrackCookies starts are bound to it.
	Binding func(*http.Request) string
	// IsActivity tells the requests that keep a session alive from those that only need one, such as polling. All
	// are activity if it is nil.
	IsActivity func(*http.Request) bool
	// IsPublic tells the requests that need no session, such as those for the login page. None is if it is nil. They
	// are passed on without a cookie whose session may not go on, because the application may not know that yet, and
	// would go on with it; where ID is set, that is for next to do. A cookie that no session is known of is passed on if
	// Begins is set: then Retain of the policy must be as long as the application's cookie, and no ended session be given
	// up early (OnFull), or what has ended and is forgotten looks like a cookie from before the login. What public requests
	// have open is not cut.
	IsPublic func(*http.Request) bool
	// StepUp tells those of the public requests with which somebody proves presence while a session is in its grace:
	// they keep its cookie. Whoever takes the proof calls [Table.Reauthenticate] with [KeyFromContext]. None is if it is nil.
	StepUp func(*http.Request) bool
	// Denied answers what may not pass. FromContext has the verdict. If it is nil: 401 and a line of text.
	Denied http.Handler
	// Recheck is within which time the end of a session is noticed, whatever ended it, and whichever process. What is
	// open of it is cut then. A quarter of a second if it is zero; if it is negative, nothing is cut.
	Recheck time.Duration
	// StreamActivity is what keeps a session alive while something of it is open; StreamClient if it is zero. What
	// belongs to a request that was no activity never does.
	StreamActivity StreamActivity

	// For TrackCookies: what sessions live under, and whose they are, which the application says in a header that
	// is not passed on. "Curfew-Subject" if it is empty.
	Policy        PolicyID
	SubjectHeader string
	// Begins tells the responses with whose cookie a session begins, if an application sets it before anybody has
	// logged in. All with a status below 400 do if it is nil. See [TrackCookies].
	Begins func(*http.Response) bool
	// Overlap is how long an id that the application has replaced still answers. Five seconds if it is zero.
	Overlap time.Duration
}

type contextKey struct{}

type judgement struct {
	verdict    Verdict
	key        Key
	binding    Binding
	hasKey     bool
	isActivity bool
	stepsUp    bool
	several    []Key // of the cookies that were there, when there were too many
	table      *Table
	stream     *stream // nil if it is not watched
	ended      uint32  // 1 if the request has ended the session itself; atomic
}

func judgementOf(ctx context.Context) *judgement {
	if judged, ok := ctx.Value(contextKey{}).(*judgement); ok {
		return judged
	}
	return &judgement{}
}

// FromContext gives the verdict on the request that a context belongs to. There is none for requests that
// presented no session.
func FromContext(ctx context.Context) (Verdict, bool) {
	judged := judgementOf(ctx)
	return judged.verdict, judged.hasKey
}

// KeyFromContext gives the key of the session that a request presented, if it did.
func KeyFromContext(ctx context.Context) (Key, bool) {
	judged := judgementOf(ctx)
	return judged.key, judged.hasKey
}

// EndSession ends the session that a request was let through with, or that was found in its grace, under whatever key
// it has by now. The request itself is not cut, so that a logout gets its answer, if that does not take longer than ten
// seconds; whatever else is open of the session is, and so is a connection that was taken over.
func EndSession(ctx context.Context, cause Cause) error {
	judged := judgementOf(ctx)
	if !judged.isAlive() {
		return &Error{Op: "end", Status: ErrUnknownSession}
	}
	return judged.end(cause)
}

// Whether there is a session, and the request is its holder's.
func (j *judgement) isAlive() bool {
	return j.hasKey && (j.verdict.State == Active || j.verdict.State == Grace)
}

func (j *judgement) end(cause Cause) (err error) {
	if j.stream != nil {
		err = j.stream.endItself(cause)
	} else {
		watch := j.table.Watch(j.key, j.binding)
		err = watch.end(cause)
	}
	if err == nil {
		atomic.StoreUint32(&j.ended, 1)
	}
	return err
}

func (j *judgement) hasEndedIt() bool { return atomic.LoadUint32(&j.ended) != 0 }

// How the session is by now, and its key: it may have got a new one while the request was under way.
func (j *judgement) now() (Key, Verdict, error) {
	if j.stream != nil {
		return j.stream.now()
	}
	watch := j.table.Watch(j.key, j.binding)
	verdict, err := watch.Peek(Now)
	return watch.Key(), verdict, err
}

// Handler passes to next what belongs to a session that may go on. Everything else is refused; so is everything
// when there can be no decision (503).
//
// What goes on for longer is cut when its session ends: the request's context is cancelled, reads of its body and
// writes of its response fail with [ErrSessionEnded], and a connection that was taken over (http.Hijacker), such as a
// WebSocket's, is closed, also behind an httputil.ReverseProxy. If nothing was answered by then, Denied answers, with
// the headers that were set in front of this handler and none of next's. Each cut is an [EventCut]. A request that ends
// its own session, by [EndSession] or [TrackCookies], is not cut.
//
// A handler that hangs in a read or a write, because its client does nothing, is freed too: by itself from Go 1.20 on;
// with earlier ones see [ConnContext].
func Handler(next http.Handler, options Options) http.Handler {
	if options.Table == nil {
		panic("curfew: Options.Table is nil")
	}
	options = options.filled()
	watcher := &watcher{table: options.Table, every: options.Recheck}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isPublic := options.IsPublic != nil && options.IsPublic(r)
		judged, status := options.judge(r)
		if status == http.StatusBadRequest && isPublic { // who has such cookies could never get rid of them
			status = 0
		}
		if status != 0 {
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, http.StatusText(status), status)
			return
		}
		if judged.verdict.Passes && options.Recheck > 0 && !isPublic {
			open := &response{}
			open.watcher, open.to, open.request, open.counts = watcher, w, r, options.StreamActivity
			if !judged.isActivity {
				open.counts = StreamOff
			}
			open.serve(next, judged)
			open.endCut(options.Denied)
			return
		}
		its := r.WithContext(context.WithValue(r.Context(), contextKey{}, &judged))
		switch {
		case judged.verdict.Passes:
			serve(next, w, its, r)
		case isPublic:
			judged.stepsUp = judged.verdict.State == Grace && options.StepUp != nil && options.StepUp(its)
			if !judged.stepsUp && (judged.verdict.State != Unknown || options.Begins == nil) {
				options.forget(its)
			}
			serve(next, w, its, r)
		default:
			serve(options.Denied, w, its, r)
		}
	})
}

// Hands on a copy of a request. The server removes the files of a form from the request that it knows.
func serve(next http.Handler, w http.ResponseWriter, its, original *http.Request) {
	defer func() { original.MultipartForm = its.MultipartForm }()
	next.ServeHTTP(w, its)
}

func (o Options) filled() Options {
	if o.Cookie == "" {
		o.Cookie = "sid"
	}
	if o.Denied == nil {
		o.Denied = http.HandlerFunc(denied)
	}
	if o.Recheck == 0 {
		o.Recheck = time.Second / 4
	}
	if o.SubjectHeader == "" {
		o.SubjectHeader = "Curfew-Subject"
	}
	if o.Overlap == 0 {
		o.Overlap = 5 * time.Second
	}
	return o
}

// The session id of a request. Two ids are one too many: the application might choose the other one. So is one that
// only the application might find.
func (o Options) id(r *http.Request) (string, bool) {
	if o.ID != nil {
		return o.ID(r), true
	}
	id, found, all := "", 0, 0
	for _, cookie := range r.Cookies() {
		if cookie.Name == o.Cookie {
			id = cookie.Value
			found++
		}
	}
	for _, header := range r.Header["Cookie"] {
		all += countCookies(header, o.Cookie)
	}
	return id, found == all && found < 2
}

// No user has more.
const mostIDs = 16

// The keys of all that net/http finds.
func (o Options) keysOf(r *http.Request) (keys []Key) {
	for _, cookie := range r.Cookies() {
		if key, err := o.Table.Key(cookie.Value); err == nil && cookie.Name == o.Cookie && len(keys) < mostIDs {
			keys = append(keys, key)
		}
	}
	return keys
}

// Takes the cookie out of a request.
func (o Options) forget(r *http.Request) {
	if o.ID != nil || len(r.Header["Cookie"]) == 0 {
		return
	}
	r.Header = r.Header.Clone()
	var headers []string
	for _, header := range r.Header["Cookie"] {
		if rest := withoutCookie(header, o.Cookie); rest != "" {
			headers = append(headers, rest)
		}
	}
	r.Header["Cookie"] = headers
	if len(headers) == 0 {
		delete(r.Header, "Cookie")
	}
}

func (o Options) binding(r *http.Request) (Binding, error) {
	if o.Binding == nil {
		return 0, nil
	}
	return o.Table.Binding(o.Binding(r))
}

func (o Options) judge(r *http.Request) (judged judgement, status int) {
	judged.table = o.Table
	var err error
	if judged.binding, err = o.binding(r); err != nil {
		return judged, http.StatusServiceUnavailable
	}
	id, isOne := o.id(r)
	if !isOne {
		judged.several = o.keysOf(r)
		return judged, http.StatusBadRequest
	}
	if id == "" {
		return judged, 0
	}
	key, err := o.Table.Key(id)
	if errors.Is(err, ErrInvalidArgument) { // longer than any id
		return judged, http.StatusBadRequest
	}
	if err != nil {
		return judged, http.StatusServiceUnavailable
	}
	isActivity := o.IsActivity == nil || o.IsActivity(r)
	ask := o.Table.Touch
	if !isActivity {
		ask = o.Table.Peek
	}
	verdict, err := ask(key, judged.binding, Now)
	if err != nil {
		return judged, http.StatusServiceUnavailable
	}
	judged.verdict, judged.key, judged.hasKey, judged.isActivity = verdict, key, true, isActivity
	return judged, 0
}

func denied(w http.ResponseWriter, r *http.Request) {
	why := "missing"
	if verdict, presented := FromContext(r.Context()); presented {
		why = verdict.State.String()
		if verdict.State == Ended {
			why = verdict.Cause.String()
		}
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Session realm=\"proxy\", error=%q", why))
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "no session: "+why, http.StatusUnauthorized)
}
