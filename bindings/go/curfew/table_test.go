package curfew_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"curfew"
)

var (
	_ io.Closer    = (*curfew.Table)(nil)
	_ fmt.Stringer = curfew.Key{}
	_ fmt.Stringer = curfew.Verdict{}
	_ fmt.Stringer = curfew.Event{}
	_ fmt.Stringer = curfew.Never
	_ error        = curfew.ErrFull
)

// Ticks of the tests' own.
const t0 curfew.Tick = 1000

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTable(t testing.TB, capacity uint64) (*curfew.Table, curfew.PolicyID) {
	t.Helper()
	table := must[*curfew.Table](t)(curfew.NewPrivate(curfew.Config{Capacity: capacity}))
	t.Cleanup(func() {
		if err := table.Close(); err != nil && !errors.Is(err, curfew.ErrClosed) {
			t.Error(err)
		}
	})
	policy := curfew.Policy{Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}
	return table, must[curfew.PolicyID](t)(table.SetPolicy("staff", policy, t0))
}

func started(t testing.TB, table *curfew.Table, start curfew.Start, id string) curfew.Key {
	t.Helper()
	key := must[curfew.Key](t)(table.Key(id))
	must[int](t)(table.Start(key, start, t0))
	return key
}

func touch(t testing.TB, table *curfew.Table, key curfew.Key, now curfew.Tick) curfew.Verdict {
	t.Helper()
	return must[curfew.Verdict](t)(table.Touch(key, 0, now))
}

func TestASessionLivesAsLongAsItIsUsed(t *testing.T) {
	table, staff := newTable(t, 100)
	key := started(t, table, curfew.Start{Policy: staff}, "id")
	now := t0
	for i := 0; i < 5; i++ {
		now = now.Add(14 * time.Minute)
		verdict := touch(t, table, key, now)
		if !verdict.Passes || verdict.State != curfew.Active || verdict.IdleLeft != 15*time.Minute {
			t.Fatalf("%+v", verdict)
		}
		if verdict.TokenLeft != curfew.Forever || verdict.Age != now.Sub(t0) {
			t.Fatalf("%+v", verdict)
		}
	}
	over := now.Add(15 * time.Minute)
	verdict := touch(t, table, key, over)
	if verdict.Passes || verdict.State != curfew.Ended || verdict.Cause != curfew.Idle || verdict.EndedAt != over {
		t.Fatalf("%+v", verdict)
	}
	if verdict.String() != "ended: idle" {
		t.Fatal(verdict)
	}
}

func TestAPeekIsNoActivity(t *testing.T) {
	table, staff := newTable(t, 100)
	key := started(t, table, curfew.Start{Policy: staff}, "id")
	verdict := must[curfew.Verdict](t)(table.Peek(key, 0, t0.Add(14*time.Minute)))
	if !verdict.Passes || verdict.IdleLeft != time.Minute {
		t.Fatalf("%+v", verdict)
	}
	if touch(t, table, key, t0.Add(15*time.Minute)).Passes {
		t.Fatal("a peek kept it alive")
	}
}

func TestErrorsAreTold(t *testing.T) {
	table, staff := newTable(t, 2)
	key := started(t, table, curfew.Start{Policy: staff}, "id")
	start := func(id string, start curfew.Start) error {
		_, err := table.Start(must[curfew.Key](t)(table.Key(id)), start, t0)
		return err
	}
	_, tooSmall := curfew.NewPrivate(curfew.Config{})
	_, nowhere := curfew.Open("/nowhere/at/all")
	_, negative := table.SetPolicy("x", curfew.Policy{Idle: -1}, t0)
	_, endless := table.SetPolicy("x", curfew.Policy{}, t0)
	_, unnamed := table.FindPolicy("x")
	_, many := table.TouchMany(nil, make([]curfew.Key, 2), make([]curfew.Binding, 1), t0)
	_, noKey := curfew.ParseKey("zz")
	for nth, one := range []struct {
		err  error
		want error
	}{
		{start("id", curfew.Start{Policy: staff}), curfew.ErrSessionExists},
		{start("other", curfew.Start{Policy: 17}), curfew.ErrUnknownPolicy},
		{start("other", curfew.Start{Policy: staff, Expires: time.Unix(1, 0)}), curfew.ErrTokenExpired},
		{start("other", curfew.Start{Policy: staff}), nil},
		{start("third", curfew.Start{Policy: staff}), curfew.ErrFull},
		{tooSmall, curfew.ErrOutOfRange},
		{nowhere, curfew.ErrNotFound},
		{nowhere, fs.ErrNotExist},
		{negative, curfew.ErrInvalidArgument},
		{endless, curfew.ErrNoLimit},
		{unnamed, curfew.ErrUnknownPolicy},
		{many, curfew.ErrInvalidArgument},
		{noKey, curfew.ErrInvalidArgument},
		{table.End(curfew.Key{1}, curfew.Logout, t0), curfew.ErrUnknownSession},
		{table.End(key, 99, t0), curfew.ErrInvalidArgument},
		{table.End(key, curfew.Logout, t0), nil},
		{table.End(key, curfew.Logout, t0), curfew.ErrSessionEnded},
	} {
		if one.want == nil && one.err != nil || one.want != nil && !errors.Is(one.err, one.want) {
			t.Errorf("%d: %v is not %v", nth, one.err, one.want)
		}
	}
	var whole *curfew.Error
	if !errors.As(nowhere, &whole) || whole.Op != "open" || !strings.Contains(whole.Error(), "/nowhere/at/all") || whole.Errno == 0 {
		t.Errorf("%v", nowhere)
	}
	if curfew.ErrFull.String() != "full" || curfew.ErrFull.Error() != "the region is full" {
		t.Error(curfew.ErrFull.String(), curfew.ErrFull)
	}
}

