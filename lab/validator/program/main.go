// Command validator says what Talos says about machine configs and patches. It links
// github.com/siderolabs/talos/pkg/machinery, the library with which Talos and talosctl read them.
//
// There is one build for each supported release: go.mod pins the library of Talos 1.13, go.v1.12.mod
// and go.v1.11.mod (go build -modfile) those of 1.12 and 1.11.
//
// Standard input holds requests, standard output gets one answer for each, both as JSON. The program
// ends with its input. It opens no file and no connection.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
)

const library = "github.com/siderolabs/talos/pkg/machinery"

// request is a set of texts that are judged independently of each other.
type request struct {
	// Bases are the configs over which patches are laid.
	Bases []base `json:"bases"`
	Texts []text `json:"texts"`
}

type base struct {
	Text string `json:"text"`
	// Generated is set for a base that stands for a config that nobody gave: what it does not contain,
	// the real one may contain.
	Generated bool `json:"generated"`
}

type text struct {
	Text string `json:"text"`
	// Bases are indices into the bases of the request. A text without bases is a whole config; a text
	// with bases is a patch, which is accepted if it fits one of them.
	Bases []int `json:"bases"`
}

type answer struct {
	// Library is the version of the library.
	Library  string     `json:"library"`
	Verdicts []judgment `json:"verdicts"`
}

// judgment is what the library says about a text.
type judgment struct {
	Accepted bool      `json:"accepted"`
	Findings []finding `json:"findings"`
}

// finding is one error or warning of the library.
type finding struct {
	// Stage is "load", "patch", "validate", "warning", or "missing" for a deletion of what a generated
	// base does not contain.
	Stage string `json:"stage"`
	// Line is where the document begins that does not load; 0 if the library does not say it.
	Line int `json:"line"`
	// About is the document that the library names before an error of validation.
	About string `json:"about"`
	Text  string `json:"text"`
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "validator:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	version := libraryVersion()

	for {
		var asked request

		switch err := requests.Decode(&asked); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		}

		verdicts, err := judgeAll(asked)
		if err != nil {
			return err
		}

		if err := answers.Encode(answer{Library: version, Verdicts: verdicts}); err != nil {
			return err
		}
	}
}

func judgeAll(asked request) ([]judgment, error) {
	bases := make([]*readBase, len(asked.Bases))
	for i, base := range asked.Bases {
		bases[i] = readBaseOnce(base)
	}

	verdicts := make([]judgment, len(asked.Texts))

	for _, text := range asked.Texts {
		for _, index := range text.Bases {
			if index < 0 || index >= len(bases) {
				return nil, fmt.Errorf("there is no base %d", index)
			}
		}
	}

	work := make(chan int)

	var workers sync.WaitGroup

	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range work {
				verdicts[i] = judge(asked.Texts[i], bases)
			}
		})
	}

	for i := range asked.Texts {
		work <- i
	}

	close(work)
	workers.Wait()

	return verdicts, nil
}

func libraryVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}

	for _, module := range info.Deps {
		if module.Path == library {
			return module.Version
		}
	}

	return ""
}
