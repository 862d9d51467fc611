package curfew_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"curfew"
)

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

func TestADenialKeepsTheHeadersThatWereSetInFront(t *testing.T) {
	inside := make(chan bool, 1)
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Add("Vary", "Accept")
		w.Header()["Access-Control-Allow-Origin"][0] = "https://elsewhere.example"
		w.Header().Del("Strict-Transport-Security")
		inside <- true
		<-r.Context().Done()
	}), setting{})
	key := g.login("secret")
	go func() {
		<-inside
		_ = g.table.End(key, curfew.Revoked, curfew.Now)
	}()
	want := http.Header{
		"Strict-Transport-Security":   {"max-age=1"},
		"Access-Control-Allow-Origin": {"https://app.example"},
		"Vary":                        {"Origin"},
	}
	w := httptest.NewRecorder()
	for name, values := range want {
		w.Header()[name] = append([]string(nil), values...)
	}
	g.handler.ServeHTTP(w, g.request("GET", "/", "secret", nil))
	got := w.Result()
	if got.StatusCode != 401 || got.Header.Get("Content-Length") != "" {
		t.Fatal(got.Status, got.Header)
	}
	for name, values := range want {
		if !reflect.DeepEqual(got.Header[name], values) {
			t.Errorf("%s: %q", name, got.Header[name])
		}
	}
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

// With ConnContext the server's own reads and writes are broken off for a handler that hangs; the answer comes after.
func TestAHandlerThatTakesItsTimeIsAnsweredAllTheSame(t *testing.T) {
	for _, patient := range []time.Duration{20 * time.Millisecond, 300 * time.Millisecond} {
		entered := make(chan bool, 1)
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			entered <- true
			<-r.Context().Done()
			time.Sleep(patient)
		})
		g := guard(t, handler, setting{})
		key := g.login("secret")
		answered := make(chan *http.Response, 1)
		go func() { answered <- g.open("GET", "/", "secret", nil) }()
		<-entered
		check(t, g.table.End(key, curfew.Revoked, curfew.Now))
		if response := <-answered; response.StatusCode != http.StatusUnauthorized {
			t.Fatal(response.Status)
		}
	}
}

func TestWhatNeedsNoSessionIsNotCutWithOne(t *testing.T) {
	entered, leave := make(chan bool, 1), make(chan bool)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-leave
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
	})
	g := guard(t, handler, setting{options: curfew.Options{IsPublic: func(*http.Request) bool { return true }}})
	key := g.login("secret")
	answered := make(chan *http.Response, 1)
	go func() { answered <- g.open("POST", "/login", "secret", nil) }()
	<-entered
	check(t, g.table.End(key, curfew.Logout, curfew.Now))
	time.Sleep(50 * time.Millisecond) // ten looks
	leave <- true
	if response := <-answered; response.StatusCode != http.StatusOK {
		t.Fatal(response.Status)
	}
}
