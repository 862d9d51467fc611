package curfew_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

// Answers every line with itself, and says so on its own as often as it is asked to.
func echo(ended chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, both, err := w.(http.Hijacker).Hijack()
		if err != nil {
			ended <- err
			return
		}
		defer conn.Close()
		_, _ = both.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		for err = both.Flush(); err == nil; err = both.Flush() {
			var line string
			if line, err = both.ReadString('\n'); err != nil {
				break
			}
			_, _ = both.WriteString(line)
		}
		ended <- err
	})
}

func say(t testing.TB, conn net.Conn, from *bufio.Reader, line string) {
	t.Helper()
	_, err := io.WriteString(conn, line+"\n")
	check(t, err)
	if heard := must[string](t)(from.ReadString('\n')); heard != line+"\n" {
		t.Fatal(heard)
	}
}

func TestAWebSocketIsCutWhenItsSessionEndsAlsoBehindAReverseProxy(t *testing.T) {
	upstreamEnded := make(chan error, 1)
	upstream := httptest.NewServer(echo(upstreamEnded))
	defer upstream.Close()
	proxy := httputil.NewSingleHostReverseProxy(must[*url.URL](t)(url.Parse(upstream.URL)))
	for name, next := range map[string]http.Handler{"served here": echo(upstreamEnded), "proxied": proxy} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, next, setting{})
			key := g.login("secret")
			conn, from := g.upgrade("/", "secret")
			for n := 0; n < 100; n++ {
				say(t, conn, from, fmt.Sprint("line ", n))
			}
			check(t, g.table.End(key, curfew.Revoked, curfew.Now))
			if rest, err := io.ReadAll(from); isTimeout(err) || len(rest) > 0 {
				t.Fatal(string(rest), err)
			}
			if err := <-upstreamEnded; err == nil || isTimeout(err) {
				t.Fatal(err)
			}
			cut := g.cuts(1)[0]
			if cut.Key != key || cut.Cause != curfew.Revoked || cut.Bytes < 790 || cut.Bytes > 1200 {
				t.Fatal(cut)
			}
		})
	}
}

type taken struct {
	*httptest.ResponseRecorder
	conn net.Conn
	both *bufio.ReadWriter
}

func (t taken) Hijack() (net.Conn, *bufio.ReadWriter, error) { return t.conn, t.both, nil }

func TestWhatAClientHasSentBeforeItsConnectionIsTakenOverIsNotLost(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	from := bufio.NewReader(io.MultiReader(strings.NewReader("early\n"), server))
	must[[]byte](t)(from.Peek(6))
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, both, err := w.(http.Hijacker).Hijack()
		check(t, err)
		defer conn.Close()
		// There are handlers that look.
		if both.Reader.Buffered() != 6 {
			t.Error(both.Reader.Buffered())
		}
		for _, want := range []string{"early\n", "late\n"} {
			if line, err := both.ReadString('\n'); line != want || err != nil {
				t.Error(line, err)
			}
		}
	}), setting{})
	g.login("secret")
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "sid=secret")
	go func() { _, _ = io.WriteString(client, "late\n") }()
	g.handler.ServeHTTP(taken{httptest.NewRecorder(), server, bufio.NewReadWriter(from, bufio.NewWriter(server))}, r)
}

// As handlers do that start something of their own on it.
func TestAConnectionOutlivesTheHandlerThatHasTakenItOverAndIsCutThen(t *testing.T) {
	returned, ended := make(chan bool), make(chan error, 1)
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		check(t, err)
		go func() {
			<-returned
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			_, err := io.Copy(conn, conn)
			ended <- err
			conn.Close()
			conn.Close()
		}()
	}), setting{})
	key := g.login("secret")
	handler := g.server.Config.Handler
	g.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r)
		close(returned)
	})
	conn, from := g.upgrade("/", "secret")
	say(t, conn, from, "hello")
	check(t, g.table.End(key, curfew.Revoked, curfew.Now))
	if rest, err := io.ReadAll(from); isTimeout(err) || len(rest) > 0 {
		t.Fatal(string(rest), err)
	}
	<-ended
	g.cuts(1)
}

