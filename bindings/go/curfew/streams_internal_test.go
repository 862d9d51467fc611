package curfew

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func (w *watcher) isIdle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first == nil && !w.isArmed && w.batch == nil
}

func TestTheTimerStopsWhenNothingIsOpenAnyMoreAndStartsAgain(t *testing.T) {
	table, err := NewPrivate(Config{Capacity: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	watcher := &watcher{table: table, every: time.Millisecond}
	for round := 0; round < 3; round++ {
		streams := make([]*stream, 5)
		for nth := range streams {
			streams[nth] = &stream{watcher: watcher, cancel: func() {}}
			watcher.add(streams[nth])
		}
		// In another order than they came, and one of them twice.
		for _, nth := range []int{2, 0, 4, 4, 1, 3} {
			if watcher.isIdle() {
				t.Fatal("it stopped too early")
			}
			streams[nth].returned()
		}
		for limit := time.Now().Add(time.Minute); !watcher.isIdle(); time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatal("it does not stop")
			}
		}
	}
}

// What a look costs with so many open: when nothing has happened, which is what it finds nearly always, and when
// something has ended somewhere.
func BenchmarkLook(b *testing.B) {
	for _, open := range []int{1000, 20_000} {
		for _, changes := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d open, changed %v", open, changes), func(b *testing.B) {
				table, err := NewPrivate(Config{Capacity: uint64(open)})
				if err != nil {
					b.Fatal(err)
				}
				defer table.Close()
				policy, _ := table.SetPolicy("staff", Policy{Idle: time.Hour}, Now)
				watcher := &watcher{table: table, every: time.Hour}
				for nth := 0; nth < open; nth++ {
					key, _ := table.Key(fmt.Sprint(nth))
					if _, err := table.Start(key, Start{Policy: policy}, Now); err != nil {
						b.Fatal(err)
					}
					s := &stream{watcher: watcher, to: httptest.NewRecorder(), request: new(http.Request), cancel: func() {}}
					s.watch = table.Watch(key, 0)
					watcher.add(s)
				}
				watcher.look()
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; n < b.N; n++ {
					if changes {
						watcher.changes--
					}
					watcher.look()
				}
				b.StopTimer()
				watcher.timer.Stop()
			})
		}
	}
}
