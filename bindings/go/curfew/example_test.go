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

// Long answers end with their session: by the request's context, by writes that fail, or both.
func ExampleHandler_stream() {
	table, err := curfew.OpenOrCreate("/run/app.region", curfew.Config{Capacity: 100_000})
	if err != nil {
		log.Fatal(err)
	}
	application := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/logout" {
			// This request gets its answer; the user's streams are cut.
			fmt.Fprintln(w, "bye", curfew.EndSession(r.Context(), curfew.Logout))
			return
		}
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case <-r.Context().Done():
				return
			case now := <-ticker.C:
				fmt.Fprintf(w, "data: %v\n\n", now)
				w.(http.Flusher).Flush()
			}
		}
	})
	server := &http.Server{
		Addr:        "127.0.0.1:8000",
		Handler:     curfew.Handler(application, curfew.Options{Table: table}),
		ConnContext: curfew.ConnContext,
	}
	log.Fatal(server.ListenAndServe())
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
	server := &http.Server{Addr: "127.0.0.1:8000", Handler: curfew.Handler(proxy, options), ConnContext: curfew.ConnContext}
	log.Fatal(server.ListenAndServe())
}