// As http.ResponseController does it.
func TestAConnectionThatWasTakenOverFromBeneathIsCutAsWell(t *testing.T) {
	ended := make(chan error, 1)
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		echo(ended).ServeHTTP(w.(interface{ Unwrap() http.ResponseWriter }).Unwrap(), r)
	})
	g := guard(t, inner, setting{})
	key := g.login("secret")
	conn, from := g.upgrade("/", "secret")
	say(t, conn, from, "hello")
	check(t, g.table.End(key, curfew.Revoked, curfew.Now))
	if err := <-ended; err == nil {
		t.Fatal("not cut")
	}
}

func TestWhatCountsAsActivityWhileAConnectionIsOpen(t *testing.T) {
	for _, one := range []struct {
		name             string
		activity         curfew.StreamActivity
		isNone           bool
		client, toClient bool
	}{
		{"by default", 0, false, true, false},
		{"both", curfew.StreamBoth, false, true, true},
		{"off", curfew.StreamOff, false, false, false},
		{"of a request that was none", curfew.StreamBoth, true, false, false},
	} {
		t.Run(one.name, func(t *testing.T) {
			hear, speak := make(chan string), make(chan string)
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, both, _ := w.(http.Hijacker).Hijack()
				defer conn.Close()
				_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				close(hear)
				line, _ := both.ReadString('\n')
				speak <- line
				<-speak
				_, _ = io.WriteString(conn, "hello\n")
			})
			options := curfew.Options{StreamActivity: one.activity}
			if one.isNone {
				options.IsActivity = func(*http.Request) bool { return false }
			}
			g := guard(t, handler, setting{options: options})
			key := g.login("secret")
			conn, from := g.upgrade("/", "secret")
			<-hear
			was := g.last(key)
			waitForNextTick(t, g.table, was+1)
			_, err := io.WriteString(conn, "hello\n")
			check(t, err)
			<-speak
			if is := g.last(key); is > was != one.client {
				t.Fatal("bytes from the client: ", was, is)
			}
			was = g.last(key)
			waitForNextTick(t, g.table, was+1)
			speak <- ""
			must[string](t)(from.ReadString('\n'))
			_, _ = io.ReadAll(from)
			if is := g.last(key); is > was != one.toClient {
				t.Fatal("bytes to the client: ", was, is)
			}
		})
	}
}

func TestAConnectionWhoseClientIsSilentEndsByTheIdleTimeoutAndIsToldToAll(t *testing.T) {
	ended := make(chan error, 1)
	g := guard(t, echo(ended), setting{idle: time.Second})
	g.login("secret")
	conn, from := g.upgrade("/", "secret")
	defer conn.Close()
	if _, err := io.ReadAll(from); isTimeout(err) {
		t.Fatal(err)
	}
	<-ended
	if cut := g.cuts(1)[0]; cut.Cause != curfew.Idle || cut.Idle < time.Second {
		t.Fatal(cut)
	}
}

// Writes until it cannot, and never looks at its context.
func stubborn(ended chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, "data: tick\n\n"); err != nil {
				ended <- err
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
	})
}

func eachProtocol(t *testing.T, test func(t *testing.T, isHTTP2 bool)) {
	t.Run("HTTP/1.1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP/2", func(t *testing.T) { test(t, true) })
}

