package curfew

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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
			streams[nth] = &stream{watcher: watcher, cancel: func() {}, isDone: true} // so that it is not asked about
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

// A watcher that looks only when it is told to, and something that is open of a session.
func watched(t *testing.T, policy Policy) (*Table, *watcher, *stream) {
	table, err := NewPrivate(Config{Capacity: 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	id, err := table.SetPolicy("staff", policy, Now)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := table.Key("secret")
	if _, err := table.Start(key, Start{Policy: id}, Now); err != nil {
		t.Fatal(err)
	}
	watcher := &watcher{table: table, every: time.Hour}
	s := &stream{watcher: watcher, to: httptest.NewRecorder(), request: new(http.Request), cancel: func() {}}
	s.watch = table.Watch(key, 0)
	return table, watcher, s
}

func TestAnEndBetweenTheTouchAndTheListIsNotMissed(t *testing.T) {
	table, watcher, s := watched(t, Policy{Idle: time.Hour})
	if err := table.End(s.watch.Key(), Revoked, Now); err != nil {
		t.Fatal(err)
	}
	other := &stream{watcher: watcher, cancel: func() {}, isDone: true}
	watcher.add(other)
	watcher.look() // has seen the change
	watcher.add(s)
	watcher.look()
	if !s.isCut.Load() {
		t.Fatal("it goes on for ever")
	}
	watcher.remove(s)
	watcher.remove(other)
	watcher.timer.Stop()
}

func TestADeadlineIsMindedThoughNothingHasChanged(t *testing.T) {
	_, watcher, s := watched(t, Policy{Idle: time.Hour})
	watcher.add(s)
	watcher.look()
	now, _ := watcher.table.Now()
	if left := s.deadline.Sub(now); left < 59*time.Minute || left > time.Hour || watcher.nearest != s.deadline {
		t.Fatal(left, watcher.nearest)
	}
	// As if it had come, and no advance by it.
	s.deadline, watcher.nearest = now, now
	watcher.look()
	if s.deadline <= now || s.isCut.Load() {
		t.Fatal("it was not asked")
	}
	watcher.remove(s)
	watcher.timer.Stop()
}

// A re-authentication with a shorter token brings the end nearer than what was told, and is no change.
func TestAnEndThatWasBroughtNearerIsNoticed(t *testing.T) {
	table, watcher, s := watched(t, Policy{Idle: time.Hour, Retain: time.Hour})
	watcher.add(s)
	watcher.look()
	if err := table.Reauthenticate(s.watch.Key(), time.Now().Add(3*time.Second), Now); err != nil {
		t.Fatal(err)
	}
	for {
		watcher.look()
		verdict, err := table.Peek(s.watch.Key(), 0, Now)
		if err != nil {
			t.Fatal(err)
		}
		if verdict.State == Ended {
			break
		}
		time.Sleep(time.Millisecond)
	}
	watcher.look()
	if !s.isCut.Load() || s.cutBy.Cause != Token {
		t.Fatal(s.cutBy)
	}
	watcher.remove(s)
	watcher.timer.Stop()
}

func TestTheAnswerOfALogoutDoesNotGoOnForEver(t *testing.T) {
	_, watcher, s := watched(t, Policy{Idle: time.Hour})
	watcher.add(s)
	if err := s.endItself(Logout); err != nil {
		t.Fatal(err)
	}
	watcher.look()
	now, _ := watcher.table.Now()
	if s.isCut.Load() || s.deadline.Sub(now) < answering-time.Second || s.deadline.Sub(now) > answering {
		t.Fatal(s.deadline.Sub(now))
	}
	s.answerBy, s.deadline, watcher.nearest = time.Now(), now, now
	watcher.look()
	if !s.isCut.Load() || s.cutBy.Cause != Logout {
		t.Fatal(s.cutBy)
	}
	watcher.remove(s)
	watcher.timer.Stop()
}

func TestAnEndThatFailsIsNoneToBeAnswered(t *testing.T) {
	_, _, s := watched(t, Policy{Idle: time.Hour})
	if err := s.endItself(99); err == nil || s.endsItself {
		t.Fatal(err)
	}
}

type deadlines struct {
	http.ResponseWriter
	read []time.Time
}

func (d *deadlines) SetReadDeadline(by time.Time) error {
	d.read = append(d.read, by)
	return nil
}

func TestAHandlerHasItsTimeThoughTheTableChangesMeanwhile(t *testing.T) {
	table, watcher, s := watched(t, Policy{Idle: time.Hour})
	to := &deadlines{ResponseWriter: httptest.NewRecorder()}
	s.to = to
	watcher.add(s)
	if err := table.End(s.watch.Key(), Revoked, Now); err != nil {
		t.Fatal(err)
	}
	watcher.look()
	s.cutAt = time.Now() // however long that took
	watcher.changes--
	watcher.look()
	if !s.isCut.Load() || len(to.read) > 0 {
		t.Fatal(to.read)
	}
	s.cutAt = time.Now().Add(-patience)
	watcher.changes--
	watcher.look()
	if len(to.read) != 1 || to.read[0].After(time.Now()) {
		t.Fatal(to.read)
	}
	watcher.remove(s)
	watcher.timer.Stop()
}

type counting struct {
	http.ResponseWriter
	pieces []int64
}

func (c *counting) ReadFrom(source io.Reader) (int64, error) {
	count, err := io.Copy(io.Discard, source)
	c.pieces = append(c.pieces, count)
	return count, err
}

func TestAFileIsPassedOnInPiecesAndNotFurtherThanAsked(t *testing.T) {
	_, _, s := watched(t, Policy{Idle: time.Hour})
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(5*piece + 7); err != nil {
		t.Fatal(err)
	}
	to := &counting{ResponseWriter: httptest.NewRecorder()}
	r := &response{}
	r.watcher, r.to, r.request, r.watch = s.watcher, to, s.request, s.watch
	limited := &io.LimitedReader{R: file, N: 2*piece + 5}
	if total, err := r.readFrom(to, limited); total != 2*piece+5 || err != nil || limited.N != 0 {
		t.Fatal(total, err, limited.N)
	}
	if total, err := r.readFrom(to, file); total != 3*piece+2 || err != nil {
		t.Fatal(total, err)
	}
	if want := []int64{piece, piece, 5, piece, piece, piece, 2}; fmt.Sprint(to.pieces) != fmt.Sprint(want) {
		t.Fatal(to.pieces)
	}
	if r.sent.Load() != 5*piece+7 {
		t.Fatal(r.sent.Load())
	}
	r.isCut.Store(true)
	if total, err := r.readFrom(to, file); total != 0 || err != ErrSessionEnded {
		t.Fatal(total, err)
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
