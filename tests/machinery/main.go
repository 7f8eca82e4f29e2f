// Command machinery answers questions about machine configs with Sidero's own machinery library, so
// that what the lab generates is checked against the official implementation instead of against
// itself.
//
// Three builds exist: go.mod pins the library of Talos 1.13, go.v1.12.mod and go.v1.11.mod (go build
// -modfile) those of Talos 1.12 and 1.11. Questions are JSON objects, one a line, on standard input; each gets one line on
// standard output. The program ends with its input.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// question is one line of input; which fields count depends on Ask.
type question struct {
	Ask string `json:"ask"`
	// Config is a machine config, talosconfig or secrets bundle, as YAML.
	Config  string   `json:"config"`
	Patches []string `json:"patches"`
	Cluster cluster  `json:"cluster"`
}

// answer is one line of output: Refusal is the library's error, empty when it accepts.
type answer struct {
	Refusal string `json:"refusal"`
	Result  string `json:"result"`
}

var questions = map[string]func(question) (string, error){
	"validate":    validate,
	"normalise":   normalise,
	"patch":       patch,
	"secrets":     checkSecrets,
	"talosconfig": checkTalosconfig,
	"generate":    generateConfig,
	"keys":        keys,
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "machinery:", err)
		os.Exit(1)
	}
}

func run() error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)

	out := json.NewEncoder(os.Stdout)

	for in.Scan() {
		var q question
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			return fmt.Errorf("read a question: %w", err)
		}

		reply, known := questions[q.Ask]
		if !known {
			return fmt.Errorf("unknown question %q", q.Ask)
		}

		var a answer

		result, err := asked(reply, q)
		if err != nil {
			a.Refusal = err.Error()
		}

		a.Result = result

		if err := out.Encode(a); err != nil {
			return err
		}
	}

	return in.Err()
}

// asked answers a question. A panic of the library is a refusal: it panics on some texts that are no configs.
func asked(reply func(question) (string, error), q question) (result string, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			result, err = "", fmt.Errorf("panic: %v", reason)
		}
	}()

	return reply(q)
}
