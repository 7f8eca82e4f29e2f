package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"os/exec"
)

// answerManifest is the manifest of the lab's own workload image.
const answerManifest = "../../../workloads/wasm/spin.toml"

// application lays a manifest down beside a module, and returns its file.
func applicationWith(t *testing.T, manifest, module string) string {
	t.Helper()

	folder := t.TempDir()

	content, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}

	for name, content := range map[string][]byte{"spin.toml": []byte(manifest), "answer.wasm": content} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	return filepath.Join(folder, "spin.toml")
}

func ownManifest(t *testing.T) string {
	t.Helper()

	content, err := os.ReadFile(answerManifest)
	if err != nil {
		t.Fatal(err)
	}

	return string(content)
}

func TestTheWorkloadIsServedBySpinsManifest(t *testing.T) {
	file := applicationWith(t, ownManifest(t), answerModule(t))
	address := freeAddress(t)
	run := command(t, []string{spinAddress + "=" + address, "NODE_NAME=worker-1"}, spinFlag, file)

	expectFirstLine(t, run, address)

	// As with Spin, the container's environment does not reach the module.
	const want = `{"node":"","pod":"","runtime":"wasm"}` + "\n"

	for _, path := range []string{"/", "/healthz", "/any/path?with=query"} {
		expectBody(t, address, path, want)
	}

	expectStatus(t, run, 143)
}

func TestAManifestThatCannotBeServedIsToldWhy(t *testing.T) {
	module := file(t, assemble("proc_exit", start, bodyReturn))
	own := ownManifest(t)
	cases := map[string]struct{ manifest, says string }{
		"another executor": {strings.Replace(own, `"wagi"`, `"http"`, 1), `the executor "http"`},
		"version 1":        {strings.Replace(own, "spin_manifest_version = 2", "spin_manifest_version = 1", 1), "known is 2"},
		"no component":     {strings.Replace(own, "[component.answer]", "[component.other]", 1), `the component "answer"`},
		"no trigger":       {"spin_manifest_version = 2\n", "has no [[trigger.http]]"},
		"no TOML":          {"spin = [", "invalid manifest"},
		"no module":        {strings.Replace(own, `"answer.wasm"`, `"gone.wasm"`, 1), "there is no module"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			run := command(t, nil, spinFlag, applicationWith(t, test.manifest, module))
			output, err := run.CombinedOutput()

			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(output), test.says) {
				t.Errorf("%v, output %q", err, output)
			}
		})
	}
}

func TestTheLongestRouteAnswers(t *testing.T) {
	routes := []route{{path: "/a/b"}, {path: "/a", below: true}, {path: "/", below: true}}
	for path, want := range map[string]int{"/a/b": 0, "/a/b/c": 1, "/a": 1, "/ab": 2, "/": 2} {
		found := -1

		for at, one := range routes {
			if one.matches(path) {
				found = at

				break
			}
		}

		if found != want {
			t.Errorf("%s: route %d, want %d", path, found, want)
		}
	}
}

func TestTheOutputOfAProgramIsItsAnswer(t *testing.T) {
	cases := map[string]struct {
		output string
		status int
		body   string
		wrong  string
	}{
		"plain":             {"Content-Type: text/plain\n\nhello\n", 200, "hello\n", ""},
		"with status":       {"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\ngone", 404, "gone", ""},
		"elsewhere":         {"Location: /other\n\n", 200, "", ""},
		"no head":           {"hello", 0, "", "no empty line"},
		"no type":           {"X-Own: 1\n\nhello", 0, "", "neither Content-Type nor Location"},
		"no field":          {"hello\n\nworld", 0, "", "among the header fields"},
		"an unknown status": {"Status: fine\n\n", 0, "", "status"},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			recorder := httptest.NewRecorder()
			err := cgiOutput(test.output).answer(recorder)

			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("%v, want %q", err, test.wrong)
				}

				return
			}

			body, _ := io.ReadAll(recorder.Result().Body)
			if err != nil || recorder.Code != test.status || string(body) != test.body {
				t.Errorf("%d %q, %v", recorder.Code, body, err)
			}
		})
	}
}

func TestARequestIsDescribedAsCGIDescribesIt(t *testing.T) {
	request := httptest.NewRequest(http.MethodPost, "http://10.244.1.2:8080/a/b?x=1", strings.NewReader("body"))
	request.Header.Set("X-Own", "1")

	variables := cgiVariables(request, route{path: "/a", below: true})
	for name, want := range map[string]string{
		"REQUEST_METHOD": "POST", "PATH_INFO": "/b", "SCRIPT_NAME": "/a", "QUERY_STRING": "x=1", "SERVER_NAME": "10.244.1.2",
		"SERVER_PORT": "8080", "CONTENT_LENGTH": "4", "HTTP_X_OWN": "1",
	} {
		if variables[name] != want {
			t.Errorf("%s is %q, want %q", name, variables[name], want)
		}
	}
}
