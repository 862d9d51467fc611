package curfew_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"curfew"
)

const sessions = 100_000

func filled(b *testing.B) (*curfew.Table, []curfew.Key) {
	table, _ := newTable(b, sessions)
	policy := must[curfew.PolicyID](b)(table.SetPolicy("long", curfew.Policy{Idle: 1000 * time.Hour}, t0))
	keys := make([]curfew.Key, sessions)
	for nth := range keys {
		keys[nth] = must[curfew.Key](b)(table.Key(fmt.Sprint(nth)))
		must[int](b)(table.Start(keys[nth], curfew.Start{Policy: policy}, t0))
	}
	// In another order than they lie in memory.
	for nth := range keys {
		other := nth * 7919 % len(keys)
		keys[nth], keys[other] = keys[other], keys[nth]
	}
	b.ReportAllocs()
	b.ResetTimer()
	return table, keys
}

func BenchmarkTouch(b *testing.B) {
	table, keys := filled(b)
	for n := 0; n < b.N; n++ {
		if verdict, err := table.Touch(keys[n%len(keys)], 0, t0+curfew.Tick(n/1000)); err != nil || !verdict.Passes {
			b.Fatal(verdict, err)
		}
	}
}

// With the present time read on the way, as a proxy does.
func BenchmarkTouchNow(b *testing.B) {
	table, keys := filled(b)
	for n := 0; n < b.N; n++ {
		if verdict, err := table.Touch(keys[n%len(keys)], 0, curfew.Now); err != nil || !verdict.Passes {
			b.Fatal(verdict, err)
		}
	}
}

func BenchmarkTouchParallel(b *testing.B) {
	table, keys := filled(b)
	b.RunParallel(func(p *testing.PB) {
		for n := 0; p.Next(); n++ {
			if verdict, err := table.Touch(keys[n%len(keys)], 0, t0); err != nil || !verdict.Passes {
				b.Error(verdict, err)
				return
			}
		}
	})
}

func BenchmarkTouchMany(b *testing.B) {
	for _, size := range []int{16, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			table, keys := filled(b)
			var verdicts []curfew.Verdict
			for n := 0; n < b.N; n += size {
				first := n % (len(keys) - size)
				var err error
				if verdicts, err = table.TouchMany(verdicts[:0], keys[first:first+size], nil, t0+curfew.Tick(n/1000)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKey(b *testing.B) {
	table, _ := filled(b)
	for n := 0; n < b.N; n++ {
		if _, err := table.Key("8f14e45fceea167a8f14e45fceea167a"); err != nil {
			b.Fatal(err)
		}
	}
}

// What net/http gives a handler of HTTP/1.1 can do this much.
type nowhere struct{ header http.Header }

func (w *nowhere) Header() http.Header                      { return w.header }
func (w *nowhere) WriteHeader(int)                          {}
func (w *nowhere) Write(bytes []byte) (int, error)          { return len(bytes), nil }
func (w *nowhere) WriteString(text string) (int, error)     { return len(text), nil }
func (w *nowhere) ReadFrom(source io.Reader) (int64, error) { return io.Copy(io.Discard, source) }
func (w *nowhere) Flush()                                   {}
func (w *nowhere) CloseNotify() <-chan bool                 { return nil }
func (w *nowhere) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}

// Requests that finish by themselves, through the middleware and with nothing else around them: looking at the cookie,
// the touch, and whatever it takes to end those that do not finish.
func BenchmarkHandler(b *testing.B) {
	for _, one := range []struct {
		name   string
		method string
		open   int
	}{{"GET", "GET", 0}, {"POST", "POST", 0}, {"GET beside 20,000 that are open", "GET", 20_000}} {
		b.Run(one.name, func(b *testing.B) {
			table, staff := newTable(b, 100)
			key := must[curfew.Key](b)(table.Key("8f14e45fceea167a"))
			must[int](b)(table.Start(key, curfew.Start{Policy: staff}, curfew.Now))
			release := make(chan struct{})
			var inside, left sync.WaitGroup
			handler := curfew.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/open" {
					inside.Done()
					<-release
					return
				}
				if r.Body != nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(w, "hello")
			}), curfew.Options{Table: table})
			request := func(method, path string) *http.Request {
				r := httptest.NewRequest(method, path, nil)
				r.Header.Set("Cookie", "sid=8f14e45fceea167a")
				return r
			}
			for n := 0; n < one.open; n++ {
				inside.Add(1)
				left.Add(1)
				go func() {
					defer left.Done()
					handler.ServeHTTP(&nowhere{http.Header{}}, request("GET", "/open"))
				}()
			}
			inside.Wait()
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				w, r := &nowhere{http.Header{}}, request(one.method, "/").WithContext(ctx)
				body := strings.NewReader("")
				for p.Next() {
					if one.method == "POST" {
						body.Reset("user=alice")
						r.Body = io.NopCloser(body)
					}
					handler.ServeHTTP(w, r)
				}
			})
			b.StopTimer()
			close(release)
			left.Wait()
		})
	}
}
