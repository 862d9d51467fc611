package curfew_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"curfew"
)

// An application that answers as the query says: ?set= is a cookie "sid" (several), ?user= whose it is, ?status= the
// status. Its body is the cookies that it was given.
func obedient(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	for _, set := range query["set"] {
		w.Header().Add("Set-Cookie", "sid="+set)
	}
	if user := query.Get("user"); user != "" {
		w.Header().Set("Curfew-Subject", user)
	}
	if query.Get("status") != "" {
		w.WriteHeader(http.StatusUnauthorized)
	}
	_, _ = io.WriteString(w, r.Header.Get("Cookie"))
}

type tracked struct{ *site }

func track(t *testing.T, change func(*curfew.Options)) tracked {
	s := newSiteOf(t, http.HandlerFunc(obedient), change)
	s.client.Jar = nil
	return tracked{s}
}

// Asks with an id, and gives the status and the body.
func (s tracked) ask(path, id string, header ...string) (int, string) {
	s.Helper()
	request := must[*http.Request](s)(http.NewRequest("GET", s.url+path, nil))
	if id != "" {
		request.Header.Set("Cookie", "sid="+id)
	}
	for nth := 0; nth < len(header); nth += 2 {
		request.Header.Set(header[nth], header[nth+1])
	}
	response := must[*http.Response](s)(s.client.Do(request))
	defer response.Body.Close()
	return response.StatusCode, string(must[[]byte](s)(io.ReadAll(response.Body)))
}

func (s tracked) want(status int, path, id string, header ...string) {
	s.Helper()
	if got, text := s.ask(path, id, header...); got != status {
		s.Fatalf("%s with %q: %d %q", path, id, got, text)
	}
}

func (s tracked) end(user string) uint64 {
	subject := must[curfew.Subject](s)(s.table.Subject(user))
	return must[uint64](s)(s.table.EndSubject(subject, curfew.Revoked, curfew.Now))
}

func TestWhoLogsInOnTopOfAnotherSessionHasOneOfHisOwn(t *testing.T) {
	s := track(t, nil)
	s.want(200, "/login?set=anon", "")
	s.want(200, "/login?set=A&user=alice", "anon")
	s.want(401, "/", "anon")
	if s.end("alice") != 1 {
		t.Fatal("it is not hers")
	}
	s.want(401, "/", "A")

	s.want(200, "/login?set=B&user=bob", "")
	s.want(200, "/?set=C&user=carol", "B")
	if s.end("bob") != 0 || s.end("carol") != 1 {
		t.Fatal("whose is it?")
	}
	// The same user again, or nobody said: the session goes on under its new id.
	s.want(200, "/login?set=D&user=dave", "")
	s.want(200, "/?set=E&user=dave", "D")
	s.want(200, "/?set=F", "E")
	if stats := must[curfew.Stats](t)(s.table.Stats()); stats.Rotated != 2 || s.end("dave") != 1 {
		t.Fatalf("%+v", stats)
	}
	// An id that stays when somebody else logs in is nobody's.
	s.want(200, "/login?set=G", "")
	s.want(502, "/login?set=G&user=alice", "G")
}

func TestAnApplicationDoesNotHearOfASessionThatMayNotGoOn(t *testing.T) {
	s := track(t, nil)
	s.want(200, "/login?set=A&user=alice", "")
	if _, cookies := s.ask("/login", "A; theme=dark"); cookies != "sid=A; theme=dark" {
		t.Fatal(cookies)
	}
	s.end("alice")
	for cookies, want := range map[string]string{"A": "", "A; theme=dark": "theme=dark", "unknown;x=1": "x=1"} {
		if status, got := s.ask("/login", cookies); status != 200 || got != want {
			t.Errorf("%q: %d %q", cookies, status, got)
		}
	}
	// Whoever was logged out may log in again.
	s.want(200, "/login?set=A2&user=alice", "A")
	s.want(200, "/", "A2")
}

func TestAnIDThatTheClientHasChosenBecomesNoSession(t *testing.T) {
	s := track(t, nil)
	s.want(502, "/login?set=chosen", "chosen")
	s.want(401, "/", "chosen")
}

func TestWhatASessionIsBoundToIsWhatTheClientHasShown(t *testing.T) {
	s := track(t, func(o *curfew.Options) {
		o.Binding = func(r *http.Request) string { return r.Header.Get("X-Device") }
	})
	// The header of a connection is not passed on.
	s.want(200, "/login?set=A", "", "X-Device", "phone", "Connection", "X-Device")
	s.want(200, "/", "A", "X-Device", "phone")
	s.want(401, "/", "A")
	s.want(401, "/", "A", "X-Device", "laptop")
}

