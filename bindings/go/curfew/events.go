package curfew

// #include <curfew.h>
import "C"

import (
	"context"
	"time"
)

// Events reads the events of a table in order, at its own pace. One goroutine at a time may use it.
type Events struct {
	// Cursor is the number of the next event. Keep it to go on from there later, in any process.
	Cursor uint64
	// Missed counts the events that were overwritten before they were read.
	Missed uint64
	table  *Table
	page   [64]C.curfew_event
}

// Events gives a reader that begins with the oldest event that is still there.
func (t *Table) Events() (*Events, error) {
	var oldest C.uint64_t
	status := C.curfew_event_range(t.handle, &oldest, nil)
	return &Events{table: t, Cursor: uint64(oldest)}, refusal("events", status)
}

// NewEvents gives a reader of what happens from now on.
func (t *Table) NewEvents() (*Events, error) {
	var next C.uint64_t
	status := C.curfew_event_range(t.handle, nil, &next)
	return &Events{table: t, Cursor: uint64(next)}, refusal("events", status)
}

// Read gives the next events, at most 64, or none if there are none yet.
func (e *Events) Read() ([]Event, error) {
	cursor, missed := C.uint64_t(e.Cursor), C.uint64_t(0)
	var count C.size_t
	e.page[0].struct_size = C.sizeof_curfew_event
	status := C.curfew_read_events(e.table.handle, &cursor, &e.page[0], C.size_t(len(e.page)), &count, &missed)
	if status != C.CURFEW_OK {
		return nil, refusal("events", status)
	}
	e.Cursor = uint64(cursor)
	e.Missed += uint64(missed)
	events := make([]Event, count)
	for nth := range events {
		events[nth] = eventOf(&e.page[nth])
	}
	return events, nil
}

const (
	// How long Run sleeps at the most: other processes' doings are noticed within this.
	mostSleep = time.Second
	// Units of work that Run does between two looks at its context.
	budget = 10_000
)

// Run keeps a table in order until the context is done: it sleeps until something is due, advances, and calls on,
// if that is not nil, with every event from its beginning on, also those that other processes cause. It returns
// the context's error, or the table's.
//
// Once the context is done, on is not called any more. The events that are left stay in the table: an [Events] whose
// Cursor is one more than the Number of the last that on was called with goes on from there.
func (t *Table) Run(ctx context.Context, on func(Event)) error {
	reader, err := t.NewEvents()
	if err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		more, err := t.Advance(Now, budget)
		if err != nil {
			return err
		}
		for {
			events, err := reader.Read()
			if err != nil {
				return err
			}
			if len(events) == 0 {
				break
			}
			for _, event := range events {
				if err := ctx.Err(); err != nil {
					return err
				}
				if on != nil {
					on(event)
				}
			}
		}
		sleep := time.Duration(0)
		if !more {
			if sleep, err = t.untilDue(); err != nil {
				return err
			}
		}
		timer.Reset(sleep)
	}
}

func (t *Table) untilDue() (time.Duration, error) {
	now, err := t.Now()
	if err != nil {
		return 0, err
	}
	due, err := t.NextDue()
	if err != nil {
		return 0, err
	}
	sleep := due.Sub(now)
	if sleep > mostSleep {
		sleep = mostSleep
	}
	if sleep < time.Millisecond {
		sleep = time.Millisecond
	}
	return sleep, nil
}
