package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	wasm = "\x00asm\x01\x00\x00\x00"
	elf  = "\x7fELF\x02\x01\x01\x00"
	// deviceNumber does not survive as a float.
	deviceNumber = "9007199254740993"
)

// image lays a bundle down and returns its folder. Contents that begin with "->" are links.
func image(t *testing.T, args string, files map[string]string) string {
	t.Helper()

	folder := t.TempDir()
	root := filepath.Join(folder, "rootfs")

	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}

	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}

		target, link := strings.CutPrefix(content, "->")

		var err error
		if link {
			err = os.Symlink(target, file)
		} else {
			err = os.WriteFile(file, []byte(content), 0o644)
		}

		if err != nil {
			t.Fatal(err)
		}
	}

	config := `{"ociVersion":"1.2.0","process":{"cwd":"/work","env":["PATH=/tools:/bin","A=<b>"],"args":` + args +
		`},"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],` +
		`"linux":{"resources":{"limit":` + deviceNumber + `}}}`
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(config), 0o640); err != nil {
		t.Fatal(err)
	}

	return folder
}

func read(t *testing.T, folder string) string {
	t.Helper()

	content, err := os.ReadFile(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}

	return string(content)
}

// runner stands for the host's program; only that it exists counts here.
func runner(t *testing.T) string {
	t.Helper()

	file := filepath.Join(t.TempDir(), "wasm-run")
	if err := os.WriteFile(file, nil, 0o755); err != nil {
		t.Fatal(err)
	}

	return file
}

func TestModulesAreHandedToTheRunner(t *testing.T) {
	cases := map[string]struct {
		args  string
		files map[string]string
		want  []string
	}{
		"named by its path":        {`["/app.wasm","-v"]`, map[string]string{"app.wasm": wasm}, []string{"/app.wasm", "-v"}},
		"named without an ending":  {`["/app"]`, map[string]string{"app": wasm}, []string{"/app"}},
		"named by the root alone":  {`["/"]`, map[string]string{"app.wasm": wasm, "x.txt": "x"}, []string{"/app.wasm"}},
		"named by an empty entry":  {`["","-v"]`, map[string]string{"app.wasm": wasm}, []string{"/app.wasm", "-v"}},
		"named by nothing":         {`[]`, map[string]string{"app.wasm": wasm}, []string{"/app.wasm"}},
		"in the working folder":    {`["app.wasm"]`, map[string]string{"work/app.wasm": wasm}, []string{"/work/app.wasm"}},
		"relative to that folder":  {`["./app.wasm"]`, map[string]string{"work/app.wasm": wasm}, []string{"/work/app.wasm"}},
		"in the container's PATH":  {`["app"]`, map[string]string{"tools/app": wasm}, []string{"/tools/app"}},
		"behind an absolute link":  {`["/app"]`, map[string]string{"app": "->/lib/app", "lib/app": wasm}, []string{"/app"}},
		"behind links to a folder": {`["/a/app"]`, map[string]string{"a": "->b/../c", "b/x": "", "c/app": wasm}, []string{"/a/app"}},
		"behind a link up and out": {`["/app"]`, map[string]string{"app": "->../../../x", "x": wasm}, []string{"/app"}},
		"besides a file only named so": {
			`["/"]`, map[string]string{"app.wasm": wasm, "other.wasm": elf}, []string{"/app.wasm"},
		},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			folder, program := image(t, test.args, test.files), runner(t)

			found, err := Prepare(folder, program)
			if err != nil || found != test.want[0] {
				t.Fatalf("got %q, %v", found, err)
			}

			var config struct {
				Process struct{ Args, Env []string }
				Mounts  []struct {
					Destination, Source, Type string
					Options                   []string
				}
			}
			if err := json.Unmarshal([]byte(read(t, folder)), &config); err != nil {
				t.Fatal(err)
			}

			if want := append([]string{Mountpoint}, test.want...); !slices.Equal(config.Process.Args, want) {
				t.Errorf("args %q, want %q", config.Process.Args, want)
			}

			if len(config.Mounts) != 2 || config.Mounts[0].Destination != "/proc" {
				t.Fatalf("mounts: %+v", config.Mounts)
			}

			mount := config.Mounts[1]
			if mount.Destination != Mountpoint || mount.Source != program || !slices.Contains(mount.Options, "ro") {
				t.Errorf("mount %+v", mount)
			}
		})
	}
}