func TestAResponseThatIsCutIsNotTakenForAWholeOne(t *testing.T) {
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		ended := make(chan error, 1)
		g := guard(t, stubborn(ended), setting{isHTTP2: isHTTP2})
		key := g.login("secret")
		response := g.open("GET", "/", "secret", nil)
		if response.ProtoMajor == 2 != isHTTP2 {
			t.Fatal(response.Proto)
		}
		must[int](t)(io.ReadFull(response.Body, make([]byte, 24)))
		check(t, g.table.End(key, curfew.Revoked, curfew.Now))
		read, err := io.Copy(io.Discard, response.Body)
		if err == nil || isTimeout(err) {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, curfew.ErrSessionEnded) {
			t.Fatal(err)
		}
		if cut := g.cuts(1)[0]; cut.Cause != curfew.Revoked || int64(cut.Bytes) < read+24 {
			t.Fatal(cut, read)
		}
	})
}

func TestAHandlerThatMindsItsContextMayEndItsResponseInOrder(t *testing.T) {
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "data: hello\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), setting{isHTTP2: isHTTP2})
		key := g.login("secret")
		response := g.open("GET", "/", "secret", nil)
		check(t, g.table.End(key, curfew.Revoked, curfew.Now))
		if all := must[[]byte](t)(io.ReadAll(response.Body)); string(all) != "data: hello\n\n" {
			t.Fatal(string(all))
		}
		if cut := g.cuts(1)[0]; cut.Bytes != 13 {
			t.Fatal(cut)
		}
	})
}

func TestARequestThatWasNotAnsweredYetIsDenied(t *testing.T) {
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		upstreamEnded := make(chan bool, 1)
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			upstreamEnded <- true
		}))
		defer upstream.Close()
		proxy := httputil.NewSingleHostReverseProxy(must[*url.URL](t)(url.Parse(upstream.URL)))
		inside := make(chan bool, 1)
		g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			inside <- true
			proxy.ServeHTTP(w, r)
		}), setting{isHTTP2: isHTTP2})
		key := g.login("secret")
		go func() {
			<-inside
			_ = g.table.End(key, curfew.Revoked, curfew.Now)
		}()
		response := g.open("GET", "/", "secret", nil)
		all := must[[]byte](t)(io.ReadAll(response.Body))
		if response.StatusCode != 401 || strings.TrimSpace(string(all)) != "no session: revoked" {
			t.Fatal(response.Status, string(all))
		}
		<-upstreamEnded
	})
}

func TestAnUploadCountsAsActivityAndIsBrokenOffWhenItsSessionEnds(t *testing.T) {
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		seen, ended := make(chan int64), make(chan error, 1)
		g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			part := make([]byte, 1024)
			for {
				count, err := r.Body.Read(part)
				if err != nil {
					ended <- err
					return
				}
				seen <- int64(count)
			}
		}), setting{isHTTP2: isHTTP2})
		key := g.login("secret")
		from, to := io.Pipe()
		answered := make(chan *http.Response, 1)
		go func() {
			response, err := g.server.Client().Do(g.request("PUT", "/", "secret", from))
			if err == nil {
				response.Body.Close()
			}
			answered <- response
		}()
		for n := 0; n < 3; n++ {
			was := g.last(key)
			waitForNextTick(t, g.table, was+1)
			must[int](t)(to.Write(make([]byte, 1000)))
			for count := int64(0); count < 1000; {
				count += <-seen
			}
			if n > 0 && g.last(key) <= was {
				t.Fatal("the upload did not count")
			}
		}
		check(t, g.table.End(key, curfew.Revoked, curfew.Now))
		g.cuts(1)
		// What comes afterwards reaches nobody.
		go func() { _, _ = to.Write(make([]byte, 1000)) }()
		if err := <-ended; err == nil || errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		// Some transports rather tell that the body could not be sent.
		if response := <-answered; response != nil && response.StatusCode != 401 {
			t.Fatal(response.Status)
		}
		to.CloseWithError(io.ErrUnexpectedEOF)
	})
}

