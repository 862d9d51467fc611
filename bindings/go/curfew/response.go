package curfew

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// A response that is cut when its session ends. Whatever the server's own can do besides, this one can as well (wrapped).
type response struct {
	stream
	judgement
	body        *body       // nil if there is none
	before      http.Header // what was set in front of the handler
	wroteHeader bool
	isRefused   bool // something was to be written after the cut
}

func (r *response) serve(next http.Handler, judged judgement) {
	ctx := context.WithValue(r.request.Context(), contextKey{}, &r.judgement)
	ctx, r.cancel = context.WithCancel(ctx)
	r.judgement = judged
	r.judgement.stream = &r.stream
	r.watch = judged.table.Watch(judged.key, judged.binding)
	r.due, r.dueAt = judged.verdict.due(), Never
	if judged.verdict.EndLeft < 2*r.watcher.every { // before it is asked again
		r.dueAt = 0
	}
	request := r.request.WithContext(ctx)
	if r.request.Body != nil && r.request.Body != http.NoBody {
		r.touched = time.Since(began)
		r.body = &body{ReadCloser: r.request.Body, stream: &r.stream}
		request.Body = r.body
	}
	if header := r.to.Header(); len(header) > 0 {
		r.before = header.Clone()
	}
	r.watcher.add(&r.stream)
	defer r.returned()
	serve(next, r.wrapped(), request, r.request)
}

// Ends a response that was cut while the handler was at it, so that the client does not take it for a whole one.
func (r *response) endCut(denied http.Handler) {
	if !r.isCut.Load() || r.conn != nil {
		return
	}
	// The server would wait for the rest of it, and for as long as the client likes.
	isSending := r.body != nil && !r.body.isWhole.Load() && r.request.ProtoMajor == 1
	if r.wroteHeader {
		if r.isRefused || isSending {
			if form := r.request.MultipartForm; form != nil { // after a panic the server does not
				_ = form.RemoveAll()
			}
			panic(http.ErrAbortHandler)
		}
		return
	}
	if r.isBroken {
		r.breakOff(time.Time{})
	}
	// What the handler wanted to say is not said.
	header := r.to.Header()
	for name := range header {
		delete(header, name)
	}
	for name, values := range r.before {
		header[name] = values
	}
	if isSending {
		header.Set("Connection", "close")
	}
	judged := r.judgement
	judged.verdict = r.cutBy
	its := r.request.WithContext(context.WithValue(r.request.Context(), contextKey{}, &judged))
	serve(denied, r.to, its, r.request)
}

func (r *response) refuse() error {
	r.isRefused = true
	return ErrSessionEnded
}

func (r *response) Header() http.Header { return r.to.Header() }

func (r *response) WriteHeader(status int) {
	if r.isCut.Load() && !r.wroteHeader {
		_ = r.refuse()
		return
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.wroteHeader = true
	}
	r.to.WriteHeader(status)
}

func (r *response) Write(from []byte) (int, error) {
	if r.isCut.Load() {
		return 0, r.refuse()
	}
	r.wroteHeader = true
	count, err := r.to.Write(from)
	r.wrote(int64(count))
	return count, err
}

func (r *response) WriteString(from string) (int, error) {
	if r.isCut.Load() {
		return 0, r.refuse()
	}
	r.wroteHeader = true
	count, err := io.WriteString(r.to, from)
	r.wrote(int64(count))
	return count, err
}

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return beneath{r} }

func (r *response) flush(to http.Flusher) error {
	if r.isCut.Load() {
		return r.refuse()
	}
	r.wroteHeader = true
	if able, ok := to.(interface{ FlushError() error }); ok {
		return able.FlushError()
	}
	to.Flush()
	return nil
}

func (r *response) hijack(from http.Hijacker) (net.Conn, *bufio.ReadWriter, error) {
	if r.isCut.Load() {
		return nil, nil, r.refuse()
	}
	conn, both, err := from.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := r.takeOver(conn); err != nil {
		return nil, nil, err
	}
	var own net.Conn = &connection{conn, &r.stream}
	if half, ok := conn.(halfCloser); ok {
		own = struct {
			net.Conn
			halfCloser
		}{own, half}
	}
	// The server's own buffers would go round this connection. What the client has sent already stays buffered.
	already, _ := both.Reader.Peek(both.Reader.Buffered())
	reader := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(append([]byte(nil), already...)), own), both.Reader.Size())
	_, _ = reader.Peek(len(already))
	return own, bufio.NewReadWriter(reader, bufio.NewWriterSize(own, both.Writer.Size())), nil
}

type halfCloser interface{ CloseWrite() error }

// A connection that was taken over from the server. The watcher closes the one beneath.
type connection struct {
	net.Conn
	stream *stream
}

func (c *connection) Read(to []byte) (int, error) { return c.stream.received(c.Conn.Read(to)) }

func (c *connection) Write(from []byte) (int, error) {
	count, err := c.Conn.Write(from)
	c.stream.wrote(int64(count))
	return count, err
}

func (c *connection) Close() error {
	c.stream.closed()
	return c.Conn.Close()
}

// What a client sends as the body of its request.
type body struct {
	io.ReadCloser
	stream  *stream
	isWhole atomic.Bool
}

func (b *body) Read(to []byte) (int, error) {
	count, err := b.ReadCloser.Read(to)
	if err == io.EOF {
		b.isWhole.Store(true)
	}
	return b.stream.received(count, err)
}

// Bytes of a file that the server passes on by itself between two looks at whether the session goes on.
const piece = 256 << 10

func (r *response) readFrom(to io.ReaderFrom, source io.Reader) (total int64, err error) {
	limited, isLimited := source.(*io.LimitedReader)
	from := source
	if isLimited {
		from = limited.R
	}
	// Only files have something to gain. From anything else bytes come when they come.
	if !isRegular(from) {
		return io.Copy(struct{ io.Writer }{r}, source)
	}
	for {
		if r.isCut.Load() {
			return total, r.refuse()
		}
		part := io.LimitedReader{R: from, N: piece}
		if isLimited && limited.N < piece {
			part.N = limited.N
		}
		most := part.N
		r.wroteHeader = true
		count, err := to.ReadFrom(&part)
		total += count
		if isLimited {
			limited.N -= count
		}
		r.wrote(count)
		if err != nil || count < most || isLimited && limited.N <= 0 {
			return total, err
		}
	}
}

func isRegular(from io.Reader) bool {
	file, ok := from.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}
