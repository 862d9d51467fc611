package curfew

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Options is how a [Handler] finds and judges sessions. Table must be set.
type Options struct {
	Table *Table
	// Cookie names the cookie that has the session id; "sid" if it is empty.
	Cookie string
	// ID finds the session id of a request instead; "" for none.
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
	// Recheck is how often a request that takes long is looked at again; its context is cancelled when its session
	// has ended. A second if it is zero, never if it is negative.
	Recheck time.Duration

	// For TrackCookies: what sessions live under, and whose they are, which the application says in a header that
	// is not passed on. "Curfew-Subject" if it is empty.
	Policy        PolicyID
	SubjectHeader string
	// Overlap is how long an id that the application has replaced still answers. Five seconds if it is zero.
	Overlap time.Duration
}

type contextKey struct{}

type judgement struct {
	verdict Verdict
	key     Key
	hasKey  bool
}

// FromContext gives the verdict on the request that a context belongs to. There is none for requests that
// presented no session.
func FromContext(ctx context.Context) (Verdict, bool) {
	judged, _ := ctx.Value(contextKey{}).(judgement)
	return judged.verdict, judged.hasKey
}

// KeyFromContext gives the key of the session that a request presented, if it did.
func KeyFromContext(ctx context.Context) (Key, bool) {
	judged, _ := ctx.Value(contextKey{}).(judgement)
	return judged.key, judged.hasKey
}

// Handler passes to next what belongs to a session that may go on. Everything else is refused; so is everything
// when there can be no decision (503).
func Handler(next http.Handler, options Options) http.Handler {
	if options.Table == nil {
		panic("curfew: Options.Table is nil")
	}
	options = options.filled()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		judged, status := options.judge(r)
		if status != 0 {
			w.Header().Set("Cache-Control", "no-store")
			http.Error(w, http.StatusText(status), status)
			return
		}
		ctx := context.WithValue(r.Context(), contextKey{}, judged)
		passes := judged.verdict.Passes || options.IsPublic != nil && options.IsPublic(r)
		if !passes {
			options.Denied.ServeHTTP(w, r.WithContext(ctx))
			return
		}
		if judged.verdict.Passes && options.Recheck > 0 {
			var cancel context.CancelFunc
			ctx, cancel = options.watch(ctx, judged)
			defer cancel()
		}
		next.ServeHTTP(w, r.WithContext(ctx))
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
		o.Recheck = time.Second
	}
	if o.SubjectHeader == "" {
		o.SubjectHeader = "Curfew-Subject"
	}
	if o.Overlap == 0 {
		o.Overlap = 5 * time.Second
	}
	return o
}

// The session id of a request. Two ids are one too many: the application might choose the other one.
func (o Options) id(r *http.Request) (string, bool) {
	if o.ID != nil {
		return o.ID(r), true
	}
	id, found := "", 0
	for _, cookie := range r.Cookies() {
		if cookie.Name == o.Cookie {
			id = cookie.Value
			found++
		}
	}
	return id, found < 2
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
	ask := o.Table.Touch
	if o.IsActivity != nil && !o.IsActivity(r) {
		ask = o.Table.Peek
	}
	verdict, err := ask(key, binding, Now)
	if err != nil {
		return judgement{}, http.StatusServiceUnavailable
	}
	return judgement{verdict, key, true}, 0
}

// A context that is cancelled when the session has ended. What is asked is only whether it has: not everything that
// would refuse another request ends one that was allowed.
func (o Options) watch(ctx context.Context, judged judgement) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	var again func()
	next := func(left time.Duration) time.Duration {
		if left > o.Recheck {
			return o.Recheck
		}
		return left + time.Millisecond
	}
	again = func() {
		if ctx.Err() != nil {
			return
		}
		verdict, err := o.Table.Peek(judged.key, 0, Now)
		if err != nil || verdict.State == Ended || verdict.State == Unknown {
			cancel()
			return
		}
		wait := o.Recheck
		if verdict.State == Active || verdict.State == Grace {
			wait = next(verdict.EndLeft)
		}
		time.AfterFunc(wait, again)
	}
	timer := time.AfterFunc(next(judged.verdict.EndLeft), again)
	return ctx, func() {
		timer.Stop()
		cancel()
	}
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
	judged, _ := request.Context().Value(contextKey{}).(judgement)
	hasSession := judged.hasKey && judged.verdict.Passes
	if cookie.Value == "" || cookie.MaxAge < 0 {
		if !hasSession {
			return nil
		}
		if err := o.Table.End(judged.key, Logout, Now); !errors.Is(err, ErrSessionEnded) {
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