// With HTTP/1.1. Of HTTP/2 the next test tells.
func TestAHandlerThatHangsBecauseItsClientDoesNothingIsFreed(t *testing.T) {
	for name, request := range map[string]string{
		"in a read":  "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\nCookie: sid=secret\r\n\r\n",
		"in a write": "GET / HTTP/1.1\r\nHost: test\r\nCookie: sid=secret\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			inside, ended := make(chan bool, 1), make(chan error, 1)
			g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				inside <- true
				if r.Method == "PUT" {
					_, err := io.ReadAll(r.Body)
					ended <- err
					return
				}
				for {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						ended <- err
						return
					}
				}
			}), setting{})
			key := g.login("secret")
			conn := must[net.Conn](t)(net.Dial("tcp", g.server.Listener.Addr().String()))
			defer conn.Close()
			_, err := io.WriteString(conn, request)
			check(t, err)
			<-inside
			check(t, g.table.End(key, curfew.Revoked, curfew.Now))
			if err := <-ended; err == nil {
				t.Fatal("it ended in order")
			}
		})
	}
}

// What net/http has from Go 1.20 on, for HTTP/1.1 and HTTP/2.
type withDeadlines struct {
	http.ResponseWriter
	read, write chan time.Time
}

func (w *withDeadlines) SetReadDeadline(at time.Time) error  { w.read <- at; return nil }
func (w *withDeadlines) SetWriteDeadline(at time.Time) error { w.write <- at; return nil }
func (w *withDeadlines) Write(from []byte) (int, error) {
	<-w.write
	return 0, os.ErrDeadlineExceeded
}

// Behind the wrapper of somebody else.
type outside struct{ http.ResponseWriter }

func (w outside) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestAHandlerThatHangsIsFreedByDeadlinesWhereThereAreSome(t *testing.T) {
	inside := make(chan bool)
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		_, _ = io.WriteString(w, "hello")
	}), setting{})
	key := g.login("secret")
	w := &withDeadlines{httptest.NewRecorder(), make(chan time.Time, 1), make(chan time.Time, 1)}
	go func() {
		<-inside
		_ = g.table.End(key, curfew.Revoked, curfew.Now)
	}()
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cookie", "sid=secret")
	g.handler.ServeHTTP(outside{w}, r)
	if at := <-w.read; !at.Before(time.Now()) {
		t.Fatal(at)
	}
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

func TestAFilePassesWholeAndIsCutInTheMiddle(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, content, 0o600))
	// More than the system's buffers take of a client that reads nothing.
	large := filepath.Join(t.TempDir(), "large")
	check(t, os.WriteFile(large, nil, 0o600))
	const length = 256 << 20
	check(t, os.Truncate(large, length))
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		ended := make(chan bool, 1)
		g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { ended <- true }()
			if _, is := w.(io.ReaderFrom); is == isHTTP2 {
				t.Error("the server's own way to send a file")
			}
			if r.URL.Path == "/whole" {
				file, _ := os.Open(path)
				defer file.Close()
				_, _ = io.Copy(w, file)
				return
			}
			if r.URL.Path == "/large" {
				http.ServeFile(w, r, large)
				return
			}
			http.ServeFile(w, r, path)
		}), setting{isHTTP2: isHTTP2})
		key := g.login("secret")
		for _, path := range []string{"/", "/whole"} {
			if all := must[[]byte](t)(io.ReadAll(g.open("GET", path, "secret", nil).Body)); !bytes.Equal(all, content) {
				t.Fatal(path, len(all))
			}
			<-ended
		}
		request := g.request("GET", "/", "secret", nil)
		request.Header.Set("Range", "bytes=300000-999999")
		part := must[*http.Response](t)(g.server.Client().Do(request))
		if all := must[[]byte](t)(io.ReadAll(part.Body)); !bytes.Equal(all, content[300000:1000000]) {
			t.Fatal(len(all))
		}
		part.Body.Close()
		<-ended

		response := g.open("GET", "/large", "secret", nil)
		must[int](t)(io.ReadFull(response.Body, make([]byte, 1<<20)))
		check(t, g.table.End(key, curfew.Revoked, curfew.Now))
		if cut := g.cuts(1)[0]; cut.Bytes >= length {
			t.Fatal(cut)
		}
		count, err := io.Copy(io.Discard, response.Body)
		if err == nil || count >= length {
			t.Fatal(count, err)
		}
		<-ended
	})
}

