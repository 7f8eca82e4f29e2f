package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	jsonpatch "github.com/evanphx/json-patch"
	multierror "github.com/hashicorp/go-multierror"
	coreconfig "github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
)

// metal is the mode in which Talos validates a config on a machine that boots from its own disk.
type metal struct{}

func (metal) String() string        { return "metal" }
func (metal) RequiresInstall() bool { return true }
func (metal) InContainer() bool     { return false }

// judge asks the library about one text. A panic of the library is a refusal.
func judge(asked text, bases []*readBase) (verdict judgment) {
	defer func() {
		if reason := recover(); reason != nil {
			verdict = judgment{Findings: []finding{{Stage: "load", Text: fmt.Sprintf("panic: %v", reason)}}}
		}
	}()

	if len(asked.Bases) == 0 {
		return judgeConfig(asked.Text)
	}

	return judgePatch(asked, bases)
}

func judgeConfig(text string) judgment {
	cfg, err := configloader.NewFromBytes([]byte(text))
	if err != nil {
		return refused(loadFindings(text, err))
	}

	return verdictOf(validate(cfg))
}

// judgePatch lays a patch over each of its bases and returns the most favourable verdict.
func judgePatch(asked text, bases []*readBase) judgment {
	patch, err := configpatcher.LoadPatch([]byte(asked.Text))
	if err != nil {
		return refused(loadFindings(asked.Text, err, configloader.WithAllowPatchDelete()))
	}

	var first *judgment

	for _, index := range asked.Bases {
		verdict := judgeOver(patch, bases[index])
		if verdict.Accepted {
			return verdict
		}

		if first == nil {
			first = &verdict
		}
	}

	return *first
}

// readBase is a base with what the library says about it without a patch.
type readBase struct {
	base
	once  sync.Once
	cfg   coreconfig.Provider
	err   error
	known []finding
}

func readBaseOnce(base base) *readBase { return &readBase{base: base} }

func (b *readBase) read() (coreconfig.Provider, []finding, error) {
	b.once.Do(func() {
		if b.cfg, b.err = configloader.NewFromBytes([]byte(b.Text)); b.err == nil {
			b.known = validate(b.cfg)
		}
	})

	return b.cfg, b.known, b.err
}

// judgeOver returns what is wrong with a config after a patch and was not wrong before it.
func judgeOver(patch configpatcher.Patch, base *readBase) judgment {
	cfg, known, err := base.read()
	if err != nil {
		return refused([]finding{{Stage: "patch", Text: "the base does not load: " + err.Error()}})
	}

	patched, missing, err := apply(cfg, patch, base.Generated)
	if err != nil {
		return refused(append([]finding{{Stage: "patch", Text: err.Error()}}, missing...))
	}

	if patched == nil {
		return verdictOf(missing)
	}

	found := slices.DeleteFunc(validate(patched), func(f finding) bool { return slices.Contains(known, f) })

	return verdictOf(append(found, missing...))
}

// apply applies a patch as talosctl does, and reads the result as a machine does. It returns no config if
// the patch needs what a generated base does not contain.
func apply(cfg coreconfig.Provider, patch configpatcher.Patch, generated bool) (coreconfig.Provider, []finding, error) {
	var missing []finding

	switch patch := patch.(type) {
	case configpatcher.StrategicMergePatch:
		for _, document := range patch.Documents() {
			next, err := configpatcher.StrategicMerge(cfg, single{document, cfg})
			selector, deletes := document.(configloader.Selector)

			// The library keeps a deletion of a document that is not there as a document of the config.
			if deletes && err == nil && slices.ContainsFunc(next.Documents(), isSelector) {
				err = fmt.Errorf("there is no %s document to delete: %w", selector.Kind(), configloader.ErrLookupFailed)
			}

			switch {
			case err == nil:
				cfg = next
			case generated && deletes && errors.Is(err, configloader.ErrLookupFailed):
				missing = append(missing, finding{Stage: "missing", Text: err.Error()})
			default:
				return nil, missing, err
			}
		}
	default:
		out, err := configpatcher.Apply(configpatcher.WithConfig(cfg), []configpatcher.Patch{patch})
		if err != nil {
			if generated && needsMore(err) {
				return nil, []finding{{Stage: "missing", Text: err.Error()}}, nil
			}

			return nil, nil, err
		}

		if cfg, err = out.Config(); err != nil {
			return nil, nil, err
		}
	}

	written, err := cfg.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		return nil, missing, err
	}

	cfg, err = configloader.NewFromBytes(written)

	return cfg, missing, err
}

