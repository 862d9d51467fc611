package curfew_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"curfew"
)

func run(t *testing.T, name string, arguments ...string) (string, int) {
	t.Helper()
	command := exec.Command(name, arguments...)
	command.Stderr = os.Stderr
	output, err := command.Output()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return string(output), command.ProcessState.ExitCode()
}

// What doc.go says about building, word for word.
func TestAProgramOutsideTheRepositoryBuilds(t *testing.T) {
	directory := t.TempDir()
	source := must[string](t)(filepath.Abs("."))
	program := `package main

import (
	"fmt"

	"curfew"
)

func main() {
	table, err := curfew.NewPrivate(curfew.Config{Capacity: 10})
	fmt.Println(curfew.Version(), err, table.Close())
}
`
	check(t, os.WriteFile(filepath.Join(directory, "main.go"), []byte(program), 0o600))
	for _, arguments := range [][]string{
		{"mod", "init", "outside"},
		{"mod", "edit", "-require=curfew@v0.0.0", "-replace=curfew=" + source},
		{"run", "."},
	} {
		command := exec.Command("go", arguments...)
		command.Dir = directory
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", arguments, err, output)
		}
		if arguments[0] == "run" && string(output) != curfew.Version()+" <nil> <nil>\n" {
			t.Fatalf("%s", output)
		}
	}
}

// The tool in C that looks at sessions and ends them.
func buildTool(t *testing.T) string {
	t.Helper()
	tool := filepath.Join(t.TempDir(), "sessions")
	flags, status := run(t, "pkg-config", "--cflags", "--libs", "curfew")
	if status != 0 {
		t.Fatal("pkg-config does not know curfew")
	}
	compile := append([]string{"-o", tool, "../../../examples/c/sessions.c"}, strings.Fields(flags)...)
	if output, status := run(t, "cc", compile...); status != 0 {
		t.Fatal(output)
	}
	return tool
}

// The tests of what is open that the proxy in C has to pass, with WebSockets that are not ours, on the proxy in Go.
func TestTheGoProxyPassesTheTestsOfTheCProxyForWhatIsOpen(t *testing.T) {
	python := "python3"
	if exec.Command(python, "-c", "import websockets").Run() != nil {
		python = "/usr/bin/python3" // scripts/setup sees to it
	}
	proxy, tool := filepath.Join(t.TempDir(), "proxy"), buildTool(t)
	if output, status := run(t, "go", "build", "-o", proxy, "./examples/proxy"); status != 0 {
		t.Fatal(output)
	}
	command := exec.Command(python, "../../../examples/c/drive.py", proxy, tool, "Streams", "IdleStreams")
	// Two connections to the application stay for the next requests; the rest is the runtime's.
	command.Env = append(os.Environ(), "CURFEW_SPARE_DESCRIPTORS=12")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// The proxy in Go and the tool in C, each a process of its own, on one region at the same time.
func TestTheGoProxyAndTheCToolWorkOnOneRegion(t *testing.T) {
	directory := t.TempDir()
	proxy, tool := filepath.Join(directory, "proxy"), buildTool(t)
	region := filepath.Join(directory, "app.region")
	if output, status := run(t, "go", "build", "-o", proxy, "./examples/proxy"); status != 0 {
		t.Fatal(output)
	}

	upstream := httptest.NewServer(application())
	defer upstream.Close()
	command := exec.Command(proxy, "-region", region, "-upstream", upstream.URL)
	output := must[io.ReadCloser](t)(command.StdoutPipe())
	check(t, command.Start())
	stopped := false
	defer func() {
		if !stopped {
			_ = command.Process.Kill()
			_ = command.Wait()
		}
	}()
	line := must[string](t)(bufio.NewReader(output).ReadString('\n'))
	address := regexp.MustCompile(`^listening on (127\.0\.0\.1:\d+)\n$`).FindStringSubmatch(line)
	if address == nil {
		t.Fatal(line)
	}
	user := func(name string) *site {
		jar := must[*cookiejar.Jar](t)(cookiejar.New(nil))
		s := &site{T: t, url: "http://" + address[1], client: &http.Client{Jar: jar, Timeout: time.Minute}}
		s.expect("/login?id=secret-of-"+name+"&user="+name, 200, "")
		return s
	}
	alice, mallory := user("alice"), user("mallory")
	alice.expect("/", 200, "hello")

	listed, status := run(t, tool, region, "list")
	if status != 0 || strings.Count(listed, " active none policy=web ") != 2 || strings.Contains(listed, "secret") {
		t.Fatal(status, listed)
	}
	if ended, _ := run(t, tool, region, "end-subject", "mallory"); ended != "1\n" {
		t.Fatal(ended)
	}
	mallory.expect("/", 401, "no session: revoked")
	alice.expect("/", 200, "hello")

	// Work while the tool looks on, again and again.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < 200; i++ {
			if status, text := alice.get("/"); status != 200 {
				t.Error(status, text)
				return
			}
		}
	}()
	for looking := true; looking; {
		select {
		case <-done:
			looking = false
		default:
			if _, status := run(t, tool, region, "list"); status != 0 {
				t.Fatal(status)
			}
		}
	}
	listed, _ = run(t, tool, region, "list")
	key := regexp.MustCompile(`([0-9a-f]{32}) active`).FindStringSubmatch(listed)
	if key == nil {
		t.Fatal(listed)
	}
	if _, status := run(t, tool, region, "end", key[1]); status != 0 {
		t.Fatal(status)
	}
	alice.expect("/", 401, "no session: revoked")

	// A third process, this one, finds all in order, and the proxy leaves when it is told.
	table := must[*curfew.Table](t)(curfew.Open(region))
	defer table.Close()
	check(t, table.Check())
	check(t, command.Process.Signal(syscall.SIGTERM))
	stopped = true
	check(t, command.Wait())
}
