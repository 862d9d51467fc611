package curfew_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"curfew"
)

const patience = time.Minute // with what must happen at some time

// A handler with sessions in front of it, and no cookies of its own: every session is started by the test.
type guarded struct {
	*testing.T
	table   *curfew.Table
	policy  curfew.PolicyID
	events  *curfew.Events
	server  *httptest.Server
	handler http.Handler
}

type setting struct {
	options curfew.Options
	idle    time.Duration
	isHTTP2 bool
	region  string
}

func guard(t *testing.T, next http.Handler, with setting) *guarded {
	t.Helper()
	g := &guarded{T: t}
	config := curfew.Config{Capacity: 3000, Events: 1 << 16}
	if with.region == "" {
		g.table = must[*curfew.Table](t)(curfew.NewPrivate(config))
	} else {
		g.table = must[*curfew.Table](t)(curfew.Create(with.region, config))
	}
	t.Cleanup(func() { check(t, g.table.Close()) })
	if with.idle == 0 {
		with.idle = time.Hour
	}
	g.policy = must[curfew.PolicyID](t)(g.table.SetPolicy("staff", curfew.Policy{Idle: with.idle}, curfew.Now))
	g.events = must[*curfew.Events](t)(g.table.NewEvents())
	with.options.Table = g.table
	if with.options.Recheck == 0 {
		with.options.Recheck = 5 * time.Millisecond
	}
	g.handler = curfew.Handler(next, with.options)
	g.server = httptest.NewUnstartedServer(g.handler)
	g.server.Config.ConnContext = curfew.ConnContext
	g.server.Config.ErrorLog = nil
	if with.isHTTP2 {
		g.server.EnableHTTP2 = true
		g.server.StartTLS()
	} else {
		g.server.Start()
	}
	t.Cleanup(g.server.Close)
	return g
}

func (g *guarded) key(id string) curfew.Key {
	g.Helper()
	return must[curfew.Key](g)(g.table.Key(id))
}

func (g *guarded) login(id string) curfew.Key {
	g.Helper()
	subject := must[curfew.Subject](g)(g.table.Subject("alice"))
	must[int](g)(g.table.Start(g.key(id), curfew.Start{Policy: g.policy, Subject: subject}, curfew.Now))
	return g.key(id)
}

func (g *guarded) request(method, path, id string, body io.Reader) *http.Request {
	g.Helper()
	request := must[*http.Request](g)(http.NewRequest(method, g.server.URL+path, body))
	request.Header.Set("Cookie", "sid="+id)
	return request
}

// Begins a request, and gives its response when that begins.
func (g *guarded) open(method, path, id string, body io.Reader) *http.Response {
	g.Helper()
	response := must[*http.Response](g)(g.server.Client().Do(g.request(method, path, id, body)))
	g.Cleanup(func() { response.Body.Close() })
	return response
}

// An upgraded connection, and what is sent on it.
func (g *guarded) upgrade(path, id string) (net.Conn, *bufio.Reader) {
	g.Helper()
	conn := must[net.Conn](g)(net.Dial("tcp", g.server.Listener.Addr().String()))
	g.Cleanup(func() { conn.Close() })
	check(g, conn.SetDeadline(time.Now().Add(patience)))
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: sid=%s\r\n\r\n", path, id)
	check(g, err)
	from := bufio.NewReader(conn)
	response := must[*http.Response](g)(http.ReadResponse(from, nil))
	if response.StatusCode != http.StatusSwitchingProtocols {
		g.Fatal(response.Status)
	}
	return conn, from
}

func (g *guarded) until(what string, is func() bool) {
	g.Helper()
	for limit := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			g.Fatal("never: ", what)
		}
	}
}

// The next cuts, when there have been so many.
func (g *guarded) cuts(count int) (cuts []curfew.Event) {
	g.Helper()
	g.until(fmt.Sprint(count, " cuts"), func() bool {
		for _, event := range must[[]curfew.Event](g)(g.events.Read()) {
			if event.What == curfew.EventCut {
				cuts = append(cuts, event)
			}
		}
		return len(cuts) >= count
	})
	return cuts
}

