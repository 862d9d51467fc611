package curfew_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"curfew"
)

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
