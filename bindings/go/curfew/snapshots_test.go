package curfew_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"curfew"
)

func restored(t *testing.T) func(*curfew.Table, curfew.Restored, error) (*curfew.Table, curfew.Restored) {
	return func(table *curfew.Table, what curfew.Restored, err error) (*curfew.Table, curfew.Restored) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { check(t, table.Close()) })
		return table, what
	}
}

func TestASnapshotBringsSessionsBackWithTheDowntimeCounted(t *testing.T) {
	table, staff := newTable(t, 100)
	file := filepath.Join(t.TempDir(), "app.snapshot")
	live := started(t, table, curfew.Start{Policy: staff}, "live")
	ended := started(t, table, curfew.Start{Policy: staff}, "ended")
	check(t, table.End(ended, curfew.Revoked, t0))
	written := must[curfew.Snapshotted](t)(table.Snapshot(file))
	size := must[os.FileInfo](t)(os.Stat(file))
	if written != (curfew.Snapshotted{Live: 1, Ended: 1, Bytes: uint64(size.Size())}) || size.Mode() != 0o600 {
		t.Fatal(written, size.Mode())
	}

	back, what := restored(t)(curfew.RestorePrivate(file, curfew.RestoreOptions{Capacity: 500, Downtime: 10 * time.Minute}))
	if what.Live != 1 || what.Ended != 1 || what.Over != 0 || what.Downtime != 10*time.Minute {
		t.Fatalf("%+v", what)
	}
	if must[curfew.Key](t)(back.Key("live")) != live {
		t.Fatal("another key")
	}
	verdict := must[curfew.Verdict](t)(back.Peek(live, 0, what.Now))
	if !verdict.Passes || verdict.IdleLeft != t0.Add(15*time.Minute).Sub(what.Now) || verdict.IdleLeft > 6*time.Minute {
		t.Fatalf("%+v", verdict)
	}
	if verdict := touch(t, back, ended, what.Now); verdict.Cause != curfew.Revoked || verdict.Passes {
		t.Fatal(verdict)
	}
	if stats := must[curfew.Stats](t)(back.Stats()); stats.Capacity != 500 {
		t.Fatalf("%+v", stats)
	}

	back, what = restored(t)(curfew.RestorePrivate(file, curfew.RestoreOptions{Downtime: time.Hour}))
	if what.Live != 0 || what.Over != 1 {
		t.Fatalf("%+v", what)
	}
	events := must[*curfew.Events](t)(back.NewEvents())
	must[bool](t)(back.Advance(what.Now, 1000))
	reported := must[[]curfew.Event](t)(events.Read())
	if len(reported) != 1 || reported[0].Key != live || reported[0].At != t0.Add(15*time.Minute) {
		t.Fatal(reported)
	}
	check(t, back.Check())
}

func TestARestoredRegionFileIsSharedAndNeverReplacesAnother(t *testing.T) {
	directory := t.TempDir()
	region, file := filepath.Join(directory, "app.region"), filepath.Join(directory, "app.snapshot")
	table := must[*curfew.Table](t)(curfew.Create(region, curfew.Config{Capacity: 10}))
	policy := must[curfew.PolicyID](t)(table.SetPolicy("staff", curfew.Policy{Idle: time.Hour}, curfew.Now))
	key := must[curfew.Key](t)(table.Key("id"))
	must[int](t)(table.Start(key, curfew.Start{Policy: policy}, curfew.Now))
	must[curfew.Snapshotted](t)(table.Snapshot(file))

	if _, err := table.Snapshot(region); !errors.Is(err, curfew.ErrExists) {
		t.Fatal(err)
	}
	_, _, err := curfew.Restore(file, region, curfew.RestoreOptions{})
	if !errors.Is(err, curfew.ErrExists) || !errors.Is(err, fs.ErrExist) || !touch(t, table, key, curfew.Now).Passes {
		t.Fatal(err)
	}
	check(t, table.Close())
	check(t, os.Remove(region))
	first, what := restored(t)(curfew.Restore(file, region, curfew.RestoreOptions{Capacity: 5000}))
	if what.Live != 1 {
		t.Fatalf("%+v", what)
	}
	second := must[*curfew.Table](t)(curfew.Open(region))
	defer second.Close()
	if !touch(t, second, key, curfew.Now).Passes {
		t.Fatal("not there")
	}
	check(t, second.End(key, curfew.Logout, curfew.Now))
	if touch(t, first, key, curfew.Now).Passes {
		t.Fatal("two regions")
	}
}