func (g *guarded) last(key curfew.Key) (last curfew.Tick) {
	g.Helper()
	check(g, g.table.Sessions(curfew.Now, func(session curfew.Session) bool {
		if session.Key == key {
			last = session.Last
		}
		return true
	}))
	return last
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func eachProtocol(t *testing.T, test func(t *testing.T, isHTTP2 bool)) {
	t.Run("HTTP/1.1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP/2", func(t *testing.T) { test(t, true) })
}

func TestARequestThatEndsItsOwnSessionIsAnsweredWholeAndTheOthersAreCut(t *testing.T) {
	byItself := func(g func() *guarded, othersAreCut <-chan bool) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := curfew.EndSession(r.Context(), curfew.Logout); err != nil {
				g().Error(err)
			}
			_, _ = io.WriteString(w, "b")
			w.(http.Flusher).Flush()
			<-othersAreCut
			time.Sleep(50 * time.Millisecond) // some rounds of the watcher
			if r.Context().Err() != nil {
				g().Error("its context is cancelled")
			}
			_, _ = io.WriteString(w, "ye")
		})
	}
	byCookie := func(g func() *guarded, othersAreCut <-chan bool) http.Handler {
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "sid", MaxAge: -1, Path: "/"})
			_, _ = io.WriteString(w, "b")
			w.(http.Flusher).Flush()
			<-othersAreCut
			time.Sleep(50 * time.Millisecond)
			_, _ = io.WriteString(w, "ye")
		}))
		t.Cleanup(upstream.Close)
		proxy := httputil.NewSingleHostReverseProxy(must[*url.URL](t)(url.Parse(upstream.URL)))
		proxy.ModifyResponse = func(response *http.Response) error {
			return curfew.TrackCookies(curfew.Options{Table: g().table})(response)
		}
		return proxy
	}
	for name, logout := range map[string]func(func() *guarded, <-chan bool) http.Handler{"by itself": byItself, "by its cookie": byCookie} {
		t.Run(name, func(t *testing.T) {
			var g *guarded
			othersAreCut, ended := make(chan bool), make(chan error, 1)
			out := logout(func() *guarded { return g }, othersAreCut)
			g = guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/logout" {
					out.ServeHTTP(w, r)
				} else {
					stubborn(ended).ServeHTTP(w, r)
				}
			}), setting{})
			g.login("secret")
			other := g.open("GET", "/stream", "secret", nil)
			response := g.open("GET", "/logout", "secret", nil)
			if _, err := io.Copy(io.Discard, other.Body); err == nil || isTimeout(err) {
				t.Fatal(err)
			}
			<-ended
			close(othersAreCut)
			if all := must[[]byte](t)(io.ReadAll(response.Body)); string(all) != "bye" {
				t.Fatal(string(all))
			}
			if cuts := g.cuts(1); len(cuts) != 1 || cuts[0].Cause != curfew.Logout {
				t.Fatal(cuts)
			}
		})
	}
}

func TestARotationCutsNothing(t *testing.T) {
	ended := make(chan error, 1)
	g := guard(t, echo(ended), setting{})
	g.login("first")
	conn, from := g.upgrade("/", "first")
	for n, id := range []string{"second", "third"} {
		before := []string{"first", "second"}[n]
		must[curfew.Tick](t)(g.table.Rotate(g.key(before), g.key(id), 20*time.Millisecond, curfew.Now))
		g.until("the old id stops to answer", func() bool {
			return must[curfew.Verdict](t)(g.table.Peek(g.key(before), 0, curfew.Now)).State == curfew.Ended
		})
		was := g.last(g.key(id))
		waitForNextTick(t, g.table, was+1)
		say(t, conn, from, id)
		if g.last(g.key(id)) <= was {
			t.Fatal("it did not count")
		}
	}
	check(t, g.table.End(g.key("third"), curfew.Revoked, curfew.Now))
	if rest, err := io.ReadAll(from); len(rest) > 0 || isTimeout(err) {
		t.Fatal(string(rest), err)
	}
	if cut := g.cuts(1)[0]; cut.Key != g.key("third") || cut.Cause != curfew.Revoked {
		t.Fatal(cut)
	}
}

