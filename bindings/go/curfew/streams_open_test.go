package curfew_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"curfew"
)

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