func TestWhatCannotBeRestoredIsToldByName(t *testing.T) {
	table, staff := newTable(t, 100)
	directory := t.TempDir()
	file, region := filepath.Join(directory, "app.snapshot"), filepath.Join(directory, "app.region")
	for i := 0; i < 10; i++ {
		started(t, table, curfew.Start{Policy: staff}, fmt.Sprint(i))
	}
	must[curfew.Snapshotted](t)(table.Snapshot(file))
	whole := must[[]byte](t)(os.ReadFile(file))
	changed := func(at int) []byte {
		bytes := append([]byte(nil), whole...)
		bytes[at] ^= 4
		return bytes
	}
	damaged := func(bytes []byte) string {
		path := filepath.Join(directory, "damaged")
		check(t, os.WriteFile(path, bytes, 0o600))
		return path
	}
	for nth, one := range []struct {
		make    func() string
		options curfew.RestoreOptions
		want    error
	}{
		{func() string { return file + ".none" }, curfew.RestoreOptions{}, curfew.ErrNotFound},
		{func() string { return file + ".none" }, curfew.RestoreOptions{}, fs.ErrNotExist},
		{func() string { return directory }, curfew.RestoreOptions{}, curfew.ErrNotASnapshot},
		{func() string { return damaged(changed(0)) }, curfew.RestoreOptions{}, curfew.ErrNotASnapshot},
		{func() string { return damaged(changed(8)) }, curfew.RestoreOptions{}, curfew.ErrSnapshotVersion},
		{func() string { return damaged(changed(100)) }, curfew.RestoreOptions{}, curfew.ErrSnapshotDamaged},
		{func() string { return damaged(changed(len(whole) - 1)) }, curfew.RestoreOptions{}, curfew.ErrSnapshotDamaged},
		{func() string { return damaged(whole[:len(whole)-1]) }, curfew.RestoreOptions{}, curfew.ErrSnapshotTruncated},
		{func() string { return damaged(nil) }, curfew.RestoreOptions{}, curfew.ErrSnapshotTruncated},
		{func() string { return file }, curfew.RestoreOptions{Capacity: 3}, curfew.ErrFull},
		{func() string { return file }, curfew.RestoreOptions{Capacity: 1 << 60}, curfew.ErrOutOfRange},
		{func() string { return file }, curfew.RestoreOptions{Downtime: -1}, curfew.ErrInvalidArgument},
	} {
		snapshot := one.make()
		back, what, err := curfew.Restore(snapshot, region, one.options)
		if !errors.Is(err, one.want) || back != nil || what != (curfew.Restored{}) {
			t.Errorf("%d: %v is not %v", nth, err, one.want)
		}
		if _, _, err := curfew.RestorePrivate(snapshot, one.options); !errors.Is(err, one.want) {
			t.Errorf("%d: %v is not %v", nth, err, one.want)
		}
		if _, err := os.Lstat(region); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal("there is a region")
		}
	}
	check(t, os.Chmod(file, 0o644))
	if _, _, err := curfew.RestorePrivate(file, curfew.RestoreOptions{}); !errors.Is(err, curfew.ErrUnsafeFile) {
		t.Fatal(err)
	}
}

func TestASnapshotThatCannotBeTakenIsTold(t *testing.T) {
	table, staff := newTable(t, 10)
	key := started(t, table, curfew.Start{Policy: staff}, "id")
	directory := t.TempDir()
	_, err := table.Snapshot(filepath.Join(directory, "none", "app.snapshot"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "curfew: snapshot: ") {
		t.Fatal(err)
	}
	var whole *curfew.Error
	long := filepath.Join(directory, strings.Repeat("long", 100))
	if _, err := table.Snapshot(long); !errors.Is(err, curfew.ErrSystem) || !errors.As(err, &whole) || whole.Errno == 0 {
		t.Fatal(err)
	}
	if _, err := table.Snapshot(directory); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	for now := t0; now < t0.Add(4*time.Hour); now = now.Add(10 * time.Minute) {
		touch(t, table, key, now)
	}
	if _, err := table.Snapshot(filepath.Join(directory, "ahead")); !errors.Is(err, curfew.ErrClocks) {
		t.Fatal(err)
	}
	check(t, table.Close())
	if _, err := table.Snapshot(filepath.Join(directory, "closed")); !errors.Is(err, curfew.ErrClosed) {
		t.Fatal(err)
	}
}

func TestSnapshotsAreTakenWhileOthersWork(t *testing.T) {
	table, staff := newTable(t, 1000)
	there := started(t, table, curfew.Start{Policy: staff}, "there all the time")
	file := filepath.Join(t.TempDir(), "app.snapshot")
	done := make(chan struct{})
	var group sync.WaitGroup
	for worker := 0; worker < 4; worker++ {
		worker := worker
		group.Add(1)
		go func() {
			defer group.Done()
			for round := 0; ; round++ {
				select {
				case <-done:
					return
				default:
				}
				key, err := table.Key(fmt.Sprint(worker, round%50))
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = table.Start(key, curfew.Start{Policy: staff}, t0)
				_, _ = table.Touch(key, 0, t0)
				if round%97 == 0 {
					_ = table.End(key, curfew.Logout, t0)
				}
				if round%64 == 63 {
					time.Sleep(100 * time.Microsecond)
				}
			}
		}()
	}
	for round := 0; round < 10; round++ {
		must[curfew.Snapshotted](t)(table.Snapshot(file))
		back, what := restored(t)(curfew.RestorePrivate(file, curfew.RestoreOptions{}))
		if !touch(t, back, there, what.Now).Passes {
			t.Fatal("lost")
		}
		check(t, back.Check())
	}
	close(done)
	group.Wait()
}