func TestEverythingElseIsLeftToRunc(t *testing.T) {
	cases := map[string]struct {
		args  string
		files map[string]string
	}{
		"the pod's pause container":    {`["/pause"]`, map[string]string{"pause": elf}},
		"a script":                     {`["/run.sh"]`, map[string]string{"run.sh": "#!/bin/sh\n"}},
		"a file that is too short":     {`["/app"]`, map[string]string{"app": "\x00as"}},
		"an empty file":                {`["/app"]`, map[string]string{"app": ""}},
		"a program that is missing":    {`["/missing"]`, nil},
		"a path through a file":        {`["/app/app"]`, map[string]string{"app": wasm}},
		"a folder":                     {`["/lib"]`, map[string]string{"lib/app.wasm": wasm}},
		"a root without modules":       {`["/"]`, map[string]string{"pause": elf}},
		"a module one folder down":     {`["/"]`, map[string]string{"lib/app.wasm": wasm}},
		"links in a circle":            {`["/a"]`, map[string]string{"a": "->b", "b": "->a"}},
		"an ELF program before it":     {`["app"]`, map[string]string{"tools/app": elf, "work/app": wasm}},
		"a module only as an argument": {`["/pause","/app.wasm"]`, map[string]string{"pause": elf, "app.wasm": wasm}},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			folder := image(t, test.args, test.files)
			before := read(t, folder)

			if found, err := Prepare(folder, runner(t)); err != nil || found != "" {
				t.Fatalf("got %q, %v", found, err)
			}

			if after := read(t, folder); after != before {
				t.Errorf("config.json changed to %s", after)
			}
		})
	}
}

func TestALinkCannotReachTheHost(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "app.wasm")
	if err := os.WriteFile(outside, []byte(wasm), 0o644); err != nil {
		t.Fatal(err)
	}

	folder := image(t, `["/app"]`, map[string]string{"app": "->" + outside})
	if found, err := Prepare(folder, runner(t)); err != nil || found != "" {
		t.Fatalf("got %q, %v", found, err)
	}
}

func TestTheRestOfTheConfigSurvives(t *testing.T) {
	folder := image(t, `["/app.wasm"]`, map[string]string{"app.wasm": wasm})
	if _, err := Prepare(folder, runner(t)); err != nil {
		t.Fatal(err)
	}

	for _, kept := range []string{deviceNumber, `"A=<b>"`, `"ociVersion":"1.2.0"`, `"cwd":"/work"`} {
		if content := read(t, folder); !strings.Contains(content, kept) {
			t.Errorf("%s is gone from %s", kept, content)
		}
	}

	info, err := os.Stat(filepath.Join(folder, "config.json"))
	if err != nil {
		t.Fatal(err)
	}

	if mode := info.Mode().Perm(); mode != 0o640 {
		t.Errorf("mode %o", mode)
	}
}

func TestErrorsNameTheirSubject(t *testing.T) {
	two := image(t, `["/"]`, map[string]string{"a.wasm": wasm, "b.wasm": wasm})
	if _, err := Prepare(two, runner(t)); err == nil || !strings.Contains(err.Error(), "/a.wasm, /b.wasm") {
		t.Errorf("two modules: %v", err)
	}

	one := image(t, `["/a.wasm"]`, map[string]string{"a.wasm": wasm})
	if _, err := Prepare(one, "/no/such/runner"); err == nil || !strings.Contains(err.Error(), "/no/such/runner") {
		t.Errorf("no runner: %v", err)
	}

	if _, err := Prepare(t.TempDir(), runner(t)); err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("no bundle: %v", err)
	}
}

func TestASpinManifestDecidesWhateverTheEntrypointIs(t *testing.T) {
	for name, args := range map[string]string{"a module": `["/answer.wasm"]`, "a program": `["/bin/sh"]`, "nothing": `["/"]`} {
		t.Run(name, func(t *testing.T) {
			folder := image(t, args, map[string]string{"spin.toml": "spin_manifest_version = 2\n", "answer.wasm": wasm, "bin/sh": elf})

			found, err := Prepare(folder, runner(t))
			if err != nil || found != Manifest {
				t.Fatalf("%q, %v", found, err)
			}

			if want := `"args":["` + Mountpoint + `","--spin","/spin.toml"]`; !strings.Contains(read(t, folder), want) {
				t.Errorf("no %s in %s", want, read(t, folder))
			}
		})
	}
}
