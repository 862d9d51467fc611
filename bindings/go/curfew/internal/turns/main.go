// Turns makes touches on demand through the Go package: turns SESSIONS TOUCHES. A line of standard input names what to
// do, and the answer is nanoseconds of processor time per touch. ffi/bench/run asks this program and its like in turn.
package main

// #cgo pkg-config: curfew
// #include <curfew.h>
import "C"

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"log"
	"math/rand"
	"os"
	"strconv"
	"syscall"
	"time"

	"curfew"
)

const aMillisecond = 1000

type bench struct {
	table    *curfew.Table
	drawn    []curfew.Key
	now      curfew.Tick
	verdicts []curfew.Verdict
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	if len(os.Args) != 3 {
		return fmt.Errorf("usage: turns SESSIONS TOUCHES")
	}
	sessions, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	touches, err := strconv.Atoi(os.Args[2])
	if err != nil {
		return err
	}
	b, err := filled(sessions, touches)
	if err != nil {
		return err
	}
	defer b.table.Close()
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		began, err := processorTime()
		if err != nil {
			return err
		}
		passed, err := b.turn(lines.Text())
		if err != nil {
			return err
		}
		ended, err := processorTime()
		if err != nil {
			return err
		}
		if passed != touches {
			return fmt.Errorf("%s: not every session was found active", lines.Text())
		}
		fmt.Println(float64(ended-began) / float64(touches))
		b.now += curfew.Tick(touches/aMillisecond + 1)
	}
	return lines.Err()
}

// Nanoseconds that this process has had. Whoever else had the processor meanwhile does not count.
func processorTime() (int64, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano(), err
}

func filled(sessions, touches int) (*bench, error) {
	table, err := curfew.NewPrivate(curfew.Config{Capacity: uint64(sessions)})
	if err != nil {
		return nil, err
	}
	policy, err := table.SetPolicy("bench", curfew.Policy{Idle: 8 * time.Hour, Lifetime: 30 * 24 * time.Hour}, 0)
	if err != nil {
		return nil, err
	}
	// The same in every run. Keys are digests, and random bytes are as good.
	random := rand.New(rand.NewSource(1))
	keys := make([]curfew.Key, sessions)
	for nth := range keys {
		binary.LittleEndian.PutUint64(keys[nth][:8], random.Uint64())
		binary.LittleEndian.PutUint64(keys[nth][8:], random.Uint64())
		if _, err := table.Start(keys[nth], curfew.Start{Policy: policy}, 0); err != nil {
			return nil, err
		}
	}
	drawn := make([]curfew.Key, touches)
	for nth := range drawn {
		drawn[nth] = keys[random.Intn(len(keys))]
	}
	return &bench{table: table, drawn: drawn, now: 1}, nil
}

func (b *bench) turn(what string) (passed int, err error) {
	switch what {
	case "touch":
		for nth, key := range b.drawn {
			verdict, err := b.table.Touch(key, 0, b.now+curfew.Tick(nth/aMillisecond))
			if err != nil {
				return passed, err
			}
			if verdict.Passes {
				passed++
			}
		}
		return passed, nil
	case "nothing": // the way from Go to C and back
		for range b.drawn {
			passed += int(C.curfew_version_number()) / C.CURFEW_VERSION_NUMBER
		}
		return passed, nil
	}
	size, err := strconv.Atoi(what)
	if err != nil {
		return 0, err
	}
	for first := 0; first < len(b.drawn); first += size {
		last := first + size
		if last > len(b.drawn) {
			last = len(b.drawn)
		}
		now := b.now + curfew.Tick(first/aMillisecond)
		if b.verdicts, err = b.table.TouchMany(b.verdicts[:0], b.drawn[first:last], nil, now); err != nil {
			return passed, err
		}
		for nth := range b.verdicts {
			if b.verdicts[nth].Passes {
				passed++
			}
		}
	}
	return passed, nil
}
