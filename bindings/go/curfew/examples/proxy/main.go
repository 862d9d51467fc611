// Proxy is a reverse proxy that lets pass what belongs to a session that may go on.
//
//	proxy -region /run/app.region -upstream http://127.0.0.1:8080 [-listen 127.0.0.1:8000] [-idle 15m] [-lifetime 8h]
//
// A session begins when the application sets the cookie "sid"; whose it is the application may say in the header
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
	"syscall"
	"time"

	"curfew"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	region := flag.String("region", "", "region file that processes share")
	upstream := flag.String("upstream", "", "URL of the application")
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	idle := flag.Duration("idle", 15*time.Minute, "longest time between two requests of a session")
	lifetime := flag.Duration("lifetime", 8*time.Hour, "longest time from a login to its end")
	flag.Parse()
	target, err := url.Parse(*upstream)
	if err != nil || target.Host == "" || *region == "" {
		return errors.New("-region and -upstream are needed, the latter like http://127.0.0.1:8080")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	table, err := curfew.OpenOrCreate(*region, curfew.Config{Capacity: 100_000})
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
