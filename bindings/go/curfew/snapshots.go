package curfew

// #include <curfew.h>
// #include <stdlib.h>
import "C"

import (
	"time"
	"unsafe"
)

// Snapshotted is what a snapshot holds. When sessions change while it is taken, some are counted twice.
type Snapshotted struct {
	Live    uint64 // sessions that nobody had ended
	Ended   uint64 // ended ones that are still remembered
	Damaged uint64 // records that were left out because nothing can be made of them
	Bytes   uint64 // of the file
}

// Snapshot writes everything that the region holds to a file that outlives the machine's boot, while all others go
// on. The file has mode 0600 and appears whole, in place of the last one, or not at all; what is no snapshot is not
// replaced ([ErrExists]). Take one every few minutes, and when going down; [Restore] is the way back.
//
// It is for tables whose time is [Now]: to one that was used with ticks of another clock it answers [ErrClocks].
func (t *Table) Snapshot(path string) (Snapshotted, error) {
	name, err := textOf("snapshot", path, ErrInvalidArgument)
	if err != nil {
		return Snapshotted{}, err
	}
	defer C.free(unsafe.Pointer(name))
	why, written := C.curfew_error_init(), C.curfew_snapshotted_init()
	status := C.curfew_snapshot(t.handle, name, &why, &written)
	return Snapshotted{
		Live:    uint64(written.live),
		Ended:   uint64(written.ended),
		Damaged: uint64(written.damaged),
		Bytes:   uint64(written.bytes),
	}, explained("snapshot", status, &why)
}

// RestoreOptions is in what a restored region differs from the one before. The zero value: in nothing.
type RestoreOptions struct {
	Capacity  uint64 // sessions it has room for, if not as many as before
	Events    uint64 // events it remembers, if not as many as before
	HugePages bool   // ask for 2 MiB pages
	// How long it was from the snapshot to now, where the clocks cannot tell (ErrClocks) or tell it wrong. What has
	// certainly passed counts in any case. Zero goes by the clocks.
	Downtime time.Duration
}

// Restored is what came back.
type Restored struct {
	Live      uint64        // sessions that go on
	Over      uint64        // those whose time has come meanwhile; the next Advance reports them
	Ended     uint64        // those that had ended before, and are still remembered
	Forgotten uint64        // those that had ended before, and need not be
	Downtime  time.Duration // what counts against every session
	Now       Tick          // the tick that it is now
}

// Restore creates a region file at path with everything that is in a snapshot file, and opens it. The time in between
// counts against every session. The file appears with everything in it or not at all, and never replaces another
// ([ErrExists]): to give a region another size, take a snapshot, close the region everywhere, remove its file, and
// restore.
//
// A snapshot is looked at as a whole before anything of it is used: [ErrNotASnapshot], [ErrSnapshotVersion],
// [ErrSnapshotTruncated], [ErrSnapshotDamaged]. Sessions that were ended after it was taken are alive in it.
func Restore(snapshot, path string, options RestoreOptions) (*Table, Restored, error) {
	region, err := textOf("restore", path, ErrInvalidArgument)
	if err != nil {
		return nil, Restored{}, err
	}
	defer C.free(unsafe.Pointer(region))
	return restore(snapshot, options, func(from *C.char, options *C.curfew_restore_options, why *C.curfew_error,
		restored *C.curfew_restored, table *C.curfew_table) C.curfew_status {
		return C.curfew_restore(from, region, options, why, restored, table)
	})
}

// RestorePrivate does the same into a table for this process alone.
func RestorePrivate(snapshot string, options RestoreOptions) (*Table, Restored, error) {
	return restore(snapshot, options, func(from *C.char, options *C.curfew_restore_options, why *C.curfew_error,
		restored *C.curfew_restored, table *C.curfew_table) C.curfew_status {
		return C.curfew_restore_private(from, options, why, restored, table)
	})
}

func restore(snapshot string, options RestoreOptions, how func(*C.char, *C.curfew_restore_options, *C.curfew_error,
	*C.curfew_restored, *C.curfew_table) C.curfew_status) (*Table, Restored, error) {
	downtime, err := limit(options.Downtime)
	if err != nil {
		return nil, Restored{}, &Error{Op: "restore", Status: ErrInvalidArgument, Message: "the downtime is negative"}
	}
	from, err := textOf("restore", snapshot, ErrInvalidArgument)
	if err != nil {
		return nil, Restored{}, err
	}
	defer C.free(unsafe.Pointer(from))
	choices := C.curfew_restore_options_init()
	choices.capacity = C.uint64_t(options.Capacity)
	choices.events = C.uint64_t(options.Events)
	choices.downtime_ms = downtime
	if options.HugePages {
		choices.flags |= C.CURFEW_HUGE_PAGES
	}
	why, restored := C.curfew_error_init(), C.curfew_restored_init()
	table := new(Table)
	if err := explained("restore", how(from, &choices, &why, &restored, &table.handle), &why); err != nil {
		return nil, Restored{}, err
	}
	return table, Restored{
		Live:      uint64(restored.live),
		Over:      uint64(restored.over),
		Ended:     uint64(restored.ended),
		Forgotten: uint64(restored.forgotten),
		Downtime:  duration(uint64(restored.downtime_ms)),
		Now:       Tick(restored.now),
	}, nil
}