func TestALimitThatIsShorterThanATickDoesNotSwitchItselfOff(t *testing.T) {
	table, _ := newTable(t, 10)
	id := must[curfew.PolicyID](t)(table.SetPolicy("short", curfew.Policy{Idle: time.Microsecond, Retain: -1}, t0))
	policy := must[curfew.Policy](t)(table.Policy(id))
	if policy.Idle != time.Millisecond || policy.Retain >= 0 {
		t.Fatalf("%+v", policy)
	}
	if name := must[string](t)(table.PolicyName(id)); name != "short" {
		t.Fatal(name)
	}
	if found := must[curfew.PolicyID](t)(table.FindPolicy("short")); found != id {
		t.Fatal(found)
	}
}

func TestAPolicySurvivesTheWayThere(t *testing.T) {
	table, _ := newTable(t, 10)
	policy := curfew.Policy{
		Idle: time.Minute, Lifetime: time.Hour, Grace: time.Second, GraceMode: curfew.GraceResume,
		OnMismatch: curfew.MismatchLog, MaxPerSubject: 3, OnLimit: curfew.LimitEndLeastRecent,
		Retain: 5 * time.Second, OnFull: curfew.FullEvictEnded,
	}
	id := must[curfew.PolicyID](t)(table.SetPolicy("all", policy, t0))
	if got := must[curfew.Policy](t)(table.Policy(id)); got != policy {
		t.Fatalf("%+v", got)
	}
}

func TestLimitsBySubjectBindingsAndRotation(t *testing.T) {
	table, _ := newTable(t, 100)
	strict := must[curfew.PolicyID](t)(table.SetPolicy("strict", curfew.Policy{
		Idle: time.Minute, MaxPerSubject: 2, OnLimit: curfew.LimitEndOldest, Grace: time.Minute,
	}, t0))
	alice := must[curfew.Subject](t)(table.Subject("alice"))
	phone := must[curfew.Binding](t)(table.Binding("phone"))
	start := curfew.Start{Policy: strict, Subject: alice, Binding: phone}
	first := started(t, table, start, "1")
	second := started(t, table, start, "2")
	third := must[curfew.Key](t)(table.Key("3"))
	if displaced := must[int](t)(table.Start(third, start, t0+1)); displaced != 1 {
		t.Fatal(displaced)
	}
	if verdict := must[curfew.Verdict](t)(table.Touch(first, phone, t0+1)); verdict.Cause != curfew.Displaced {
		t.Fatal(verdict)
	}
	if verdict := touch(t, table, second, t0+1); verdict.State != curfew.Mismatch || verdict.Passes || !verdict.Mismatch {
		t.Fatal(verdict)
	}
	fourth := must[curfew.Key](t)(table.Key("4"))
	until := must[curfew.Tick](t)(table.Rotate(second, fourth, time.Second, t0+2))
	if until != t0+1002 {
		t.Fatal(until)
	}
	if !must[curfew.Verdict](t)(table.Touch(second, phone, t0+500)).Passes {
		t.Fatal("the old key does not answer")
	}
	if verdict := must[curfew.Verdict](t)(table.Touch(second, phone, t0+1002)); verdict.Cause != curfew.Rotated {
		t.Fatal(verdict)
	}
	inGrace := t0 + 1002 + 60_500
	if verdict := must[curfew.Verdict](t)(table.Touch(fourth, phone, inGrace)); verdict.State != curfew.Grace || verdict.Passes {
		t.Fatal(verdict)
	}
	check(t, table.Reauthenticate(fourth, time.Time{}, inGrace))
	if !must[curfew.Verdict](t)(table.Touch(fourth, phone, inGrace)).Passes {
		t.Fatal("not back")
	}
	sessions := must[[]curfew.Session](t)(table.SessionsOf(alice, inGrace))
	if len(sessions) != 2 || sessions[0].Subject != alice || !sessions[0].Bound {
		t.Fatalf("%+v", sessions)
	}
	if ended := must[uint64](t)(table.EndSubject(alice, curfew.Revoked, inGrace)); ended != 2 {
		t.Fatal(ended)
	}
}

