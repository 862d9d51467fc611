package curfew_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"curfew"
)

func Example() {
	table, err := curfew.NewPrivate(curfew.Config{Capacity: 100_000})
	if err != nil {
		log.Fatal(err)
	}
	defer table.Close()
	staff, err := table.SetPolicy("staff", curfew.Policy{Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}, curfew.Now)
	if err != nil {
		log.Fatal(err)
	}
	alice, _ := table.Subject("alice")

	// The application has issued this id:
	key, _ := table.Key("8f14e45fceea167a")
	if _, err := table.Start(key, curfew.Start{Policy: staff, Subject: alice}, curfew.Now); err != nil {
		log.Fatal(err)
	}

	// For every request:
	verdict, err := table.Touch(key, 0, curfew.Now)
	fmt.Println(verdict.Passes, verdict.State, err)

	ended, _ := table.EndSubject(alice, curfew.Revoked, curfew.Now)
	verdict, err = table.Touch(key, 0, curfew.Now)
	fmt.Println(ended, verdict.Passes, verdict, err)
	// Output:
	// true active <nil>
	// 1 false ended: revoked <nil>
}

func ExampleHandler() {
	table, err := curfew.OpenOrCreate("/run/app.region", curfew.Config{Capacity: 100_000})
	if err != nil {
		log.Fatal(err)
	}
	application := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		verdict, _ := curfew.FromContext(r.Context())
		fmt.Fprintf(w, "you have %v left", verdict.EndLeft)
	})
	guarded := curfew.Handler(application, curfew.Options{
		Table:    table,
		IsPublic: func(r *http.Request) bool { return r.URL.Path == "/login" },
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", guarded))
}

// In front of an application that knows nothing of Curfew: its cookie says when sessions begin and end.
func ExampleTrackCookies() {
	table, err := curfew.OpenOrCreate("/run/app.region", curfew.Config{Capacity: 100_000})
	if err != nil {
		log.Fatal(err)
	}
	web, err := table.SetPolicy("web", curfew.Policy{Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}, curfew.Now)
	if err != nil {
		log.Fatal(err)
	}
	options := curfew.Options{
		Table:    table,
		Policy:   web,
		IsPublic: func(r *http.Request) bool { return r.URL.Path == "/login" },
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:8080"})
	proxy.ModifyResponse = curfew.TrackCookies(options)
	go func() {
		log.Print(table.Run(context.Background(), func(event curfew.Event) { log.Print(event) }))
	}()
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", curfew.Handler(proxy, options)))
}
