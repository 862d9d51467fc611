// Package curfew decides, for every request that passes a proxy, whether the session it belongs to may
// go on: idle timeout, lifetime, token expiry, grace, binding, revocation, limits per user. It is a thin
// layer on libcurfew; other processes, in Go, C or Rust, may use the same sessions through a region file.
//
// For net/http there is a middleware, [Handler], and for a reverse proxy [TrackCookies] beside it.
// Underneath is [Table]:
//
//	table, err := curfew.OpenOrCreate("/run/app.region", curfew.Config{Capacity: 100_000})
//	staff, err := table.SetPolicy("staff", curfew.Policy{Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}, curfew.Now)
//
//	// When the application has issued an id:
//	key, err := table.Key(id)
//	_, err = table.Start(key, curfew.Start{Policy: staff, Subject: alice}, curfew.Now)
//
//	// For every request. A verdict that was not given lets nobody pass.
//	verdict, err := table.Touch(key, 0, curfew.Now)
//	if err != nil || !verdict.Passes { ... }
//
//	// In the background: ends are reported as they come.
//	go table.Run(ctx, func(event curfew.Event) { log.Print(event) })
//
// # What stays open
//
// A WebSocket, a download, a long poll or an upload that a [Handler] has let through is cut when its session ends,
// within a quarter of a second, whoever ended it and in whichever process; bytes from its client count as activity
// ([Options.StreamActivity]). Give [ConnContext] to the server, so that handlers that hang are freed as well:
//
//	server := &http.Server{Handler: curfew.Handler(next, options), ConnContext: curfew.ConnContext}
//
// Programs of other kinds do the same with [Table.Changes] and [Watch].
//
// # Time
//
// Methods take the time as a [Tick]; [Now] stands for the present one, and costs no further call. Tests pass
// ticks of their own.
//
// # Goroutines, closing
//
// Everything may be called from any goroutine, on the same table too. Close waits for the calls that others are
// in; later ones return [ErrClosed].
//
// # Reboots, and other sizes
//
// [Table.Snapshot] writes a region to a file that outlives the boot, while others use it; [Restore] makes a region of
// any size from it, and counts the time in between against every session.
//
// # Building
//
// The module is part of Curfew's repository and is not published by itself:
//
//	go mod edit -require=curfew@v0.0.0 -replace=curfew=/where/curfew/is/bindings/go/curfew
//
// cgo finds the library by pkg-config (make install); PKG_CONFIG_PATH and LD_LIBRARY_PATH help where it is
// installed elsewhere. It needs Go 1.19 and a C compiler.
package curfew