func TestManyAreListedEndedAndReportedOnce(t *testing.T) {
	table, staff := newTable(t, 1000)
	alice := must[curfew.Subject](t)(table.Subject("alice"))
	reader := must[*curfew.Events](t)(table.NewEvents())
	keys := make(map[curfew.Key]int)
	for i := 0; i < 300; i++ {
		keys[started(t, table, curfew.Start{Policy: staff, Subject: alice}, fmt.Sprint(i))] = 0
	}
	check(t, table.Sessions(t0, func(session curfew.Session) bool {
		keys[session.Key]++
		return true
	}))
	if of := must[[]curfew.Session](t)(table.SessionsOf(alice, t0)); len(of) != 300 {
		t.Fatal(len(of))
	}
	before := t0
	if ended := must[uint64](t)(table.EndAll(curfew.Filter{StartedBefore: &before}, curfew.Revoked, t0)); ended != 0 {
		t.Fatal(ended)
	}
	if ended := must[uint64](t)(table.EndAll(curfew.Filter{Policy: &staff}, curfew.Revoked, t0)); ended != 300 {
		t.Fatal(ended)
	}
	for events := must[[]curfew.Event](t)(reader.Read()); len(events) > 0; events = must[[]curfew.Event](t)(reader.Read()) {
		for _, event := range events {
			if event.What != curfew.EventEnded || event.Cause != curfew.Revoked || event.Subject != alice {
				t.Fatal(event)
			}
			keys[event.Key] += 10
		}
	}
	for key, seen := range keys {
		if seen != 11 {
			t.Fatal(key, seen)
		}
	}
	stats := must[curfew.Stats](t)(table.Stats())
	if stats.Live != 0 || stats.Started != 300 || stats.Ended[curfew.Revoked] != 300 || reader.Missed != 0 {
		t.Fatalf("%+v", stats)
	}
	check(t, table.Check())
	check(t, table.Repair())
}

func TestABatchAnswersAsOneByOne(t *testing.T) {
	table, staff := newTable(t, 1000)
	keys := make([]curfew.Key, 700)
	for nth := range keys {
		keys[nth] = must[curfew.Key](t)(table.Key(fmt.Sprint(nth)))
		if nth%3 != 0 {
			must[int](t)(table.Start(keys[nth], curfew.Start{Policy: staff}, t0))
		}
	}
	verdicts := must[[]curfew.Verdict](t)(table.TouchMany(nil, keys, nil, t0+5))
	again := must[[]curfew.Verdict](t)(table.TouchMany(verdicts[:0], keys, make([]curfew.Binding, len(keys)), t0+5))
	if len(verdicts) != len(keys) || len(again) != len(keys) {
		t.Fatal(len(verdicts))
	}
	for nth, verdict := range again {
		if verdict != touch(t, table, keys[nth], t0+5) || verdict.Passes != (nth%3 != 0) {
			t.Fatal(nth, verdict)
		}
	}
	if none := must[[]curfew.Verdict](t)(table.TouchMany(nil, nil, nil, t0)); len(none) != 0 {
		t.Fatal(none)
	}
}

func TestATouchAllocatesNothing(t *testing.T) {
	table, staff := newTable(t, 10)
	key := started(t, table, curfew.Start{Policy: staff}, "id")
	for _, now := range []curfew.Tick{t0, curfew.Now} {
		if allocations := testing.AllocsPerRun(100, func() { _, _ = table.Touch(key, 0, now) }); allocations != 0 {
			t.Errorf("%v allocations", allocations)
		}
		watch := table.Watch(key, 0)
		if allocations := testing.AllocsPerRun(100, func() { _, _ = watch.Touch(now) }); allocations != 0 {
			t.Errorf("%v allocations of a watch", allocations)
		}
	}
}

