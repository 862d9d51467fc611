package curfew_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"curfew"
)

// The requests of one page, whose responses come at once: the application has renewed the id with each, once for all of
// them or for each by itself.
func TestResponsesAtOnceMayAllRenewTheID(t *testing.T) {
	const requests, rounds = 6, 300
	for _, user := range []string{"", "alice"} {
		for _, isSame := range []bool{true, false} {
			table, staff := newTable(t, 2*requests*rounds)
			alice := must[curfew.Subject](t)(table.Subject("alice"))
			options := curfew.Options{Table: table, Policy: staff}
			track := curfew.TrackCookies(options)
			for round := 0; round < rounds; round++ {
				var arrived, done sync.WaitGroup
				var errs [requests]error
				arrived.Add(requests)
				id := func(nth int) string {
					if isSame {
						nth = 0
					}
					return fmt.Sprint("new-", round, "-", nth)
				}
				old := must[curfew.Key](t)(table.Key(fmt.Sprint("old-", round)))
				must[int](t)(table.Start(old, curfew.Start{Policy: staff, Subject: alice}, curfew.Now))
				for nth := 0; nth < requests; nth++ {
					nth := nth
					handler := curfew.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						arrived.Done()
						arrived.Wait()
						errs[nth] = track(responseTo(r, user, "sid="+id(nth)))
					}), options)
					request := httptest.NewRequest("GET", "/", nil)
					request.Header.Set("Cookie", fmt.Sprint("sid=old-", round))
					done.Add(1)
					go func() {
						defer done.Done()
						handler.ServeHTTP(httptest.NewRecorder(), request)
					}()
				}
				done.Wait()
				for nth, err := range errs {
					if err != nil {
						t.Fatalf("%q, %v, round %d: %v", user, isSame, round, err)
					}
					if !touch(t, table, must[curfew.Key](t)(table.Key(id(nth))), curfew.Now).Passes {
						t.Fatalf("%q, %v, round %d: %s does not pass", user, isSame, round, id(nth))
					}
				}
			}
			stats := must[curfew.Stats](t)(table.Stats())
			if stats.Started != rounds || stats.Live != rounds {
				t.Errorf("%q, %v: %+v", user, isSame, stats)
			}
			if all, one := uint64(rounds*requests), uint64(rounds); !isSame && stats.Rotated != all || isSame && stats.Rotated != one {
				t.Errorf("%q, %v: %d rotations", user, isSame, stats.Rotated)
			}
			check(t, table.Close())
		}
	}
}

func TestALogoutAmongResponsesThatRenewTheIDEndsTheSession(t *testing.T) {
	const requests, rounds = 4, 500
	table, staff := newTable(t, 2*requests*rounds)
	options := curfew.Options{Table: table, Policy: staff, Overlap: 1} // an id that is replaced has ended at once
	track := curfew.TrackCookies(options)
	for round := 0; round < rounds; round++ {
		var arrived, done sync.WaitGroup
		arrived.Add(requests)
		old := must[curfew.Key](t)(table.Key(fmt.Sprint("old-", round)))
		must[int](t)(table.Start(old, curfew.Start{Policy: staff}, curfew.Now))
		for nth := 0; nth < requests; nth++ {
			nth := nth
			handler := curfew.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived.Done()
				arrived.Wait()
				if nth > 0 {
					_ = track(responseTo(r, "", fmt.Sprint("sid=new-", round, "-", nth)))
				} else if err := track(responseTo(r, "", "sid=")); err != nil {
					t.Error(err)
				}
			}), options)
			request := httptest.NewRequest("GET", "/", nil)
			request.Header.Set("Cookie", fmt.Sprint("sid=old-", round))
			done.Add(1)
			go func() {
				defer done.Done()
				handler.ServeHTTP(httptest.NewRecorder(), request)
			}()
		}
		done.Wait()
		if stats := must[curfew.Stats](t)(table.Stats()); stats.Live != 0 || stats.Started != uint64(round+1) {
			t.Fatalf("round %d: %+v", round, stats)
		}
	}
}