func TestWhatTakesACookieAwayEndsTheSession(t *testing.T) {
	for _, clears := range []string{
		"", `""; Max-Age=0`, "deleted; Max-Age=0", "deleted; expires=Thu, 01-Jan-1970 00:00:01 GMT; path=/",
		`""; expires=Thu, 01 Jan 1970 00:00:00 GMT`, "x; Max-Age=-1", "deleted; Expires=Thu, 1 Jan 1970 00:00:00 GMT",
		"deleted; Expires=Thu, 01-Jan-70 00:00:01 GMT", "deleted; Expires=Thursday, 01-Jan-70 00:00:01 GMT",
		"deleted; Expires=Thu Jan  1 00:00:01 1970", "deleted; Expires=Thu, 01 Jan 1970 00:00:00",
	} {
		s := track(t, nil)
		s.want(200, "/login?set=A", "")
		s.want(200, "/?set="+url.QueryEscape(clears), "A")
		s.want(401, "/", "A")
		for _, id := range []string{"deleted", `""`, "x"} {
			if status, _ := s.ask("/", id); status == 200 {
				t.Errorf("after %q, %s is a session", clears, id)
			}
		}
	}
}

func TestOfSeveralCookiesTheLastThatStandsCounts(t *testing.T) {
	s := track(t, nil)
	s.want(200, "/login?set=A&set=B", "")
	s.want(401, "/", "A")
	s.want(200, "/?set=C&set=D", "B")
	s.want(401, "/", "C")
	s.want(200, "/?set="+url.QueryEscape("; Max-Age=0; Path=/old")+"&set="+url.QueryEscape("E; Path=/"), "D")
	s.want(200, "/", "E")
	if stats := must[curfew.Stats](t)(s.table.Stats()); stats.Started != 1 || stats.Rotated != 2 {
		t.Fatalf("%+v", stats)
	}
	// Taken away and given anew is no new id of the same session.
	s.want(200, "/?set="+url.QueryEscape("; Max-Age=0; Path=/")+"&set="+url.QueryEscape("F; Path=/"), "E")
	s.want(401, "/", "E")
	if stats := must[curfew.Stats](t)(s.table.Stats()); stats.Started != 2 || stats.Rotated != 2 {
		t.Fatalf("%+v", stats)
	}
}

func TestOnlyWhatBeginsASessionBeginsOne(t *testing.T) {
	s := track(t, func(o *curfew.Options) {
		o.Begins = func(response *http.Response) bool { return response.Request.URL.Path == "/login" }
		o.IsPublic = func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/login") }
	})
	s.want(401, "/login?set=A&status=401", "")
	s.want(401, "/", "A")
	s.want(200, "/login-page?set=B", "")
	s.want(401, "/", "B")
	s.want(200, "/login?set=C", "")
	s.want(200, "/", "C")
	// What the application has set before is not known here, and it needs it.
	if status, cookies := s.ask("/login", "B"); status != 200 || cookies != "sid=B" {
		t.Fatal(status, cookies)
	}
}

func TestALogoutEndsTheSessionUnderTheIDThatItHasByThen(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	application := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/logout" {
			entered <- true
			<-leave
		}
		obedient(w, r)
	}
	for _, recheck := range []time.Duration{0, -1} {
		site := newSiteOf(t, http.HandlerFunc(application), func(o *curfew.Options) {
			o.Recheck, o.Overlap = recheck, time.Millisecond
		})
		site.client.Jar = nil
		s := tracked{site}
		s.want(200, "/login?set=A", "")
		done := make(chan int)
		go func() {
			status, _ := s.ask("/logout?set=", "A")
			done <- status
		}()
		<-entered
		s.want(200, "/?set=B", "A")
		for old := must[curfew.Key](t)(s.table.Key("A")); touch(t, s.table, old, curfew.Now).Passes; {
			time.Sleep(time.Millisecond)
		}
		leave <- true
		if status := <-done; status != 200 {
			t.Fatal(status)
		}
		s.want(401, "/", "B")
	}
}

func TestALogoutInGraceEndsTheSessionAndOnesThatAreSomebodyElsesDoNot(t *testing.T) {
	s := track(t, func(o *curfew.Options) {
		o.IsPublic = func(*http.Request) bool { return true }
		o.Binding = func(r *http.Request) string { return r.Header.Get("X-Device") }
		policy := curfew.Policy{Idle: 20 * time.Millisecond, Grace: time.Hour}
		o.Policy = must[curfew.PolicyID](t)(o.Table.SetPolicy("short", policy, curfew.Now))
	})
	s.want(200, "/login?set=A", "", "X-Device", "phone")
	key := must[curfew.Key](t)(s.table.Key("A"))
	binding := must[curfew.Binding](t)(s.table.Binding("phone"))
	state := func() curfew.Verdict {
		return must[curfew.Verdict](t)(s.table.Peek(key, binding, curfew.Now))
	}
	for state().State != curfew.Grace {
		time.Sleep(time.Millisecond)
	}
	s.want(200, "/logout?set=", "A", "X-Device", "laptop")
	if state().State != curfew.Grace {
		t.Fatal(state())
	}
	s.want(200, "/logout?set=", "A", "X-Device", "phone")
	if state().Cause != curfew.Logout {
		t.Fatal(state())
	}
}

