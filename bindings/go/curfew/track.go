package curfew

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// TrackCookies makes the function for ModifyResponse of an httputil.ReverseProxy behind a [Handler] with the same
// options: sessions begin, get new ids and end as the application's cookie does.
//
//   - A cookie from an application that does not know the client begins a session, if the status is below 400 and
//     [Options.Begins] does not say otherwise. Whose it is the application may say in [Options.SubjectHeader].
//   - A new one where there is a session is its new id, unless the header names another subject than the session has:
//     then somebody has logged in, that session ends, and one of that subject begins.
//   - A cookie that is cleared (empty, or over by Max-Age or Expires as clients read them) ends the session, also in its
//     grace. If the same response sets a new one with the same Domain and Path, another session may begin with it.
//   - If something else has ended the session while the application was at the request, none begins in its place, not
//     even with a cookie that was cleared first: the application may have renewed what it took for live. It is a login
//     only where the header names another subject than the session had. The same one may log in by the next request,
//     with which the application does not get the cookie ([Options.IsPublic]). Where a handler has ended the session by
//     [EndSession], for the request itself, another may begin if a subject is named, or the cookie cleared first.
//   - With an answer to [Options.StepUp] a session may get a new id or end, and none begins: that would be without the
//     proof.
//
// Of several cookies of the name in one response the last that is not cleared counts. If there can be no session (the
// subject has enough, the id has ended or is the one that the client came with and was not let through with, it stays
// the same though somebody else has logged in, or the session has ended meanwhile), the response is held back, as an
// error.
func TrackCookies(options Options) func(*http.Response) error {
	options = options.filled()
	return func(response *http.Response) error {
		subject := response.Header.Get(options.SubjectHeader)
		response.Header.Del(options.SubjectHeader)
		id, isCleared := options.issued(response)
		isCleared = isCleared && !isOfClient(response.Request, options.Table, id)
		if isCleared {
			if err := logOut(response.Request); err != nil {
				return err
			}
		}
		if id != "" {
			return options.track(response, id, subject, isCleared)
		}
		return nil
	}
}

// The id that a response sets, and whether it takes one away.
func (o Options) issued(response *http.Response) (id string, isCleared bool) {
	var place string
	now := time.Now()
	cleared := map[string]bool{}
	for _, cookie := range response.Cookies() {
		// Clients have a cookie for each.
		its := strings.ToLower(strings.TrimPrefix(cookie.Domain, ".")) + " " + cookie.Path
		switch {
		case cookie.Name != o.Cookie:
		case clears(cookie, now):
			cleared[its] = true
		default:
			id, place = cookie.Value, its
		}
	}
	return id, cleared[place] || id == "" && len(cleared) > 0
}

// Whether an id is the one that the client came with, so that nothing is taken away.
func isOfClient(request *http.Request, table *Table, id string) bool {
	judged := judgementOf(request.Context())
	key, err := table.Key(id)
	return id != "" && err == nil && judged.hasKey && key == judged.key
}

func logOut(request *http.Request) error {
	judged := judgementOf(request.Context())
	// A cookie that somebody has planted beside the user's own does not keep him from it.
	for _, key := range judged.several {
		watch := judged.table.Watch(key, judged.binding)
		verdict, err := watch.Peek(Now)
		if err == nil && (verdict.State == Active || verdict.State == Grace) {
			err = watch.end(Logout)
		}
		if err != nil && !isOver(err) {
			return err
		}
	}
	return judged.logOut()
}

func (j *judgement) logOut() error {
	if !j.isAlive() {
		return nil
	}
	if err := j.end(Logout); !isOver(err) {
		return err
	}
	return nil
}

// Whether there is no session any more to do anything to.
func isOver(err error) bool {
	return errors.Is(err, ErrSessionEnded) || errors.Is(err, ErrUnknownSession)
}

func (o Options) track(response *http.Response, id, subject string, isCleared bool) error {
	judged := judgementOf(response.Request.Context())
	start := Start{Policy: o.Policy, Binding: judged.binding}
	key, err := o.Table.Key(id)
	if err != nil {
		return err
	}
	if start.Subject, err = o.Table.Subject(subject); err != nil {
		return err
	}
	if judged.table == nil { // no Handler has seen the request
		if start.Binding, err = o.binding(response.Request); err != nil {
			return err
		}
	}
	// From whom the cookie was kept, the application has not renewed it.
	isKnown := judged.verdict.Passes || judged.stepsUp
	if isKnown && !(isCleared && judged.hasEndedIt()) {
		if isIts, err := o.renew(judged, key, start.Subject); isIts || err != nil {
			return err
		}
	}
	if judged.stepsUp {
		return nil
	}
	if response.StatusCode >= 400 || o.Begins != nil && !o.Begins(response) {
		return nil
	}
	cameWith := judged.hasKey && key == judged.key
	for _, other := range judged.several {
		cameWith = cameWith || key == other
	}
	if cameWith {
		return &Error{Op: "track cookies", Status: ErrKeyTaken, Message: "the id is the one that the client came with, " +
			"and is no session of whom it was issued to: an application must issue a new one"}
	}
	if err := judged.logOut(); err != nil {
		return err
	}
	_, err = o.Table.Start(key, start, Now)
	return err
}

// Gives the session that the application knows of its new id, and says whether the id is that session's: if not,
// another one may begin with it. Of the responses to requests at the same time each may do so, in whichever process.
func (o Options) renew(judged *judgement, key Key, subject Subject) (isIts bool, err error) {
	old, verdict, err := judged.now()
	for nth := 0; nth < tries && err == nil; nth++ {
		if verdict.isOver() {
			return false, o.refuseEnded(judged, old, subject)
		}
		if isIts, err = o.isOf(old, subject); err != nil {
			return false, err
		}
		if isIts && (key == old || key == judged.key) {
			return true, nil
		}
		var moved error
		if isIts {
			_, moved = o.Table.Rotate(old, key, o.Overlap, Now)
			if !errors.Is(moved, ErrRotatedAlready) && !isOver(moved) {
				return true, moved
			}
		}
		// It is the subject's or not as of a time at which it had this key, and lived.
		before := old
		if old, verdict, err = judged.now(); err == nil && old == before && !verdict.isOver() {
			return isIts, moved
		}
	}
	if err == nil {
		err = &Error{Op: "track cookies", Status: ErrRotatedAlready}
	}
	return false, err
}

// Nothing brings an ended session back. One of another subject may begin beside it.
func (o Options) refuseEnded(judged *judgement, key Key, subject Subject) error {
	isAnothers := subject != 0 && judged.hasEndedIt()
	if subject != 0 && !isAnothers {
		// It is in no list of its subject any more. Few requests see the end of their session, so all may be looked through
		// for it, at some 50 ns each.
		err := o.Table.Sessions(Now, func(session Session) bool {
			isAnothers = session.Key == key && session.Subject != subject
			return session.Key != key
		})
		if err != nil {
			return err
		}
	}
	if isAnothers {
		return nil
	}
	return &Error{Op: "track cookies", Status: ErrSessionEnded, Message: "the session has ended while the application " +
		"was at the request, and the id was not issued to anybody else"}
}

// Whether a session is the subject's, or nothing is said of one.
func (o Options) isOf(key Key, subject Subject) (bool, error) {
	if subject == 0 {
		return true, nil
	}
	sessions, err := o.Table.SessionsOf(subject, Now)
	for _, session := range sessions {
		if session.Key == key {
			return true, err
		}
	}
	return false, err
}
