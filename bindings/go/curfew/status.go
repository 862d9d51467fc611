package curfew

// #include <curfew.h>
import "C"

import (
	"io/fs"
	"syscall"
)

// Status is why the library refused. Statuses are errors, to be compared with errors.Is.
type Status int32

// The statuses that a program may want to tell apart.
const (
	ErrInvalidArgument   Status = C.CURFEW_INVALID_ARGUMENT
	ErrUnsupported       Status = C.CURFEW_UNSUPPORTED
	ErrClosed            Status = C.CURFEW_CLOSED
	ErrForked            Status = C.CURFEW_FORKED
	ErrPanic             Status = C.CURFEW_PANIC
	ErrSystem            Status = C.CURFEW_SYSTEM
	ErrTooManyTables     Status = C.CURFEW_TOO_MANY_TABLES
	ErrExists            Status = C.CURFEW_EXISTS
	ErrNotFound          Status = C.CURFEW_NOT_FOUND
	ErrNoSpace           Status = C.CURFEW_NO_SPACE
	ErrNotARegion        Status = C.CURFEW_NOT_A_REGION
	ErrOtherVersion      Status = C.CURFEW_OTHER_VERSION
	ErrDamaged           Status = C.CURFEW_DAMAGED
	ErrUnsafeFile        Status = C.CURFEW_UNSAFE_FILE
	ErrOtherBoot         Status = C.CURFEW_OTHER_BOOT
	ErrTooManyProcesses  Status = C.CURFEW_TOO_MANY_PROCESSES
	ErrUnfinished        Status = C.CURFEW_UNFINISHED
	ErrOutOfRange        Status = C.CURFEW_OUT_OF_RANGE
	ErrNoLimit           Status = C.CURFEW_NO_LIMIT
	ErrTooLong           Status = C.CURFEW_TOO_LONG
	ErrBadName           Status = C.CURFEW_BAD_NAME
	ErrTooManyPolicies   Status = C.CURFEW_TOO_MANY_POLICIES
	ErrPolicyBusy        Status = C.CURFEW_POLICY_BUSY
	ErrUnknownPolicy     Status = C.CURFEW_UNKNOWN_POLICY
	ErrSessionExists     Status = C.CURFEW_SESSION_EXISTS
	ErrSessionEnded      Status = C.CURFEW_SESSION_ENDED
	ErrFull              Status = C.CURFEW_FULL
	ErrLimited           Status = C.CURFEW_LIMITED
	ErrTokenExpired      Status = C.CURFEW_TOKEN_EXPIRED
	ErrUnknownSession    Status = C.CURFEW_UNKNOWN_SESSION
	ErrRotatedAlready    Status = C.CURFEW_ROTATED_ALREADY
	ErrKeyTaken          Status = C.CURFEW_KEY_TAKEN
	ErrNotASnapshot      Status = C.CURFEW_NOT_A_SNAPSHOT
	ErrSnapshotVersion   Status = C.CURFEW_SNAPSHOT_VERSION
	ErrSnapshotTruncated Status = C.CURFEW_SNAPSHOT_TRUNCATED
	ErrSnapshotDamaged   Status = C.CURFEW_SNAPSHOT_DAMAGED
	ErrClocks            Status = C.CURFEW_CLOCKS
	ErrOverrun           Status = C.CURFEW_OVERRUN
)

// Error says what the status means.
func (s Status) Error() string { return C.GoString(C.curfew_status_text(C.int32_t(s))) }

// String gives the name of the status, such as "session_ended".
func (s Status) String() string { return C.GoString(C.curfew_status_name(C.int32_t(s))) }

// Is lets errors.Is compare with fs.ErrExist and fs.ErrNotExist.
func (s Status) Is(target error) bool {
	return target == fs.ErrExist && s == ErrExists || target == fs.ErrNotExist && s == ErrNotFound
}

// Error is a refusal with what was being done, and words for a person. It wraps its Status.
type Error struct {
	Op      string
	Status  Status
	Message string
	Errno   syscall.Errno // what the system said, or zero
}

func (e *Error) Error() string {
	if e.Message == "" {
		return "curfew: " + e.Op + ": " + e.Status.Error()
	}
	return "curfew: " + e.Op + ": " + e.Message
}

// Unwrap gives the status.
func (e *Error) Unwrap() error { return e.Status }

func refusal(op string, status C.curfew_status) error {
	if status == C.CURFEW_OK {
		return nil
	}
	return &Error{Op: op, Status: Status(status)}
}

func explained(op string, status C.curfew_status, why *C.curfew_error) error {
	if status == C.CURFEW_OK {
		return nil
	}
	return &Error{Op: op, Status: Status(status), Message: C.GoString(&why.message[0]), Errno: syscall.Errno(why.os_error)}
}
