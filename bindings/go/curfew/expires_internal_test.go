package curfew

import (
	"net/http"
	"testing"
	"time"
)

func TestDatesAreReadAsClientsReadThem(t *testing.T) {
	epoch := time.Unix(0, 0).UTC()
	for text, want := range map[string]time.Time{
		"Thu, 01 Jan 1970 00:00:00 GMT":               epoch,
		"Thu, 1 Jan 1970 00:00:00 GMT":                epoch,
		"Thu, 01-Jan-1970 00:00:01 GMT":               epoch.Add(time.Second),
		"Thu, 1-Jan-1970 00:00:00 GMT":                epoch,
		"Thu, 01-Jan-70 00:00:01 GMT":                 epoch.Add(time.Second),
		"Thursday, 01-Jan-70 00:00:01 GMT":            epoch.Add(time.Second),
		"Thu Jan  1 00:00:01 1970":                    epoch.Add(time.Second),
		"Thu, 01 Jan 1970 00:00:00":                   epoch,
		"1 jan 1970 0:0:0":                            epoch,
		"1970 JANUARY 1st 00:00:00.000 PST":           epoch,
		"00:00:00 1 Jan 1970":                         epoch,
		"Thu, 01 Jan 1970 00:00:00 +0100":             epoch, // no zone counts
		"Thu, 01 Jan 1970 00:00:00 GMT+0100 (CET)":    epoch,
		"Wed, 29 Feb 2040 23:59:59 GMT":               time.Date(2040, 2, 29, 23, 59, 59, 0, time.UTC),
		"Fri, 31 Dec 99 00:00:00 GMT":                 time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC),
		"Fri, 31 Dec 69 00:00:00 GMT":                 time.Date(2069, 12, 31, 0, 0, 0, 0, time.UTC),
		"Mon, 01 Jan 1601 00:00:00 GMT":               time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC),
		"Fri, 31 Dec 9999 23:59:59 GMT":               time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"Sun, 02 Jan 2033 03:04:05 GMT; and the like": time.Date(2033, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		if got, ok := readDate(text); !ok || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{
		"", "0", "-1", "yesterday", "Thu, 01 Jan 1970", "Jan 1970 00:00:00", "01 1970 00:00:00", "01 Jan 00:00:00",
		"Thu, 00 Jan 1970 00:00:00 GMT", "Thu, 32 Jan 1970 00:00:00 GMT", "Fri, 30 Feb 2035 00:00:00 GMT",
		"Thu, 29 Feb 2035 00:00:00 GMT", "Mon, 01 Jan 1600 00:00:00 GMT", "Mon, 01 Jan 10000 00:00:00 GMT",
		"Thu, 01 Jan 197 00:00:00 GMT", "Thu, 01 Jan 1970 24:00:00 GMT", "Thu, 01 Jan 1970 00:60:00 GMT",
		"Thu, 01 Jan 1970 00:00:60 GMT", "Thu, 01 Jan 1970 00:00 GMT", "Thu, 01 Jan 1970 000:00:00 GMT",
		"Thu, 01 Anf 1970 00:00:00 GMT", "Thu, 01 Jän 1970 00:00:00 GMT", "1234567890123456789012 Jan 1 00:00:00",
	} {
		if got, ok := readDate(text); ok {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestWhatMakesClientsForgetACookie(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	const past, present, future = "Thu, 1 Jan 1970 00:00:00 GMT", "Tue, 01 Jan 2030 00:00:00 GMT", "Tue, 1-Jan-30 00:00:01 GMT"
	for text, want := range map[string]bool{
		"":                                   true,
		"; Path=/":                           true,
		`""`:                                 true,
		"x":                                  false,
		"x; Expires":                         false,
		"x; Expires=0":                       false,
		"x; Expires=" + past:                 true,
		"x;EXPIRES\t=\t" + past + " ;Path=/": true,
		"x; Expires=" + present:              true,
		"x; Expires=" + future:               false,
		"x; Path=Expires=" + past:            false,
		// Of several the last that makes sense.
		"x; Expires=" + past + "; Expires=" + future: false,
		"x; Expires=" + future + "; Expires=" + past: true,
		"x; Expires=" + past + "; Expires=never":     true,
		"x; Max-Age=60; Max-Age=00":                  true,
		"x; Max-Age=0; Max-Age=soon":                 true,
		"x; Max-Age=0; Max-Age=060":                  false,
		"x; Max-Age=0":                               true,
		"x; max-age = -1":                            true,
		"x; Max-Age=60":                              false,
		"x; Max-Age=99999999999999999999999":         false,
		"x; Max-Age=-99999999999999999999999":        true,
		"x; Max-Age=":                                false,
		"x; Max-Age=-":                               false,
		"x; Max-Age=+0":                              false,
		"x; Max-Age=0x":                              false,
		// Max-Age goes before Expires.
		"x; Max-Age=60; Expires=" + past:                          false,
		"x; Expires=" + past + "; Max-Age=060":                    false,
		"x; Max-Age=0; Expires=" + future:                         true,
		"x; Max-Age=soon; Expires=" + past:                        true,
		"x; Expires=" + past + "; Max-Age=9999999999999999999999": false,
	} {
		response := http.Response{Header: http.Header{"Set-Cookie": {"sid=" + text}}}
		cookies := response.Cookies()
		if len(cookies) != 1 || clears(cookies[0], now) != want {
			t.Errorf("%q: %v", text, cookies)
		}
	}
}