// A site whose session A waits for proof of presence.
func inGrace(t *testing.T) tracked {
	s := track(t, func(o *curfew.Options) {
		o.IsPublic = func(r *http.Request) bool { return r.URL.Path != "/" }
		o.StepUp = func(r *http.Request) bool { return r.URL.Path == "/step-up" }
		policy := curfew.Policy{Idle: 20 * time.Millisecond, Grace: time.Hour}
		o.Policy = must[curfew.PolicyID](t)(o.Table.SetPolicy("short", policy, curfew.Now))
	})
	s.want(200, "/login?set=A", "")
	for touch(t, s.table, must[curfew.Key](t)(s.table.Key("A")), curfew.Now).State != curfew.Grace {
		time.Sleep(30 * time.Millisecond)
	}
	return s
}

func TestWhoStepsUpKeepsTheCookieAndItsGrace(t *testing.T) {
	s := inGrace(t)
	for path, want := range map[string]string{"/step-up": "sid=A", "/login": ""} {
		if status, cookies := s.ask(path, "A"); status != 200 || cookies != want {
			t.Errorf("%s: %d %q", path, status, cookies)
		}
	}
	// A new id is no proof.
	s.want(200, "/step-up?set=B", "A")
	s.want(401, "/", "B")
	s.want(200, "/step-up?set=X&user=alice", "B")
	s.want(401, "/", "X")
	check(t, s.table.Reauthenticate(must[curfew.Key](t)(s.table.Key("B")), time.Time{}, curfew.Now))
	s.want(200, "/", "B")
}

func TestWhoIsLoggedOutAndInBySteppingUpHasProvedNothing(t *testing.T) {
	s := inGrace(t)
	s.want(200, "/step-up?set=&set=B", "A")
	s.want(401, "/", "B")
}

func TestACookieOfAnotherDomainIsAnother(t *testing.T) {
	s := track(t, nil)
	s.want(200, "/login?set=A", "")
	elsewhere := url.QueryEscape("; Max-Age=0; Domain=.example.com; Path=/")
	s.want(200, "/?set="+elsewhere+"&set="+url.QueryEscape("A; Path=/"), "A")
	s.want(200, "/?set="+elsewhere+"&set="+url.QueryEscape("B; Path=/"), "A")
	// Nothing is taken away where the same is given again.
	s.want(200, "/?set="+url.QueryEscape("; Path=/")+"&set="+url.QueryEscape("B; Path=/"), "B")
	s.want(200, "/", "B")
	if stats := must[curfew.Stats](t)(s.table.Stats()); stats.Started != 1 || stats.Rotated != 1 {
		t.Fatalf("%+v", stats)
	}
}

func TestAPlantedCookieDoesNotKeepAnybodyFromLoggingOut(t *testing.T) {
	s := track(t, func(o *curfew.Options) {
		o.IsPublic = func(r *http.Request) bool { return r.URL.Path != "/" }
	})
	s.want(200, "/login?set=A", "")
	s.want(200, "/logout?set=", "planted; sid=A")
	s.want(401, "/", "A")
	s.want(502, "/login?set=X", "X; sid=Y")
}

func TestWhoHasTwoCookiesMayComeToTheLoginWithoutThem(t *testing.T) {
	s := track(t, nil)
	if status, cookies := s.ask("/login", "A; sid=B; theme=dark"); status != 200 || cookies != "theme=dark" {
		t.Fatal(status, cookies)
	}
	s.want(400, "/", "A; sid=B")
}

// It would take minutes if each of so many had to be looked for to the end.
func TestALongHeaderTakesAsLongAsItIsWhateverIsInIt(t *testing.T) {
	s := track(t, nil)
	handler := curfew.Handler(http.NotFoundHandler(), s.options)
	for _, piece := range []string{"sid= ", "sid ", "sid%00 ", "%00", "sid%20 ", "%20sid", "+", "sid,", "a ", "%20%20 sid%20"} {
		request := httptest.NewRequest("GET", "/login", nil)
		request.Header.Set("Cookie", strings.Repeat(piece, (4<<20)/len(piece)))
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
}

func TestEndSessionIsForWhoseSessionItIs(t *testing.T) {
	s := track(t, func(o *curfew.Options) {
		o.Binding = func(r *http.Request) string { return r.Header.Get("X-Device") }
	})
	s.want(200, "/login?set=A", "", "X-Device", "phone")
	handler := curfew.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := curfew.EndSession(r.Context(), curfew.Logout); !errors.Is(err, curfew.ErrUnknownSession) {
			t.Error(err)
		}
	}), curfew.Options{Table: s.table, Binding: s.options.Binding, IsPublic: func(*http.Request) bool { return true }})
	request := httptest.NewRequest("GET", "/", nil)
	request.Header.Set("Cookie", "sid=A")
	handler.ServeHTTP(httptest.NewRecorder(), request)
	s.want(200, "/", "A", "X-Device", "phone")
}
