package curfew_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"curfew"
)

// The body and the type of a form with a file that is too large for its reader's memory.
func form(t *testing.T) (io.Reader, string) {
	var body bytes.Buffer
	writer := multipart.NewWriter(&body)
	file := must[io.Writer](t)(writer.CreateFormFile("file", "name"))
	must[int](t)(file.Write(make([]byte, 1<<16)))
	check(t, writer.Close())
	return &body, writer.FormDataContentType()
}

func reads(t *testing.T, r *http.Request) {
	if err := r.ParseMultipartForm(1 << 10); err != nil {
		t.Error(err)
	}
	if len(must[[]os.DirEntry](t)(os.ReadDir(os.TempDir()))) != 1 {
		t.Error("there is no file")
	}
}

func nothingIsLeft(g *guarded) {
	g.Helper()
	g.until("the files are removed", func() bool {
		return len(must[[]os.DirEntry](g)(os.ReadDir(os.TempDir()))) == 0
	})
}

func TestFilesOfAFormDoNotOutliveTheirRequest(t *testing.T) {
	all := func(*http.Request) bool { return true }
	reader := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reads(t, r) })
	for name, one := range map[string]struct {
		id      string
		options curfew.Options
	}{
		"watched":     {"secret", curfew.Options{}},
		"not watched": {"secret", curfew.Options{Recheck: -1}},
		"public":      {"", curfew.Options{IsPublic: all}},
		"denied":      {"", curfew.Options{Denied: reader}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			g := guard(t, reader, setting{options: one.options})
			g.login("secret")
			body, kind := form(t)
			request := g.request("POST", "/", one.id, body)
			request.Header.Set("Content-Type", kind)
			response := must[*http.Response](t)(g.server.Client().Do(request))
			check(t, response.Body.Close())
			nothingIsLeft(g)
		})
	}
}

func TestFilesOfAFormDoNotOutliveARequestThatIsCut(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ended := make(chan error, 1)
	g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads(t, r)
		stubborn(ended).ServeHTTP(w, r)
	}), setting{})
	key := g.login("secret")
	body, kind := form(t)
	request := g.request("POST", "/", "secret", body)
	request.Header.Set("Content-Type", kind)
	response := must[*http.Response](t)(g.server.Client().Do(request))
	check(t, g.table.End(key, curfew.Revoked, curfew.Now))
	<-ended
	check(t, response.Body.Close())
	nothingIsLeft(g)
}

// Whoever catches a panic in front may clean up as well.
func TestAFormIsKnownInFrontAlsoAfterAPanic(t *testing.T) {
	for _, recheck := range []time.Duration{time.Hour, -1} {
		t.Setenv("TMPDIR", t.TempDir())
		g := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			reads(t, r)
			panic("the handler's own")
		}), setting{options: curfew.Options{Recheck: recheck}})
		g.login("secret")
		body, kind := form(t)
		request := httptest.NewRequest("POST", "/", body)
		request.Header.Set("Content-Type", kind)
		request.Header.Set("Cookie", "sid=secret")
		func() {
			defer func() {
				if recover() == nil || request.MultipartForm == nil {
					t.Fatal("it does not know of the form")
				}
			}()
			g.handler.ServeHTTP(httptest.NewRecorder(), request)
		}()
		check(t, request.MultipartForm.RemoveAll())
	}
}
