package curfew_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"curfew"
)

// An application with which a session ends while it is at a request with ?meanwhile=; the rest is as obedient says.
func whileEnding(t *testing.T, end func(table *curfew.Table), change func(*curfew.Options)) tracked {
	var table *curfew.Table
	application := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("meanwhile") {
			end(table)
		}
		obedient(w, r)
	}
	site := newSiteOf(t, http.HandlerFunc(application), func(o *curfew.Options) {
		table = o.Table
		o.Recheck = -1 // nothing is cut
		if change != nil {
			change(o)
		}
	})
	site.client.Jar = nil
	return tracked{site}
}

func revoke(t *testing.T, id string) func(*curfew.Table) {
	return func(table *curfew.Table) {
		check(t, table.End(must[curfew.Key](t)(table.Key(id)), curfew.Revoked, curfew.Now))
	}
}

var anew = "set=" + url.QueryEscape("; Max-Age=0; Path=/") + "&set=" + url.QueryEscape("B; Path=/")

func TestWhatHasEndedMeanwhileIsNotRenewed(t *testing.T) {
	for _, set := range []string{"set=B", anew} {
		for _, user := range []string{"", "&user=alice"} {
			for _, recheck := range []time.Duration{-1, time.Hour} {
				for _, path := range []string{"/login", "/"} {
					s := whileEnding(t, revoke(t, "A"), func(o *curfew.Options) { o.Recheck = recheck })
					s.want(200, "/login?set=A&user=alice", "")
					s.want(502, path+"?meanwhile&"+set+user, "A")
					s.want(401, "/", "B")
					if s.end("alice") != 0 {
						t.Errorf("%s%s %s: a session of hers has begun", set, user, path)
					}
					// She may log in again.
					s.want(200, "/login?set=C&user=alice", "A")
					s.want(200, "/", "C")
				}
			}
		}
	}
}

func TestWhatHasEndedMeanwhileAndIsForgottenIsNotRenewed(t *testing.T) {
	s := whileEnding(t, revoke(t, "A"), func(o *curfew.Options) {
		policy := curfew.Policy{Idle: time.Hour, Retain: -1}
		o.Policy = must[curfew.PolicyID](t)(o.Table.SetPolicy("forgetful", policy, curfew.Now))
	})
	for _, set := range []string{"set=B&user=alice", "set=B", anew} {
		s.want(200, "/login?set=A&user=alice", "")
		s.want(502, "/?meanwhile&"+set, "A")
		s.want(401, "/", "B")
	}
	s.want(200, "/login?set=A&user=alice", "")
	s.want(200, "/logout?meanwhile&set=", "A")
}

func TestWhoLogsInAsSomebodyElseIsNotKeptOutByAnEndMeanwhile(t *testing.T) {
	for _, set := range []string{"set=B", anew} {
		for _, owner := range []string{"", "&user=alice"} {
			s := whileEnding(t, revoke(t, "A"), nil)
			s.want(200, "/login?set=A"+owner, "")
			s.want(200, "/login?meanwhile&user=bob&"+set, "A")
			s.want(200, "/", "B")
			if s.end("bob") != 1 || s.end("alice") != 0 {
				t.Errorf("%s after %q: whose is it?", set, owner)
			}
		}
	}
}

func TestTwoLoginsAtOnceOnTopOfASessionOfNobody(t *testing.T) {
	s := whileEnding(t, nil, nil)
	s.want(200, "/login?set=anon", "")
	first := func(*curfew.Table) { s.want(200, "/login?set=A&user=alice", "anon") }
	second := whileEnding(t, first, func(o *curfew.Options) { *o = s.options })
	second.want(200, "/login?meanwhile&set=B&user=alice", "anon")
	s.want(200, "/", "B")
	if s.end("alice") != 2 {
		t.Fatal("one of them was lost")
	}
}

func TestWhoseGraceIsOverMeanwhileMayHaveLoggedIn(t *testing.T) {
	s := whileEnding(t, revoke(t, "A"), func(o *curfew.Options) {
		policy := curfew.Policy{Idle: 20 * time.Millisecond, Grace: time.Hour}
		o.Policy = must[curfew.PolicyID](t)(o.Table.SetPolicy("short", policy, curfew.Now))
		o.IsPublic = func(r *http.Request) bool { return r.URL.Path != "/" }
		o.StepUp = func(r *http.Request) bool { return r.URL.Path == "/step-up" }
	})
	grace := func() {
		t.Helper()
		s.want(200, "/login?set=A&user=alice", "")
		for touch(t, s.table, must[curfew.Key](t)(s.table.Key("A")), curfew.Now).State != curfew.Grace {
			time.Sleep(30 * time.Millisecond)
		}
	}
	// The application had no cookie that it could renew.
	grace()
	s.want(200, "/login?meanwhile&set=B&user=alice", "A")
	if s.end("alice") != 1 {
		t.Fatal("she could not log in")
	}
}

func TestWhoStepsUpTooLateGetsNoNewID(t *testing.T) {
	for _, user := range []string{"", "&user=alice"} {
		s := whileEnding(t, revoke(t, "A"), func(o *curfew.Options) {
			policy := curfew.Policy{Idle: 20 * time.Millisecond, Grace: time.Hour}
			o.Policy = must[curfew.PolicyID](t)(o.Table.SetPolicy("short", policy, curfew.Now))
			o.IsPublic = func(r *http.Request) bool { return r.URL.Path != "/" }
			o.StepUp = func(r *http.Request) bool { return r.URL.Path == "/step-up" }
		})
		s.want(200, "/login?set=A&user=alice", "")
		for touch(t, s.table, must[curfew.Key](t)(s.table.Key("A")), curfew.Now).State != curfew.Grace {
			time.Sleep(30 * time.Millisecond)
		}
		s.want(502, "/step-up?meanwhile&set=B"+user, "A")
		s.want(401, "/", "B")
	}
}

// A response that an application gives to a request, as its reverse proxy has it.
func responseTo(r *http.Request, subject string, cookies ...string) *http.Response {
	response := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Set-Cookie": cookies}, Request: r}
	response.Header.Set("Curfew-Subject", subject)
	return response
}

func TestARequestThatHasEndedItsOwnSessionMayBeALogin(t *testing.T) {
	for subject, cookies := range map[string][]string{
		"alice": {"sid=B"}, // named
		"bob":   {"sid=B"},
		"":      {"sid=; Max-Age=0", "sid=B"},
	} {
		for _, isPublic := range []bool{true, false} {
			table, staff := newTable(t, 10)
			options := curfew.Options{Table: table, Policy: staff, IsPublic: func(*http.Request) bool { return isPublic }}
			alice := must[curfew.Subject](t)(table.Subject("alice"))
			key := must[curfew.Key](t)(table.Key("A"))
			must[int](t)(table.Start(key, curfew.Start{Policy: staff, Subject: alice}, curfew.Now))
			track := curfew.TrackCookies(options)
			handler := curfew.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				check(t, curfew.EndSession(r.Context(), curfew.Logout))
				check(t, track(responseTo(r, subject, cookies...)))
			}), options)
			request := httptest.NewRequest("POST", "/login", nil)
			request.Header.Set("Cookie", "sid=A")
			handler.ServeHTTP(httptest.NewRecorder(), request)
			if !touch(t, table, must[curfew.Key](t)(table.Key("B")), curfew.Now).Passes {
				t.Errorf("%q, public: %v: nothing has begun", subject, isPublic)
			}
		}
	}
}
