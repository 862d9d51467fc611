package curfew

import (
	"net/http"
	"strings"
	"time"
)

// Whether a Set-Cookie makes clients forget the cookie. It is read as they read it (RFC 6265, 5.2), which is more than
// net/http understands. Frameworks also give such a cookie a value.
func clears(cookie *http.Cookie, now time.Time) bool {
	if cookie.Value == "" {
		return true
	}
	isPast, isAged, hasAge := false, false, false
	for _, attribute := range strings.Split(cookie.Raw, ";")[1:] {
		name, value, _ := strings.Cut(attribute, "=")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		// Of several the last counts that makes sense.
		switch name {
		case "expires":
			if at, ok := readDate(value); ok {
				isPast = !at.After(now)
			}
		case "max-age":
			if isOver, ok := readAge(value); ok {
				isAged, hasAge = isOver, true
			}
		}
	}
	if hasAge { // whatever Expires says
		return isAged
	}
	return isPast
}

// Whether a Max-Age leaves no time (5.2.2).
func readAge(text string) (isOver, ok bool) {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return false, false
	}
	return len(digits) < len(text) || strings.Trim(digits, "0") == "", true
}

const months = "janfebmaraprmayjunjulaugsepoctnovdec"

// The date of an Expires (5.1.1): the parts of it in any order, whatever stands between and behind them. All dates
// are in GMT, whatever they say.
func readDate(text string) (date time.Time, ok bool) {
	var clock [3]int
	var day, month, year int
	hasClock, hasDay, hasMonth, hasYear := false, false, false, false
	for _, token := range strings.FieldsFunc(text, isDelimiter) {
		number, width := leadingNumber(token)
		if at, isClock := readClock(token); !hasClock && isClock {
			clock, hasClock = at, true
		} else if !hasDay && (width == 1 || width == 2) {
			day, hasDay = number, true
		} else if at := monthOf(token); !hasMonth && at > 0 {
			month, hasMonth = at, true
		} else if !hasYear && width >= 2 && width <= 4 {
			year, hasYear = number, true
		}
	}
	switch {
	case year >= 70 && year <= 99:
		year += 1900
	case year <= 69:
		year += 2000
	}
	if !hasClock || !hasDay || !hasMonth || !hasYear || year < 1601 || clock[0] > 23 || clock[1] > 59 || clock[2] > 59 {
		return time.Time{}, false
	}
	date = time.Date(year, time.Month(month), day, clock[0], clock[1], clock[2], 0, time.UTC)
	return date, day > 0 && date.Day() == day // there is no 30th of February
}

// Everything but letters, digits, colons, control characters and what is not ASCII.
func isDelimiter(r rune) bool {
	switch {
	case r == '\t', r >= ' ' && r <= '/', r >= ';' && r <= '@', r >= '[' && r <= '`', r >= '{' && r <= '~':
		return true
	}
	return false
}

// The number that a token begins with, and how many digits it has; of those with many the first count.
func leadingNumber(token string) (number, width int) {
	for width < len(token) && token[width] >= '0' && token[width] <= '9' {
		if width < 5 {
			number = number*10 + int(token[width]-'0')
		}
		width++
	}
	return number, width
}

// Hours, minutes and seconds, of one or two digits each.
func readClock(token string) (clock [3]int, ok bool) {
	for nth := range clock {
		number, width := leadingNumber(token)
		if width != 1 && width != 2 {
			return clock, false
		}
		clock[nth] = number
		if token = token[width:]; nth < len(clock)-1 {
			if !strings.HasPrefix(token, ":") {
				return clock, false
			}
			token = token[1:]
		}
	}
	return clock, true
}

// The month whose first three letters a token begins with; zero if there is none.
func monthOf(token string) int {
	if len(token) < 3 {
		return 0
	}
	if at := strings.Index(months, strings.ToLower(token[:3])); at >= 0 && at%3 == 0 {
		return at/3 + 1
	}
	return 0
}
