package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"lab/images/spin/internal/commandline"
)

// entry is a line of runc's log. containerd takes the last one of level error for the reason that kubelet shows.
type entry struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Time    string `json:"time"`
}

// line renders the entry in the format that the caller asked runc for.
func (e entry) line(format string) string {
	if format != "json" {
		return fmt.Sprintf("time=%q level=%s msg=%q\n", e.Time, e.Level, e.Message)
	}

	content, err := json.Marshal(e)
	if err != nil {
		return e.Message + "\n" // cannot be: three strings
	}

	return string(content) + "\n"
}

// report tells an error where runc would: on standard error and in the log file.
func report(invocation commandline.Invocation, err error) {
	failure := entry{
		Level: "error", Message: "spin-runtime: " + err.Error(), Time: time.Now().UTC().Format(time.RFC3339),
	}
	fmt.Fprint(os.Stderr, failure.line("text"))

	if invocation.Log == "" {
		return
	}

	file, err := os.OpenFile(invocation.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintf(os.Stderr, "spin-runtime: opening the log: %v\n", err)

		return
	}
	defer file.Close()

	if _, err := file.WriteString(failure.line(invocation.LogFormat)); err != nil {
		fmt.Fprintf(os.Stderr, "spin-runtime: writing the log: %v\n", err)
	}
}