func TestTheClockIsTheRegions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.region")
	first := must[*curfew.Table](t)(curfew.Create(path, curfew.Config{Capacity: 10}))
	defer first.Close()
	second := must[*curfew.Table](t)(curfew.Open(path))
	defer second.Close()
	a := must[curfew.Tick](t)(first.Now())
	b := must[curfew.Tick](t)(second.Now())
	c := must[curfew.Tick](t)(first.Now())
	if a > b || b > c {
		t.Fatal(a, b, c)
	}
	hour := must[curfew.Tick](t)(first.At(time.Now().Add(time.Hour)))
	if left := hour.Sub(c); left < 59*time.Minute || left > 61*time.Minute {
		t.Fatal(left)
	}
	_, err := curfew.Create(path, curfew.Config{Capacity: 10})
	if !errors.Is(err, curfew.ErrExists) || !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
}

func TestTheSameSecretGivesTheSameKeys(t *testing.T) {
	secret := [32]byte{1, 2, 3}
	var keys []curfew.Key
	for i := 0; i < 2; i++ {
		table := must[*curfew.Table](t)(curfew.NewPrivate(curfew.Config{Capacity: 10, Secret: &secret}))
		keys = append(keys, must[curfew.Key](t)(table.Key("id")))
		check(t, table.Close())
	}
	if keys[0] != keys[1] {
		t.Fatal(keys)
	}
	if parsed := must[curfew.Key](t)(curfew.ParseKey(keys[0].String())); parsed != keys[0] {
		t.Fatal(parsed)
	}
}

func TestTicksKnowAnEternity(t *testing.T) {
	for _, one := range []struct{ got, want any }{
		{curfew.Never.Add(-time.Hour), curfew.Never},
		{t0.Add(curfew.Forever), curfew.Never},
		{(curfew.Never - 1).Add(time.Second), curfew.Never},
		{t0.Add(-time.Hour), curfew.Tick(0)},
		{t0.Add(time.Second), t0 + 1000},
		{curfew.Never.Sub(t0), curfew.Forever},
		{t0.Sub(t0 + 5), -5 * time.Millisecond},
		{curfew.Never.String(), "never"},
		{curfew.Now.String(), "now"},
		{t0.String(), "@1000"},
	} {
		if one.got != one.want {
			t.Error(one.got, one.want)
		}
	}
}

func TestAWatchFollowsItsSessionAndTellsOfItsCut(t *testing.T) {
	table, staff := newTable(t, 100)
	reader := must[*curfew.Events](t)(table.NewEvents())
	alice := must[curfew.Subject](t)(table.Subject("alice"))
	first := started(t, table, curfew.Start{Policy: staff, Subject: alice}, "first")
	watch := table.Watch(first, 0)
	changes := must[uint64](t)(table.Changes())
	changed := func() bool {
		before := changes
		changes = must[uint64](t)(table.Changes())
		return changes != before
	}
	if changed() {
		t.Fatal("nothing has changed")
	}
	second := must[curfew.Key](t)(table.Key("second"))
	must[curfew.Tick](t)(table.Rotate(first, second, time.Second, t0))
	if !changed() {
		t.Fatal("a rotation is a change")
	}
	later := t0.Add(10 * time.Minute)
	if verdict := must[curfew.Verdict](t)(watch.Peek(later)); verdict.IdleLeft != 5*time.Minute || watch.Key() != second {
		t.Fatal(verdict, watch.Key())
	}
	if verdict := must[curfew.Verdict](t)(watch.Touch(later)); verdict.IdleLeft != 15*time.Minute {
		t.Fatal(verdict)
	}
	check(t, table.End(second, curfew.Revoked, later))
	if !changed() {
		t.Fatal("an end is a change")
	}
	if verdict := must[curfew.Verdict](t)(watch.Touch(later)); verdict.State != curfew.Ended || verdict.Cause != curfew.Revoked {
		t.Fatal(verdict)
	}
	check(t, watch.Cut(curfew.Revoked, 1<<40, later+7))
	events := must[[]curfew.Event](t)(reader.Read())
	if len(events) != 3 || events[1].Bytes != 0 {
		t.Fatal(events)
	}
	cut := events[2]
	if cut.What != curfew.EventCut || cut.Bytes != 1<<40 || cut.Key != second || cut.Subject != alice || cut.At != later+7 {
		t.Fatalf("%+v", cut)
	}
	if !errors.Is(watch.Cut(0, 0, later), curfew.ErrInvalidArgument) {
		t.Fatal("without a cause")
	}
	check(t, table.Close())
	if _, err := watch.Peek(later); !errors.Is(err, curfew.ErrClosed) {
		t.Fatal(err)
	}
	if _, err := table.Changes(); !errors.Is(err, curfew.ErrClosed) {
		t.Fatal(err)
	}
}

