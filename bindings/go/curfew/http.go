package curfew

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
	// Binding finds what a request proves to have, such as the thumbprint of its client certificate. Sessions
	// that TrackCookies starts are bound to it.
	Binding func(*http.Request) string
	// IsActivity tells the requests that keep a session alive from those that only need one, such as polling. All
	// are activity if it is nil.
	IsActivity func(*http.Request) bool
	// IsPublic tells the requests that need no session, such as those for the login page. None is if it is nil.
	IsPublic func(*http.Request) bool
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
	table      *Table
	stream     *stream // nil if it is not watched
}

func judgementOf(ctx context.Context) judgement {
	if judged, ok := ctx.Value(contextKey{}).(*judgement); ok {
		return *judged
	}
	return judgement{}
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

// EndSession ends the session that a request was let through with. The request itself is not cut, so that a logout gets
// its answer; whatever else is open of the session is.
func EndSession(ctx context.Context, cause Cause) error {
	judged := judgementOf(ctx)
	if !judged.hasKey {
		return &Error{Op: "end", Status: ErrUnknownSession}
	}
	if judged.stream != nil {
		judged.stream.letAnswer()
	}
	return judged.table.End(judged.key, cause, Now)
}

// Handler passes to next what belongs to a session that may go on. Everything else is refused; so is everything
// when there can be no decision (503).
//
// What goes on for longer is cut when its session ends: the request's context is cancelled, reads of its body and
// writes of its response fail with [ErrSessionEnded], and a connection that was taken over (http.Hijacker), such as a
// WebSocket's, is closed, also behind an httputil.ReverseProxy. If nothing was answered by then, Denied answers. Each
// cut is an [EventCut]. A request that ends its own session, by [EndSession] or [TrackCookies], is not cut.
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
		judged, status := options.judge(r)
		if status != 0 {
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, http.StatusText(status), status)
			return
		}
		if judged.verdict.Passes && options.Recheck > 0 {
			open := &response{}
			open.watcher, open.to, open.request, open.counts = watcher, w, r, options.StreamActivity
			if !judged.isActivity {
				open.counts = StreamOff
			}
			open.serve(next, judged)
			open.endCut(options.Denied)
			return
		}
		ctx := context.WithValue(r.Context(), contextKey{}, &judged)
		if judged.verdict.Passes || options.IsPublic != nil && options.IsPublic(r) {
			next.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		options.Denied.ServeHTTP(w, r.WithContext(ctx))
	})
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
		all += len(cookieValues(header, o.Cookie))
	}
	return id, found == all && found < 2
}

func (o Options) binding(r *http.Request) (Binding, error) {
	if o.Binding == nil {
		return 0, nil
	}
	return o.Table.Binding(o.Binding(r))
}

func (o Options) judge(r *http.Request) (judged judgement, status int) {
	id, isOne := o.id(r)
	if !isOne {
		return judgement{}, http.StatusBadRequest
	}
	if id == "" {
		return judgement{}, 0
	}
	key, err := o.Table.Key(id)
	if errors.Is(err, ErrInvalidArgument) { // longer than any id
		return judgement{}, http.StatusBadRequest
	}
	if err != nil {
		return judgement{}, http.StatusServiceUnavailable
	}
	binding, err := o.binding(r)
	if err != nil {
		return judgement{}, http.StatusServiceUnavailable
	}
	isActivity := o.IsActivity == nil || o.IsActivity(r)
	ask := o.Table.Touch
	if !isActivity {
		ask = o.Table.Peek
	}
	verdict, err := ask(key, binding, Now)
	if err != nil {
		return judgement{}, http.StatusServiceUnavailable
	}
	return judgement{verdict, key, binding, true, isActivity, o.Table, nil}, 0
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

// TrackCookies makes the function for ModifyResponse of an httputil.ReverseProxy behind a [Handler] with the same
// options: a session begins when the application sets the cookie, goes on under a new id when it replaces it, and
// ends when it clears it. If there can be no session the response is held back, as an error.
func TrackCookies(options Options) func(*http.Response) error {
	options = options.filled()
	return func(response *http.Response) error {
		subject := response.Header.Get(options.SubjectHeader)
		response.Header.Del(options.SubjectHeader)
		for _, cookie := range response.Cookies() {
			if cookie.Name != options.Cookie {
				continue
			}
			if err := options.track(response.Request, cookie, subject); err != nil {
				return err
			}
		}
		return nil
	}
}

func (o Options) track(request *http.Request, cookie *http.Cookie, subject string) error {
	judged := judgementOf(request.Context())
	hasSession := judged.hasKey && judged.verdict.Passes
	if cookie.Value == "" || cookie.MaxAge < 0 {
		if !hasSession {
			return nil
		}
		if err := EndSession(request.Context(), Logout); !errors.Is(err, ErrSessionEnded) {
			return err
		}
		return nil
	}
	key, err := o.Table.Key(cookie.Value)
	if err != nil {
		return err
	}
	if hasSession && key == judged.key {
		return nil
	}
	if hasSession {
		_, err := o.Table.Rotate(judged.key, key, o.Overlap, Now)
		return err
	}
	start := Start{Policy: o.Policy}
	if start.Subject, err = o.Table.Subject(subject); err != nil {
		return err
	}
	if start.Binding, err = o.binding(request); err != nil {
		return err
	}
	_, err = o.Table.Start(key, start, Now)
	return err
}
