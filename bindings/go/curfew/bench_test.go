package curfew_test

import (
	"fmt"
	"testing"
	"time"

	"curfew"
)

const sessions = 100_000

func filled(b *testing.B) (*curfew.Table, []curfew.Key) {
	table, _ := newTable(b, sessions)
	policy := must[curfew.PolicyID](b)(table.SetPolicy("long", curfew.Policy{Idle: 1000 * time.Hour}, t0))
	keys := make([]curfew.Key, sessions)
	for nth := range keys {
		keys[nth] = must[curfew.Key](b)(table.Key(fmt.Sprint(nth)))
		must[int](b)(table.Start(keys[nth], curfew.Start{Policy: policy}, t0))
	}
	// In another order than they lie in memory.
	for nth := range keys {
		other := nth * 7919 % len(keys)
		keys[nth], keys[other] = keys[other], keys[nth]
	}
	b.ReportAllocs()
	b.ResetTimer()
	return table, keys
}

func BenchmarkTouch(b *testing.B) {
	table, keys := filled(b)
	for n := 0; n < b.N; n++ {
		if verdict, err := table.Touch(keys[n%len(keys)], 0, t0+curfew.Tick(n/1000)); err != nil || !verdict.Passes {
			b.Fatal(verdict, err)
		}
	}
}

// With the present time read on the way, as a proxy does.
func BenchmarkTouchNow(b *testing.B) {
	table, keys := filled(b)
	for n := 0; n < b.N; n++ {
		if verdict, err := table.Touch(keys[n%len(keys)], 0, curfew.Now); err != nil || !verdict.Passes {
			b.Fatal(verdict, err)
		}
	}
}

func BenchmarkTouchParallel(b *testing.B) {
	table, keys := filled(b)
	b.RunParallel(func(p *testing.PB) {
		for n := 0; p.Next(); n++ {
			if verdict, err := table.Touch(keys[n%len(keys)], 0, t0); err != nil || !verdict.Passes {
				b.Error(verdict, err)
				return
			}
		}
	})
}

func BenchmarkTouchMany(b *testing.B) {
	for _, size := range []int{16, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			table, keys := filled(b)
			var verdicts []curfew.Verdict
			for n := 0; n < b.N; n += size {
				first := n % (len(keys) - size)
				var err error
				if verdicts, err = table.TouchMany(verdicts[:0], keys[first:first+size], nil, t0+curfew.Tick(n/1000)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKey(b *testing.B) {
	table, _ := filled(b)
	for n := 0; n < b.N; n++ {
		if _, err := table.Key("8f14e45fceea167a8f14e45fceea167a"); err != nil {
			b.Fatal(err)
		}
	}
}
