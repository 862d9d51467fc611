package curfew_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"curfew"
)

// An application that knows nothing of sessions but to give out ids.
func application() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Curfew-Subject", r.URL.Query().Get("user"))
		http.SetCookie(w, &http.Cookie{Name: "sid", Value: r.URL.Query().Get("id"), Path: "/"})
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "sid", MaxAge: -1, Path: "/"})
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, "tick\n")
			w.(http.Flusher).Flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Curfew-Subject") != "" {
			http.Error(w, "the header came through", http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "hello")
	})
	return mux
}

type site struct {
	*testing.T
	table   *curfew.Table
	options curfew.Options
	url     string
	client  *http.Client
}

func newSite(t *testing.T, change func(*curfew.Options)) *site {
	return newSiteOf(t, application(), change)
}

func newSiteOf(t *testing.T, application http.Handler, change func(*curfew.Options)) *site {
	table, staff := newTable(t, 100)
	options := curfew.Options{
		Table:    table,
		Policy:   staff,
		IsPublic: func(r *http.Request) bool { return r.URL.Path == "/login" },
		Recheck:  10 * time.Millisecond,
	}
	if change != nil {
		change(&options)
	}
	upstream := httptest.NewServer(application)
	t.Cleanup(upstream.Close)
	target := must[*url.URL](t)(url.Parse(upstream.URL))
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = curfew.TrackCookies(options)
	proxy.ErrorLog = nil
	server := httptest.NewServer(curfew.Handler(proxy, options))
	t.Cleanup(server.Close)
	jar := must[*cookiejar.Jar](t)(cookiejar.New(nil))
	return &site{t, table, options, server.URL, &http.Client{Jar: jar, Timeout: time.Minute}}
}

func (s *site) get(path string) (int, string) {
	s.Helper()
	response := must[*http.Response](s)(s.client.Get(s.url + path))
	defer response.Body.Close()
	return response.StatusCode, strings.TrimSpace(string(must[[]byte](s)(io.ReadAll(response.Body))))
}

func (s *site) expect(path string, status int, body string) {
	s.Helper()
	if got, text := s.get(path); got != status || text != body {
		s.Fatalf("%s: %d %q", path, got, text)
	}
}

func TestOnlySessionsThatMayGoOnReachTheApplication(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/", 401, "no session: missing")
	s.expect("/login?id=secret&user=alice", 200, "")
	s.expect("/", 200, "hello")
	alice := must[curfew.Subject](t)(s.table.Subject("alice"))
	if ended := must[uint64](t)(s.table.EndSubject(alice, curfew.Revoked, curfew.Now)); ended != 1 {
		t.Fatal("whose session is it?")
	}
	s.expect("/", 401, "no session: revoked")
}

func TestLoggingOutEndsTheSession(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/login?id=secret", 200, "")
	s.expect("/logout", 200, "")
	s.expect("/", 401, "no session: missing")
	verdict := touch(t, s.table, must[curfew.Key](t)(s.table.Key("secret")), curfew.Now)
	if verdict.Cause != curfew.Logout {
		t.Fatal(verdict)
	}
}

func TestANewIDTakesOver(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/login?id=one", 200, "")
	s.expect("/login?id=two", 200, "")
	s.expect("/", 200, "hello")
	stats := must[curfew.Stats](t)(s.table.Stats())
	if stats.Rotated != 1 || stats.Started != 1 {
		t.Fatalf("%+v", stats)
	}
}

func TestAnIDThatCannotBecomeASessionIsNotGivenOut(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/login?id=one", 200, "")
	s.expect("/logout", 200, "")
	if status, _ := s.get("/login?id=one"); status != 502 {
		t.Fatal(status)
	}
}

func TestTwoIDsAreOneTooMany(t *testing.T) {
	s := newSite(t, nil)
	request := must[*http.Request](t)(http.NewRequest("GET", s.url+"/", nil))
	request.Header.Set("Cookie", "sid=one; sid=two")
	response := must[*http.Response](t)(s.client.Do(request))
	response.Body.Close()
	if response.StatusCode != 400 {
		t.Fatal(response.Status)
	}
}

