package curfew_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"curfew"
)

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