func TestAResponseCanDoWhatTheOneBeneathCan(t *testing.T) {
	type abilities struct{ flushes, hijacks, reads, pushes, notifies bool }
	of := func(w http.ResponseWriter) (a abilities) {
		_, a.flushes = w.(http.Flusher)
		_, a.hijacks = w.(http.Hijacker)
		_, a.reads = w.(io.ReaderFrom)
		_, a.pushes = w.(http.Pusher)
		_, a.notifies = w.(http.CloseNotifier)
		return a
	}
	var within abilities
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { within = of(w) }), setting{})
	g.login("secret")
	var plain http.ResponseWriter = httptest.NewRecorder()
	f, h, rf, p := http.Flusher(httptest.NewRecorder()), http.Hijacker(nil), io.ReaderFrom(nil), http.Pusher(nil)
	type w = http.ResponseWriter
	type bare struct{ http.ResponseWriter }
	for _, one := range []http.ResponseWriter{
		bare{plain},
		struct {
			w
			http.Flusher
		}{plain, f},
		struct {
			w
			http.Hijacker
		}{plain, h},
		struct {
			w
			http.Flusher
			http.Hijacker
		}{plain, f, h},
		struct {
			w
			io.ReaderFrom
		}{plain, rf},
		struct {
			w
			http.Flusher
			http.Hijacker
			io.ReaderFrom
		}{plain, f, h, rf},
		struct {
			w
			http.Flusher
			http.Pusher
		}{plain, f, p},
		struct {
			w
			http.Flusher
			http.CloseNotifier
		}{plain, f, nil},
		struct {
			w
			http.Hijacker
			http.Pusher
			io.ReaderFrom
		}{plain, h, p, rf},
		struct {
			w
			http.Flusher
			http.Hijacker
			http.Pusher
			io.ReaderFrom
		}{plain, f, h, p, rf},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Cookie", "sid=secret")
		g.handler.ServeHTTP(one, r)
		want := of(one)
		want.notifies = false
		if within != want {
			t.Errorf("%T: %+v", one, within)
		}
	}
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		want := abilities{true, !isHTTP2, !isHTTP2, isHTTP2, true}
		g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { within = of(w) }), setting{isHTTP2: isHTTP2})
		g.login("secret")
		g.open("GET", "/", "secret", nil)
		if within != want {
			t.Errorf("%+v", within)
		}
	})
}

// The tool in C, which is another process, ends all sessions of a subject.
func TestAThousandStreamsAreCutByAnotherProcess(t *testing.T) {
	const streams = 1000
	tool := buildTool(t)
	eachProtocol(t, func(t *testing.T, isHTTP2 bool) {
		before := runtime.NumGoroutine()
		t.Run("", func(t *testing.T) {
			var inside sync.WaitGroup
			inside.Add(streams)
			region := filepath.Join(t.TempDir(), "app.region")
			g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.WriteString(w, "data: hello\n\n"); err != nil {
					t.Error(err)
				}
				w.(http.Flusher).Flush()
				inside.Done()
				<-r.Context().Done()
			}), setting{isHTTP2: isHTTP2, region: region, options: curfew.Options{Recheck: 200 * time.Millisecond}})
			g.login("secret")
			for n := 0; n < streams; n++ {
				g.open("GET", "/", "secret", nil)
			}
			inside.Wait()
			if output, status := run(t, tool, region, "end-subject", "alice"); status != 0 || output != "1\n" {
				t.Fatal(output, status)
			}
			cuts := g.cuts(streams)
			latest := curfew.Tick(0)
			for _, cut := range cuts {
				if cut.Cause != curfew.Revoked || cut.Bytes != 13 {
					t.Fatal(cut)
				}
				if cut.At > latest {
					latest = cut.At
				}
			}
			if len(cuts) != streams {
				t.Fatal(len(cuts))
			}
			var end curfew.Tick
			check(t, g.table.Sessions(curfew.Now, func(session curfew.Session) bool { end = session.End; return true }))
			t.Logf("all of %d were cut %v after the end", streams, latest.Sub(end))
			g.server.Client().CloseIdleConnections()
		})
		for limit := time.Now().Add(patience); runtime.NumGoroutine() > before+2; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				stacks := make([]byte, 1<<16)
				t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// Many short ones and some long ones at the same time, while sessions end and rotate: for the race detector.
