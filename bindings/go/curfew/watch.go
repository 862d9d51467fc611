package curfew

/*
#include <curfew.h>

typedef struct { curfew_status status; curfew_watch watch; curfew_verdict verdict; } watched;

// By value there and back, as in table.go.
static inline watched ask(curfew_table table, curfew_key key, curfew_binding binding, curfew_tick now, int counts) {
  watched answer = { CURFEW_OK, curfew_watch_init(key, binding), curfew_verdict_init() };
  if (now == UINT64_MAX) answer.status = curfew_now(table, &now);
  if (answer.status == CURFEW_OK)
    answer.status = (counts ? curfew_touch_watched : curfew_peek_watched)(table, &answer.watch, now, &answer.verdict);
  return answer;
}

static inline curfew_status cut(curfew_table table, curfew_key key, curfew_binding binding, uint32_t cause, uint64_t bytes, curfew_tick now) {
  curfew_watch watch = curfew_watch_init(key, binding);
  curfew_status status = now == UINT64_MAX ? curfew_now(table, &now) : CURFEW_OK;
  return status == CURFEW_OK ? curfew_report_cut(table, &watch, cause, bytes, now) : status;
}

typedef struct { curfew_status status; uint64_t changes; } changed;

static inline changed changes(curfew_table table) {
  changed answer = { CURFEW_OK, 0 };
  answer.status = curfew_changes(table, &answer.changes);
  return answer;
}
*/
import "C"

// Changes gives a number that is another one whenever a session was ended on record, got a new key, or had its policy
// changed since it was read last, by whichever process. Read it before asking about what is open; then who sees it
// unchanged the next time has missed nothing. A deadline that has passed is on record only once some Advance has come
// by it, so mind the nearest EndLeft as well.
func (t *Table) Changes() (uint64, error) {
	answer := C.changes(t.handle)
	return uint64(answer.changes), refusal("changes", answer.status)
}

// Watch follows a session that something is open of, such as a WebSocket or a download, through rotations. [Handler]
// does this for everything that it lets through. One goroutine at a time may use a Watch; there is nothing to close.
type Watch struct {
	table   *Table
	key     Key
	binding Binding
}

// Watch gives a Watch of the session with this key. Presented is what the request proved to have, as in Touch.
func (t *Table) Watch(key Key, presented Binding) Watch { return Watch{t, key, presented} }

// Key gives the session's key, as of the last time it was asked about.
func (w *Watch) Key() Key { return w.key }

// Peek answers about the session as [Table.Peek] would, under whatever key it has now. What is open is to be cut when
// the state is Ended, or Unknown: ended, and not remembered any longer.
func (w *Watch) Peek(now Tick) (Verdict, error) { return w.ask("peek watched", now, 0) }

// Touch counts as activity of the session, such as bytes that came from the client, and answers as [Table.Touch] would.
func (w *Watch) Touch(now Tick) (Verdict, error) { return w.ask("touch watched", now, 1) }

func (w *Watch) ask(op string, now Tick, counts C.int) (Verdict, error) {
	answer := C.ask(w.table.handle, w.key.c(), C.curfew_binding(w.binding), C.curfew_tick(now), counts)
	if answer.status != C.CURFEW_OK {
		return Verdict{}, refusal(op, answer.status)
	}
	w.key = keyOf(answer.watch.key)
	return verdictOf(&answer.verdict), nil
}

// How often a session may get a new key, by others, while it is given one or ended.
const tries = 16

// Ends the session, under whatever key it has by then.
func (w *Watch) end(cause Cause) error {
	_, _ = w.Peek(Now) // for its key
	for nth := 1; ; nth++ {
		err := w.table.End(w.key, cause, Now)
		if nth == tries || !isOver(err) {
			return err
		}
		// An old key that does not answer any more has ended as well.
		if verdict, failed := w.Peek(Now); failed != nil || verdict.isOver() {
			return err
		}
	}
}

// Cut reports that what was open of the session, which has ended for this cause, was cut off after so many bytes were
// sent to the client: one [EventCut] for those who read events. It changes nothing else.
func (w *Watch) Cut(cause Cause, bytes uint64, now Tick) error {
	return refusal("cut", C.cut(w.table.handle, w.key.c(), C.curfew_binding(w.binding), C.uint32_t(cause), C.uint64_t(bytes), C.curfew_tick(now)))
}
