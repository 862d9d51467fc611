package curfew

import "strings"

// countCookies counts in how many places of a header some application might read a cookie of this name, up to two.
// Applications do not agree on where a cookie begins: some take white space of any kind from around its name, Python's
// reader begins one at a space, PHP has "_" for ".", a space and "[", and some undo percent-encoding. What any of these
// finds is counted. It takes time by the length of the header, whatever is in it.
func countCookies(header, name string) (count int) {
	// Whether nothing but white space stands between a separator and where a cookie may begin.
	isFirst := true
	for at := 0; at <= len(header) && count < 2; at++ {
		if mayBeCookie(header[at:], name, isFirst) {
			count++
		}
		start := at
		for at < len(header) && header[at] != ';' && header[at] != ',' && !isBlank(header[at]) {
			at++
		}
		isSeparator := at < len(header) && header[at] == ';'
		isFirst = isSeparator || isFirst && at == start && at < len(header) && isBlank(header[at])
	}
	return count
}

// Whether a text begins with a cookie of the name.
func mayBeCookie(text, name string, isFirst bool) bool {
	// PHP took white space away after it had undone percent-encoding, and ended a name at a zero.
	for found, length := spelt(text); length == 3 && isBlank(found) || found == '+'; found, length = spelt(text) {
		text = text[length:]
	}
	for at := 0; at < len(name); at++ {
		found, length := spelt(text)
		if length == 0 || !isSpelling(found, name[at]) {
			return false
		}
		text = text[length:]
	}
	for found, length := spelt(text); length > 0 && isBlank(found); found, length = spelt(text) {
		if found == 0 {
			return true
		}
		text = text[length:]
	}
	// A name alone has the empty value, for some.
	return strings.HasPrefix(text, "=") || isFirst && (text == "" || text[0] == ';')
}

// withoutCookie takes out of a header whatever may be that cookie for some application.
func withoutCookie(header, name string) string {
	var kept []string
	for _, pair := range strings.Split(header, ";") {
		if countCookies(pair, name) == 0 {
			kept = append(kept, pair)
		}
	}
	return strings.TrimSpace(strings.Join(kept, ";"))
}

// The first byte of a name, and how long it is in the text.
func spelt(text string) (found byte, length int) {
	if len(text) >= 3 && text[0] == '%' {
		if high, low := hexDigit(text[1]), hexDigit(text[2]); high < 16 && low < 16 {
			return high<<4 | low, 3
		}
	}
	if text == "" {
		return 0, 0
	}
	return text[0], 1
}

func hexDigit(digit byte) byte {
	switch {
	case '0' <= digit && digit <= '9':
		return digit - '0'
	case 'a' <= digit|0x20 && digit|0x20 <= 'f':
		return (digit | 0x20) - 'a' + 10
	}
	return 16
}

func isSpelling(found, of byte) bool {
	lower := func(letter byte) byte {
		if 'A' <= letter && letter <= 'Z' {
			letter |= 0x20
		}
		return letter
	}
	return lower(found) == lower(of) || of == '_' && strings.IndexByte(". [+", found) >= 0
}

// White space, what an application may take for some in another encoding, and what is nothing to see.
func isBlank(letter byte) bool { return letter <= ' ' || letter >= 0x7f }
