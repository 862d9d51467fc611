package curfew

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"
)

// What a ResponseWriter may be able to do besides. Handlers ask for it by interface, so what wraps one must be able to
// do just as much, and no more.
type (
	flusher    struct{ r *response }
	hijacker   struct{ r *response }
	readerFrom struct{ r *response }
	pusher     struct{ r *response }
	notifier   struct{ r *response }
)

func (f flusher) Flush() { _ = f.FlushError() }

func (f flusher) FlushError() error { return f.r.flush(f.r.to.(http.Flusher)) }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.r.hijack(h.r.to.(http.Hijacker))
}

func (f readerFrom) ReadFrom(source io.Reader) (int64, error) {
	return f.r.readFrom(f.r.to.(io.ReaderFrom), source)
}

func (p pusher) Push(target string, options *http.PushOptions) error {
	return p.r.to.(http.Pusher).Push(target, options)
}

func (n notifier) CloseNotify() <-chan bool { return n.r.to.(http.CloseNotifier).CloseNotify() }

const (
	canFlusher = 1 << iota
	canHijacker
	canReaderFrom
	canPusher
	canNotifier
)

func abilities(w http.ResponseWriter) (can int) {
	if _, ok := w.(http.Flusher); ok {
		can |= canFlusher
	}
	if _, ok := w.(http.Hijacker); ok {
		can |= canHijacker
	}
	if _, ok := w.(io.ReaderFrom); ok {
		can |= canReaderFrom
	}
	if _, ok := w.(http.Pusher); ok {
		can |= canPusher
	}
	if _, ok := w.(http.CloseNotifier); ok {
		can |= canNotifier
	}
	return can
}

// The response as a ResponseWriter that can do what the one beneath can. CloseNotifier, which is deprecated, goes with
// net/http's own two.
func (r *response) wrapped() http.ResponseWriter {
	f, h, rf, p, n := flusher{r}, hijacker{r}, readerFrom{r}, pusher{r}, notifier{r}
	can := abilities(r.to)
	switch can {
	case canFlusher | canHijacker | canReaderFrom | canNotifier, canFlusher | canPusher | canNotifier:
	default:
		can &^= canNotifier
	}
	switch can {
	case canFlusher:
		return struct {
			*response
			flusher
		}{r, f}
	case canHijacker:
		return struct {
			*response
			hijacker
		}{r, h}
	case canFlusher | canHijacker:
		return struct {
			*response
			flusher
			hijacker
		}{r, f, h}
	case canReaderFrom:
		return struct {
			*response
			readerFrom
		}{r, rf}
	case canFlusher | canReaderFrom:
		return struct {
			*response
			flusher
			readerFrom
		}{r, f, rf}
	case canHijacker | canReaderFrom:
		return struct {
			*response
			hijacker
			readerFrom
		}{r, h, rf}
	case canFlusher | canHijacker | canReaderFrom:
		return struct {
			*response
			flusher
			hijacker
			readerFrom
		}{r, f, h, rf}
	case canPusher:
		return struct {
			*response
			pusher
		}{r, p}
	case canFlusher | canPusher:
		return struct {
			*response
			flusher
			pusher
		}{r, f, p}
	case canHijacker | canPusher:
		return struct {
			*response
			hijacker
			pusher
		}{r, h, p}
	case canFlusher | canHijacker | canPusher:
		return struct {
			*response
			flusher
			hijacker
			pusher
		}{r, f, h, p}
	case canReaderFrom | canPusher:
		return struct {
			*response
			readerFrom
			pusher
		}{r, rf, p}
	case canFlusher | canReaderFrom | canPusher:
		return struct {
			*response
			flusher
			readerFrom
			pusher
		}{r, f, rf, p}
	case canHijacker | canReaderFrom | canPusher:
		return struct {
			*response
			hijacker
			readerFrom
			pusher
		}{r, h, rf, p}
	case canFlusher | canHijacker | canReaderFrom | canPusher:
		return struct {
			*response
			flusher
			hijacker
			readerFrom
			pusher
		}{r, f, h, rf, p}
	case canFlusher | canHijacker | canReaderFrom | canNotifier:
		return struct {
			*response
			flusher
			hijacker
			readerFrom
			notifier
		}{r, f, h, rf, n}
	case canFlusher | canPusher | canNotifier:
		return struct {
			*response
			flusher
			pusher
			notifier
		}{r, f, p, n}
	}
	return r
}

// What http.ResponseController finds behind a response: everything that there is further down, and it is cut as well.
type beneath struct{ r *response }

func (b beneath) Header() http.Header            { return b.r.Header() }
func (b beneath) Write(from []byte) (int, error) { return b.r.Write(from) }
func (b beneath) WriteHeader(status int)         { b.r.WriteHeader(status) }

func (b beneath) FlushError() error {
	if able, ok := find[http.Flusher](b.r.to); ok {
		return b.r.flush(able)
	}
	return http.ErrNotSupported
}

func (b beneath) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if able, ok := find[http.Hijacker](b.r.to); ok {
		return b.r.hijack(able)
	}
	return nil, nil, http.ErrNotSupported
}

func (b beneath) SetReadDeadline(deadline time.Time) error {
	if able, ok := find[interface{ SetReadDeadline(time.Time) error }](b.r.to); ok {
		return able.SetReadDeadline(deadline)
	}
	return http.ErrNotSupported
}

func (b beneath) SetWriteDeadline(deadline time.Time) error {
	if able, ok := find[interface{ SetWriteDeadline(time.Time) error }](b.r.to); ok {
		return able.SetWriteDeadline(deadline)
	}
	return http.ErrNotSupported
}

func (b beneath) EnableFullDuplex() error {
	if able, ok := find[interface{ EnableFullDuplex() error }](b.r.to); ok {
		return able.EnableFullDuplex()
	}
	return http.ErrNotSupported
}

// The first of a chain of ResponseWriters that can do what is asked for.
func find[T any](w http.ResponseWriter) (found T, ok bool) {
	for {
		if found, ok = w.(T); ok {
			return found, true
		}
		next, wraps := w.(interface{ Unwrap() http.ResponseWriter })
		if !wraps {
			return found, false
		}
		w = next.Unwrap()
	}
}
