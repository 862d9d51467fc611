package curfew

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A watcher ends what is open of sessions that have ended. While anything is, it looks every so often, and costs a few
// calls if nothing has happened; it asks about sessions only when the table has changed or a deadline has come. It is a
// timer, which is not set when nothing is open.
type watcher struct {
	table *Table
	every time.Duration

	mu      sync.Mutex
	first   *stream // the new ones are at the front
	timer   *time.Timer
	isArmed bool

	// Of the timer's function alone, which does not overlap with itself.
	changes uint64
	nearest Tick
	batch   []*stream
}

// How long a handler has, after its context was cancelled, until the reads and writes it may hang in are broken off.
const patience = 100 * time.Millisecond

// How long the answer of a request that has ended its own session may take.
const answering = 10 * time.Second

// What a request has open: its response and its body, or the connection that was taken over from the server.
type stream struct {
	watcher *watcher
	to      http.ResponseWriter
	request *http.Request
	counts  StreamActivity
	cancel  context.CancelFunc
	sent    atomic.Int64 // bytes, to the client
	isCut   atomic.Bool

	mu         sync.Mutex
	watch      Watch
	cutBy      Verdict
	cutAt      time.Time
	isBroken   bool // what a handler hung in was broken off
	touched    time.Duration
	conn       net.Conn // if it was taken over
	isDone     bool     // nothing is open any more
	endsItself bool     // and is answered all the same
	answerBy   time.Time
	// What will have ended it from when on, as of the last answer. A session that has reached its lifetime may be
	// forgotten at once, and does not say so then.
	due   Cause
	dueAt Tick

	// Under the watcher's lock.
	next, previous  *stream
	isListed, isNew bool

	// Of the timer's function.
	deadline Tick
	isAsked  bool
}

func (w *watcher) add(s *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The session may have ended since it was touched, and the timer have seen that change already.
	s.isListed, s.isNew = true, true
	if s.next = w.first; s.next != nil {
		s.next.previous = s
	}
	w.first = s
	if w.isArmed {
		return
	}
	w.isArmed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(w.every, w.look)
	} else {
		w.timer.Reset(w.every)
	}
}

func (w *watcher) remove(s *stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.isListed {
		return
	}
	s.isListed = false
	if s.next != nil {
		s.next.previous = s.previous
	}
	if s.previous != nil {
		s.previous.next = s.next
	} else {
		w.first = s.next
	}
	s.next, s.previous = nil, nil
}

// The timer's function.
func (w *watcher) look() {
	now, changes, err := w.read()
	hasChanged := err != nil || changes != w.changes
	w.changes = changes
	isAll := hasChanged || now >= w.nearest
	if isAll {
		w.nearest = Never
	}
	w.mu.Lock()
	for s := w.first; s != nil && (isAll || s.isNew); s = s.next {
		s.isAsked, s.isNew = hasChanged || s.isNew, false
		w.batch = append(w.batch, s)
	}
	w.mu.Unlock()
	for nth, s := range w.batch {
		if s.isAsked || now >= s.deadline {
			s.deadline = s.ask(now)
		}
		if s.deadline < w.nearest {
			w.nearest = s.deadline
		}
		w.batch[nth] = nil
	}
	w.batch = w.batch[:0]

	sleep := w.nearest.Sub(now)
	if sleep > w.every {
		sleep = w.every
	}
	if sleep < time.Millisecond {
		sleep = time.Millisecond
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.isArmed, w.batch = false, nil
		return
	}
	w.timer.Reset(sleep)
}

// Also does some of what is due: an end that a re-authentication has brought nearer is on nobody's list but the
// table's own.
func (w *watcher) read() (now Tick, changes uint64, err error) {
	if now, err = w.table.Now(); err != nil {
		return 0, 0, err
	}
	due, err := w.table.NextDue()
	if err == nil && due <= now {
		_, err = w.table.Advance(now, budget)
	}
	if err == nil {
		changes, err = w.table.Changes()
	}
	return now, changes, err
}