func TestManyAtOnce(t *testing.T) {
	ended := make(chan error, 1000)
	upstream := httptest.NewServer(echo(ended))
	defer upstream.Close()
	proxy := httputil.NewSingleHostReverseProxy(must[*url.URL](t)(url.Parse(upstream.URL)))
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/upgrade":
			proxy.ServeHTTP(w, r)
		case "/stream":
			stubborn(ended).ServeHTTP(w, r)
		default:
			all, _ := io.ReadAll(r.Body)
			_, _ = w.Write(all)
		}
	}), setting{options: curfew.Options{Recheck: time.Millisecond, StreamActivity: curfew.StreamBoth}})
	var group sync.WaitGroup
	for user := 0; user < 8; user++ {
		user := user
		group.Add(1)
		go func() {
			defer group.Done()
			for round := 0; round < 5; round++ {
				id := fmt.Sprint("secret ", user, round)
				id = strings.ReplaceAll(id, " ", "-")
				key, _ := g.table.Key(id)
				if _, err := g.table.Start(key, curfew.Start{Policy: g.policy, Subject: curfew.Subject(user + 1)}, curfew.Now); err != nil {
					t.Error(err)
					return
				}
				response, err := g.server.Client().Do(g.request("GET", "/stream", id, nil))
				if err != nil {
					t.Error(err)
					return
				}
				conn, from := g.upgrade("/upgrade", id)
				for n := 0; n < 5; n++ {
					body := strings.Repeat("x", 1000*n+1)
					answer, err := g.server.Client().Do(g.request("POST", "/", id, strings.NewReader(body)))
					if err != nil {
						t.Error(err)
						return
					}
					all, _ := io.ReadAll(answer.Body)
					answer.Body.Close()
					if answer.StatusCode != 200 || string(all) != body {
						t.Error(answer.Status, len(all))
					}
					say(t, conn, from, body)
				}
				if _, err := g.table.EndSubject(curfew.Subject(user+1), curfew.Revoked, curfew.Now); err != nil {
					t.Error(err)
				}
				if _, err := io.Copy(io.Discard, response.Body); err == nil {
					t.Error("the stream was not cut")
				}
				response.Body.Close()
				if _, err := io.Copy(io.Discard, from); isTimeout(err) {
					t.Error("the connection was not cut")
				}
				conn.Close()
			}
		}()
	}
	group.Wait()
	if cuts := g.cuts(8 * 5 * 2); len(cuts) < 80 {
		t.Fatal(len(cuts))
	}
}

func TestRunReportsCuts(t *testing.T) {
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}), setting{})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reported := make(chan curfew.Event, 10)
	go func() { _ = g.table.Run(ctx, func(event curfew.Event) { reported <- event }) }()
	for n := 0; ; n++ {
		id := fmt.Sprint("secret-", n)
		key := g.login(id)
		g.open("GET", "/", id, nil)
		check(t, g.table.End(key, curfew.Revoked, curfew.Now))
		select {
		case event := <-reported:
			if event.What == curfew.EventEnded {
				event = <-reported
			}
			if event.What != curfew.EventCut || event.Bytes != 5 || !strings.Contains(event.String(), "was cut off after 5 bytes") {
				t.Fatal(event)
			}
			return
		case <-time.After(3 * time.Second): // it had not begun to listen
		}
	}
}