func TestASessionThatIsForgottenAtOnceIsCutAllTheSame(t *testing.T) {
	ended := make(chan error, 1)
	g := guard(t, echo(ended), setting{})
	policy := curfew.Policy{Idle: time.Hour, Retain: -1}
	forgets := must[curfew.PolicyID](t)(g.table.SetPolicy("forgets", policy, curfew.Now))
	must[int](t)(g.table.Start(g.key("secret"), curfew.Start{Policy: forgets}, curfew.Now))
	conn, from := g.upgrade("/", "secret")
	say(t, conn, from, "hello")
	check(t, g.table.End(g.key("secret"), curfew.Logout, curfew.Now))
	if _, err := io.ReadAll(from); isTimeout(err) {
		t.Fatal(err)
	}
	g.cuts(1)
}

// Which it is by default once its lifetime is over.
func TestTheEndOfALifetimeIsToldThoughTheSessionIsForgotten(t *testing.T) {
	ended := make(chan error, 1)
	g := guard(t, echo(ended), setting{})
	brief := must[curfew.PolicyID](t)(g.table.SetPolicy("brief", curfew.Policy{Lifetime: 2 * time.Second}, curfew.Now))
	must[int](t)(g.table.Start(g.key("secret"), curfew.Start{Policy: brief}, curfew.Now))
	_, from := g.upgrade("/", "secret")
	if _, err := io.ReadAll(from); isTimeout(err) {
		t.Fatal(err)
	}
	if cut := g.cuts(1)[0]; cut.Cause != curfew.Lifetime {
		t.Fatal(cut)
	}
}

func TestWithoutATableEverythingIsCut(t *testing.T) {
	table, policy := newTable(t, 10)
	must[int](t)(table.Start(must[curfew.Key](t)(table.Key("secret")), curfew.Start{Policy: policy}, curfew.Now))
	ended := make(chan error, 1)
	server := httptest.NewServer(curfew.Handler(stubborn(ended), curfew.Options{Table: table}))
	defer server.Close()
	request := must[*http.Request](t)(http.NewRequest("GET", server.URL, nil))
	request.Header.Set("Cookie", "sid=secret")
	response := must[*http.Response](t)(server.Client().Do(request))
	defer response.Body.Close()
	check(t, table.Close())
	if _, err := io.Copy(io.Discard, response.Body); err == nil {
		t.Fatal("not cut")
	}
	<-ended
}

func TestAConnectionIsNoAnswerToTheRequestThatEndedItsSession(t *testing.T) {
	ended := make(chan error, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		check(t, curfew.EndSession(r.Context(), curfew.Logout))
		_, _, err := w.(http.Hijacker).Hijack()
		ended <- err
	})
	g := guard(t, handler, setting{})
	g.login("secret")
	if _, err := g.server.Client().Do(g.request("GET", "/", "secret", nil)); err == nil {
		t.Fatal("it goes on")
	}
	if err := <-ended; !errors.Is(err, curfew.ErrSessionEnded) {
		t.Fatal(err)
	}
}

func TestAnEndThatFailsLeavesTheRequestToBeCut(t *testing.T) {
	done := make(chan error, 1)
	var g *guarded
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		done <- curfew.EndSession(r.Context(), 99)
		<-r.Context().Done()
	})
	g = guard(t, handler, setting{})
	key := g.login("secret")
	answered := make(chan *http.Response, 1)
	go func() { answered <- g.open("GET", "/", "secret", nil) }()
	if err := <-done; err == nil {
		t.Fatal("there is no such cause")
	}
	check(t, g.table.End(key, curfew.Revoked, curfew.Now))
	if response := <-answered; response.StatusCode != http.StatusUnauthorized {
		t.Fatal(response.Status)
	}
}