// needsMore tells that an operation of a JSON patch needs what the config does not contain. The patcher wraps the
// errors of the JSON package as texts.
func needsMore(err error) bool {
	reasons := []error{jsonpatch.ErrMissing, jsonpatch.ErrTestFailed, jsonpatch.ErrInvalidIndex}

	return slices.ContainsFunc(reasons, func(reason error) bool {
		return strings.Contains(err.Error(), reason.Error())
	})
}

func isSelector(document config.Document) bool {
	_, is := document.(configloader.Selector)

	return is
}

// single is a patch of one document.
type single struct {
	document config.Document
	provider coreconfig.Provider
}

func (s single) Documents() []config.Document  { return []config.Document{s.document} }
func (s single) Provider() coreconfig.Provider { return s.provider }

func validate(cfg coreconfig.Provider) []finding {
	if !cfg.CompleteForBoot() {
		return []finding{{Stage: "validate", Text: "machine instructions are required"}}
	}

	warnings, err := cfg.Validate(metal{})
	found := flatten(err, "")

	for _, warning := range warnings {
		found = append(found, finding{Stage: "warning", Text: warning})
	}

	return found
}

// flatten returns each error of a tree of errors, with the words that the library writes before a group.
func flatten(err error, about string) []finding {
	if err == nil {
		return nil
	}

	var group *multierror.Error

	switch wrapped := err.(type) { //nolint:errorlint // each level is looked at
	case *multierror.Error:
		var found []finding
		for _, inner := range wrapped.Errors {
			found = append(found, flatten(inner, about)...)
		}

		return found
	case interface{ Unwrap() []error }:
		var found []finding
		for _, inner := range wrapped.Unwrap() {
			found = append(found, flatten(inner, about)...)
		}

		return found
	}

	if inner := errors.Unwrap(err); inner != nil && errors.As(inner, &group) {
		prefix := strings.TrimSuffix(err.Error(), inner.Error())
		if prefix != err.Error() {
			about = strings.TrimSpace(about + " " + strings.TrimRight(prefix, ": "))
		}

		return flatten(inner, about)
	}

	return []finding{{Stage: "validate", About: about, Text: err.Error()}}
}

// documentStart matches the line between two documents.
var documentStart = regexp.MustCompile(`(?m)^---(?:[ \t].*)?\r?$`)

// loadFindings returns why each document of a text does not load. The library stops at the first.
func loadFindings(text string, whole error, options ...configloader.Opt) []finding {
	var found []finding

	starts := [][]int{{0, 0}}
	starts = append(starts, documentStart.FindAllStringIndex(text, -1)...)

	if len(starts) > 1 && !bytes.HasPrefix([]byte(text), []byte("%")) {
		for i, start := range starts {
			end := len(text)
			if i+1 < len(starts) {
				end = starts[i+1][0]
			}

			// The lines keep their numbers.
			line := strings.Count(text[:start[0]], "\n")
			document := strings.Repeat("\n", line) + text[start[0]:end]

			_, err := configloader.NewFromBytes([]byte(document), options...)
			if err != nil && !errors.Is(err, configloader.ErrNoConfig) {
				found = append(found, finding{Stage: "load", Line: line + 1, Text: err.Error()})
			}
		}
	}

	if len(found) == 0 {
		found = []finding{{Stage: "load", Text: whole.Error()}}
	}

	return found
}

func refused(findings []finding) judgment { return judgment{Findings: findings} }

func verdictOf(findings []finding) judgment {
	accepted := !slices.ContainsFunc(findings, func(f finding) bool {
		return f.Stage != "warning" && f.Stage != "missing"
	})
	if findings == nil {
		findings = []finding{}
	}

	return judgment{Accepted: accepted, Findings: findings}
}
