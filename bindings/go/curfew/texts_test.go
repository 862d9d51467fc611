package curfew_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"curfew"
)

func TestATextWithANULIsNotTakenForItsBeginning(t *testing.T) {
	table, staff := newTable(t, 10)
	was := must[curfew.Policy](t)(table.Policy(staff))
	_, set := table.SetPolicy("staff\x00guest", curfew.Policy{Idle: time.Second}, curfew.Now)
	_, find := table.FindPolicy("staff\x00guest")
	for nth, err := range []error{set, find} {
		if !errors.Is(err, curfew.ErrBadName) {
			t.Errorf("%d: %v", nth, err)
		}
	}
	if is := must[curfew.Policy](t)(table.Policy(staff)); is != was {
		t.Fatalf("%+v", is)
	}

	dir := t.TempDir()
	there, saved, cut := filepath.Join(dir, "there"), filepath.Join(dir, "saved"), filepath.Join(dir, "cut")
	check(t, must[*curfew.Table](t)(curfew.Create(there, curfew.Config{Capacity: 10})).Close())
	must[curfew.Snapshotted](t)(table.Snapshot(saved))
	config, options := curfew.Config{Capacity: 10}, curfew.RestoreOptions{Downtime: time.Second}
	for name, how := range map[string]func() (*curfew.Table, error){
		"create":         func() (*curfew.Table, error) { return curfew.Create(cut+"\x00", config) },
		"open":           func() (*curfew.Table, error) { return curfew.Open(there + "\x00.old") },
		"open or create": func() (*curfew.Table, error) { return curfew.OpenOrCreate(there+"\x00.old", config) },
		"snapshot": func() (*curfew.Table, error) {
			_, err := table.Snapshot(cut + "\x00")
			return nil, err
		},
		"restore into": func() (*curfew.Table, error) {
			table, _, err := curfew.Restore(saved, cut+"\x00", options)
			return table, err
		},
		"restore from": func() (*curfew.Table, error) {
			table, _, err := curfew.Restore(saved+"\x00", cut, options)
			return table, err
		},
		"restore private": func() (*curfew.Table, error) {
			table, _, err := curfew.RestorePrivate(saved+"\x00", options)
			return table, err
		},
	} {
		table, err := how()
		if !errors.Is(err, curfew.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if table != nil {
			check(t, table.Close())
		}
		if _, err := os.Stat(cut); err == nil {
			t.Fatalf("%s: it has made a file", name)
		}
	}
}
