package api

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheLastLifeOfAContainerHasTheLog(t *testing.T) {
	root := t.TempDir()

	for _, name := range []string{"2.log", "10.log", "10.log.20261129"} {
		path := filepath.Join(root, "kube-system_coredns-1_uid", "coredns", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}

	path, err := podLog(root, "kube-system/coredns-1", "coredns")
	if err != nil || !strings.HasSuffix(path, "/coredns/10.log") {
		t.Fatalf("got %s, %v", path, err)
	}

	if _, err := podLog(root, "kube-system/coredns-1", "other"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a container without a log: got %v", err)
	}
}

func TestLogsAreCutToTheirLastLines(t *testing.T) {
	for lines, want := range map[int]string{-1: "a\nb\nc\n", 0: "", 1: "c\n", 2: "b\nc\n", 9: "a\nb\nc\n"} {
		if got := string(lastLines([]byte("a\nb\nc\n"), lines)); got != want {
			t.Errorf("%d lines: got %q", lines, got)
		}
	}
}
