// Proxy is a reverse proxy that lets pass what belongs to a session that may go on.
//
//	proxy -region /run/app.region -upstream http://127.0.0.1:8080 [-listen 127.0.0.1:8000] [-idle 15m] [-lifetime 8h]
//
// What is open of a session, such as a WebSocket, ends with it. A session begins when the application sets the cookie "sid"; whose it is the application may say in the header
// Curfew-Subject. Requests for /login need no session.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"curfew"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// A length of time such as 15m, or a number of seconds.
func length(name string, initial time.Duration, usage string) *time.Duration {
	given := initial
	flag.Func(name, fmt.Sprintf("%s (%v)", usage, initial), func(text string) (err error) {
		if _, err = strconv.ParseUint(text, 10, 31); err == nil {
			text += "s"
		}
		given, err = time.ParseDuration(text)
		return err
	})
	return &given
}

func run() error {
	region := flag.String("region", "", "region file that processes share")
	upstream := flag.String("upstream", "", "URL or address of the application")
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	idle := length("idle", 15*time.Minute, "longest time between two requests of a session")
	lifetime := length("lifetime", 8*time.Hour, "longest time from a login to its end")
	capacity := flag.Uint64("capacity", 100_000, "sessions that a new region has room for")
	flag.Parse()
	if !strings.Contains(*upstream, "://") {
		*upstream = "http://" + *upstream
	}
	target, err := url.Parse(*upstream)
	if err != nil || target.Host == "" || *region == "" {
		return errors.New("-region and -upstream are needed, the latter like http://127.0.0.1:8080")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	table, err := curfew.OpenOrCreate(*region, curfew.Config{Capacity: *capacity})
	if err != nil {
		return err
	}
	defer table.Close()
	web, err := table.SetPolicy("web", curfew.Policy{Idle: *idle, Lifetime: *lifetime}, curfew.Now)
	if err != nil {
		return err
	}
	options := curfew.Options{
		Table:    table,
		Policy:   web,
		IsPublic: func(r *http.Request) bool { return r.URL.Path == "/login" },
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = curfew.TrackCookies(options)
	server := &http.Server{
		Handler:           curfew.Handler(proxy, options),
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext:       curfew.ConnContext,
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("listening on %v\n", listener.Addr())
	kept := make(chan error, 1)
	go func() {
		kept <- table.Run(ctx, func(event curfew.Event) { log.Print(event) })
		stop() // without it nothing would be reported any more
	}()
	go func() {
		<-ctx.Done()
		limited, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(limited)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-kept; !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