func TestAClosedTableRefuses(t *testing.T) {
	table, staff := newTable(t, 10)
	key := started(t, table, curfew.Start{Policy: staff}, "id")
	check(t, table.Close())
	verdict, err := table.Touch(key, 0, curfew.Now)
	if !errors.Is(err, curfew.ErrClosed) || verdict.Passes {
		t.Fatal(verdict, err)
	}
	if err := table.Close(); !errors.Is(err, curfew.ErrClosed) {
		t.Fatal(err)
	}
}

func TestATableMayBeUsedAndClosedByManyGoroutines(t *testing.T) {
	table, staff := newTable(t, 1000)
	var group sync.WaitGroup
	for worker := 0; worker < 16; worker++ {
		worker := worker
		group.Add(1)
		go func() {
			defer group.Done()
			for round := 0; round < 300; round++ {
				key, err := table.Key(fmt.Sprint(worker%4, round%50))
				if err == nil {
					_, _ = table.Start(key, curfew.Start{Policy: staff, Subject: curfew.Subject(worker%4 + 1)}, curfew.Now)
					_, err = table.Touch(key, 0, curfew.Now)
				}
				if err != nil && !errors.Is(err, curfew.ErrClosed) {
					t.Error(err)
				}
				if round%10 == 0 {
					_, _ = table.EndSubject(curfew.Subject(worker%4+1), curfew.Revoked, curfew.Now)
					_, _ = table.Advance(curfew.Now, 100)
				}
			}
		}()
	}
	time.Sleep(5 * time.Millisecond) // somewhere in the middle; any moment will do
	check(t, table.Close())
	group.Wait()
}

func TestRunReportsEndsAsTheyComeAndStopsWithItsContext(t *testing.T) {
	table, _ := newTable(t, 100)
	brief := must[curfew.PolicyID](t)(table.SetPolicy("brief", curfew.Policy{Idle: 20 * time.Millisecond}, curfew.Now))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended, done := make(chan curfew.Event, 10), make(chan error, 1)
	go func() { done <- table.Run(ctx, func(event curfew.Event) { ended <- event }) }()
	key := must[curfew.Key](t)(table.Key("id"))
	// Until Run has begun to listen, nothing tells of an end.
	for {
		_, err := table.Start(key, curfew.Start{Policy: brief}, curfew.Now)
		check(t, err)
		select {
		case event := <-ended:
			if event.Key != key && event.Cause != curfew.Idle {
				t.Fatal(event)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			return
		case <-time.After(3 * time.Second):
			key = must[curfew.Key](t)(table.Key(time.Now().String()))
		case <-ctx.Done():
			t.Fatal("no end was reported")
		}
	}
}

func TestRunStopsBetweenTwoEventsAndTheOthersAreStillThere(t *testing.T) {
	const sessions, wanted = 500, 100 // more than one page, and not whole ones
	table, _ := newTable(t, sessions)
	brief := must[curfew.PolicyID](t)(table.SetPolicy("brief", curfew.Policy{Idle: time.Millisecond}, t0))
	for nth := 0; nth < sessions; nth++ {
		started(t, table, curfew.Start{Policy: brief}, fmt.Sprint(nth))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	seen := map[curfew.Key]bool{}
	var last uint64
	// It is Run itself that finds them all over.
	err := table.Run(ctx, func(event curfew.Event) {
		seen[event.Key], last = true, event.Number
		if len(seen) == wanted {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(seen) != wanted {
		t.Fatal(err, len(seen))
	}
	reader := must[*curfew.Events](t)(table.Events())
	reader.Cursor = last + 1
	for count := 1; count > 0; {
		events := must[[]curfew.Event](t)(reader.Read())
		for _, event := range events {
			if seen[event.Key] {
				t.Fatal("twice: ", event)
			}
			seen[event.Key] = true
		}
		count = len(events)
	}
	if len(seen) != sessions || reader.Missed != 0 {
		t.Fatal(len(seen), reader.Missed)
	}
}
