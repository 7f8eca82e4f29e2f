package commandline

import (
	"strings"
	"testing"
)

func TestParseReadsWhatContainerdWrites(t *testing.T) {
	cases := map[string]Invocation{
		"--root /run/runc/k8s.io --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid pod": {
			Command: "create", Bundle: "/b", Log: "/b/log.json", LogFormat: "json",
		},
		"--log=/l --log-format=json --systemd-cgroup create -b /c --no-pivot id": {
			Command: "create", Bundle: "/c", Log: "/l", LogFormat: "json",
		},
		"--root /r start create":                {Command: "start", Bundle: ".", LogFormat: "text"},
		"--root /r kill --all id 9":             {Command: "kill", Bundle: ".", LogFormat: "text"},
		"--debug run --preserve-fds 2 -b=/d id": {Command: "run", Bundle: "/d", LogFormat: "text"},
		"--root /r delete --force --bundle":     {Command: "delete", Bundle: "", LogFormat: "text"},
		"--version":                             {Bundle: ".", LogFormat: "text"},
		"":                                      {Bundle: ".", LogFormat: "text"},
		"create -- --bundle":                    {Command: "create", Bundle: ".", LogFormat: "text"},
		"--log log create --console-socket -b name": {Command: "create", Bundle: ".", Log: "log", LogFormat: "text"},
	}
	for line, want := range cases {
		if got := Parse(strings.Fields(line)); got != want {
			t.Errorf("%q: got %+v, want %+v", line, got, want)
		}
	}
}
