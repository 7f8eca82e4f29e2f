package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lab/images/spin/internal/commandline"
)

func TestErrorsReachTheLogInTheFormatAskedFor(t *testing.T) {
	folder := t.TempDir()
	invocation := commandline.Parse([]string{
		"--log", filepath.Join(folder, "log.json"), "--log-format", "json", "create", "--bundle", folder, "id",
	})

	err := prepare(invocation)
	if err == nil {
		t.Fatal("a bundle without config.json was accepted")
	}

	report(invocation, err)

	content, err := os.ReadFile(invocation.Log)
	if err != nil {
		t.Fatal(err)
	}

	var written entry
	if err := json.Unmarshal(content, &written); err != nil {
		t.Fatal(err)
	}

	if written.Level != "error" || !strings.Contains(written.Message, "config.json") {
		t.Errorf("got %+v", written)
	}
}

func TestOtherCommandsDoNotLookAtTheBundle(t *testing.T) {
	for _, command := range []string{"start", "state", "kill", "delete", "ps", "update", "pause", "resume", "events"} {
		if err := prepare(commandline.Parse([]string{"--root", "/r", command, "id"})); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}