// Python's reader, Django, Express and PHP find the second one; net/http does not.
func TestAnIDThatOnlyTheApplicationMayFindIsOneTooMany(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/login?id=live", 200, "")
	with := func(cookies string) int {
		request := must[*http.Request](t)(http.NewRequest("GET", s.url+"/", nil))
		request.Header.Set("Cookie", cookies) // beside the live one
		response := must[*http.Response](t)(s.client.Do(request))
		response.Body.Close()
		return response.StatusCode
	}
	for _, cookies := range []string{
		"x=1 sid=ended", "\u00a0sid=ended", "\xa0sid=ended", "sid\u2003=ended", "x=1,sid=ended", "SID=ended", "s%69d=ended",
		"x=1\tsid=ended", "sid",
		"%20sid=ended", "+sid=ended", "sid%00x=ended", "sid%20=ended", "%09%20sid=ended",
	} {
		if status := with(cookies); status != 400 {
			t.Errorf("%q: %d", cookies, status)
		}
	}
	for _, cookies := range []string{"next=/page?sid=1", "cols=name,sid,date", "cols=name,sid", "xsid=1; sidx=2", "x=sid=1", "a=b sidecar=1", "x=\u00e9"} {
		if status := with(cookies); status != 200 {
			t.Errorf("%q: %d", cookies, status)
		}
	}
}

func TestWithoutATableNobodyPasses(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/login?id=secret", 200, "")
	check(t, s.table.Close())
	if status, _ := s.get("/"); status != 503 {
		t.Fatal(status)
	}
}

func TestADownloadStopsWhenItsSessionEnds(t *testing.T) {
	s := newSite(t, nil)
	s.expect("/login?id=secret", 200, "")
	response := must[*http.Response](t)(s.client.Get(s.url + "/endless"))
	defer response.Body.Close()
	first := make([]byte, 5)
	must[int](t)(io.ReadFull(response.Body, first))
	check(t, s.table.End(must[curfew.Key](t)(s.table.Key("secret")), curfew.Revoked, curfew.Now))
	// The client's time limit is what a download that goes on runs into.
	_, err := io.Copy(io.Discard, response.Body)
	if err == nil || strings.Contains(err.Error(), "Timeout") {
		t.Fatal(err)
	}
}

func TestSomeRequestsAreNoActivityAndSomeDenialsAreTheCallersOwn(t *testing.T) {
	s := newSite(t, func(options *curfew.Options) {
		options.IsActivity = func(r *http.Request) bool { return r.URL.Path != "/poll" }
		options.Denied = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			verdict, presented := curfew.FromContext(r.Context())
			if presented && verdict.State != curfew.Ended {
				t.Error(verdict)
			}
			http.Error(w, verdict.String(), http.StatusForbidden)
		})
	})
	s.expect("/login?id=secret", 200, "")
	key := must[curfew.Key](t)(s.table.Key("secret"))
	last := func() (last curfew.Tick) {
		check(t, s.table.Sessions(curfew.Now, func(session curfew.Session) bool {
			last = session.Last
			return true
		}))
		return last
	}
	began := last()
	waitForNextTick(t, s.table, began)
	s.expect("/poll", 200, "hello")
	if last() != began {
		t.Fatal("polling counted")
	}
	s.expect("/", 200, "hello")
	if last() == began {
		t.Fatal("a request did not count")
	}
	check(t, s.table.End(key, curfew.Revoked, curfew.Now))
	s.expect("/", 403, "ended: revoked")
}

func waitForNextTick(t *testing.T, table *curfew.Table, tick curfew.Tick) {
	t.Helper()
	for must[curfew.Tick](t)(table.Now()) <= tick {
		time.Sleep(time.Millisecond)
	}
}

func TestSessionsAreBoundToWhatTheirLoginPresented(t *testing.T) {
	device := "phone"
	s := newSite(t, func(options *curfew.Options) {
		options.Binding = func(*http.Request) string { return device }
	})
	s.expect("/login?id=secret", 200, "")
	s.expect("/", 200, "hello")
	device = "stolen"
	s.expect("/", 401, "no session: mismatch")
}

func TestAHandlerWithoutATableIsRefusedAtOnce(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("accepted")
		}
	}()
	curfew.Handler(http.NotFoundHandler(), curfew.Options{})
}