// Asks about the session, and cuts what is open of it if it is over. Says when to ask again in any case.
func (s *stream) ask(now Tick) Tick {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDone {
		return Never
	}
	if s.isCut.Load() {
		if rest := patience - time.Since(s.cutAt); rest > 0 {
			return now.Add(rest)
		}
		s.breakOff(time.Unix(1, 0))
		s.isBroken = true
		return Never
	}
	if s.endsItself {
		if s.answerBy.IsZero() {
			s.answerBy = time.Now().Add(answering)
		}
		if rest := time.Until(s.answerBy); rest > 0 {
			return now.Add(rest)
		}
	}
	verdict, err := s.watch.Peek(now)
	switch {
	case err != nil || verdict.isOver():
		s.cut(verdict)
		return now.Add(patience)
	case verdict.State == Mismatch: // it does not say when it ends
		return now.Add(s.watcher.every)
	}
	s.due, s.dueAt = verdict.due(), now.Add(verdict.EndLeft)
	return s.dueAt
}

// With the lock held. Nothing was decided if there is a table no longer, and nobody to tell of it.
func (s *stream) cut(verdict Verdict) {
	if verdict.State == Unknown {
		verdict.Cause = Evicted
		if now, _ := s.watch.table.Now(); now >= s.dueAt {
			verdict.State, verdict.Cause = Ended, s.due
		}
	}
	s.cutBy, s.cutAt = verdict, time.Now()
	s.isCut.Store(true)
	_ = s.watch.Cut(verdict.Cause, uint64(s.sent.Load()), Now)
	s.cancel()
	if s.conn != nil {
		go s.conn.Close() // one with TLS waits for its client
	}
}

var began = time.Now()

func (s *stream) touch() {
	// Milliseconds are all that a session's time has.
	since := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isDone || s.endsItself || s.isCut.Load() || since-s.touched < time.Millisecond {
		return
	}
	s.touched = since
	if verdict, err := s.watch.Touch(Now); err != nil || verdict.isOver() {
		s.cut(verdict)
	}
}

// After bytes have come from the client. They are not passed on when the session is over.
func (s *stream) received(count int, err error) (int, error) {
	if count > 0 && s.counts != StreamOff {
		s.touch()
	}
	if s.isCut.Load() {
		return 0, ErrSessionEnded
	}
	return count, err
}

// After bytes have gone to the client.
func (s *stream) wrote(count int64) {
	if count <= 0 {
		return
	}
	s.sent.Add(count)
	if s.counts == StreamBoth {
		s.touch()
	}
}

// The handler has returned. A connection that it has taken over goes on.
func (s *stream) returned() {
	s.mu.Lock()
	isOpen := s.conn != nil
	s.isDone = s.isDone || !isOpen
	s.mu.Unlock()
	if !isOpen {
		s.watcher.remove(s)
	}
	s.cancel()
}

// The connection was closed by whoever has taken it over.
func (s *stream) closed() {
	s.mu.Lock()
	s.isDone = true
	s.mu.Unlock()
	s.watcher.remove(s)
}

// Lets the request that ends its own session have its answer.
func (s *stream) endItself(cause Cause) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.watch.end(cause)
	s.endsItself = s.endsItself || err == nil && s.conn == nil
	return err
}

// How the session is by now, and its key.
func (s *stream) now() (Key, Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	verdict, err := s.watch.Peek(Now)
	return s.watch.Key(), verdict, err
}

func (s *stream) takeOver(conn net.Conn) error {
	s.mu.Lock()
	s.conn = conn
	if s.endsItself && !s.isCut.Load() { // a connection is no answer
		s.endsItself = false
		if verdict, err := s.watch.Peek(Now); err != nil || verdict.isOver() {
			s.cut(verdict)
		}
	}
	isCut := s.isCut.Load()
	s.mu.Unlock()
	if isCut {
		conn.Close()
		s.closed()
		return ErrSessionEnded
	}
	return nil
}

type connKey struct{}

// ConnContext is for [http.Server.ConnContext]. With it a handler of HTTP/1.1 that hangs in a read or a write, because its
// client has stopped to send or to take anything, is freed when its session ends. From Go 1.20 on that needs no help, and
// goes for HTTP/2 as well.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// Breaks off the read or write that a handler hangs in, if that can be, by a time that is over; by none, it lets
// reads and writes be as before. With the lock held, or when the handler has returned.
func (s *stream) breakOff(by time.Time) {
	if s.conn != nil {
		return
	}
	if able, ok := find[interface{ SetReadDeadline(time.Time) error }](s.to); ok {
		_ = able.SetReadDeadline(by)
		if able, ok := find[interface{ SetWriteDeadline(time.Time) error }](s.to); ok {
			_ = able.SetWriteDeadline(by)
		}
	} else if conn, ok := s.request.Context().Value(connKey{}).(net.Conn); ok && s.request.ProtoMajor == 1 {
		_ = conn.SetDeadline(by)
	}
}
