package main

import (
	"fmt"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
)

// metal is the mode in which Talos validates a config on a machine that boots from its own disk.
type metal struct{}

func (metal) String() string        { return "metal" }
func (metal) RequiresInstall() bool { return true }
func (metal) InContainer() bool     { return false }

// validate loads and validates a config; the result holds the warnings.
func validate(q question) (string, error) {
	cfg, err := configloader.NewFromBytes([]byte(q.Config))
	if err != nil {
		return "", err
	}

	if !cfg.CompleteForBoot() {
		return "", fmt.Errorf("the config is not complete enough to boot from")
	}

	warnings, err := cfg.Validate(metal{})

	return fmt.Sprint(warnings), err
}

// normalise loads a config and writes it again, so that two spellings of one config compare equal.
func normalise(q question) (string, error) {
	cfg, err := configloader.NewFromBytes([]byte(q.Config))
	if err != nil {
		return "", err
	}

	return encode(cfg)
}

// patch lays patches over a config as talosctl does.
func patch(q question) (string, error) {
	patches := make([]configpatcher.Patch, 0, len(q.Patches))

	for i, text := range q.Patches {
		p, err := configpatcher.LoadPatch([]byte(text))
		if err != nil {
			return "", fmt.Errorf("patch %d: %w", i+1, err)
		}

		patches = append(patches, p)
	}

	cfg, err := configloader.NewFromBytes([]byte(q.Config))
	if err != nil {
		return "", err
	}

	for i, p := range patches {
		out, err := configpatcher.Apply(configpatcher.WithConfig(cfg), []configpatcher.Patch{p})
		if err != nil {
			return "", err
		}

		if cfg, err = out.Config(); err != nil {
			return "", err
		}

		// The library keeps the deletion of a document that is not there as a document of the config
		// and panics when it writes it (v1.13.9, configpatcher.StrategicMerge). That is a refusal.
		for _, document := range cfg.Documents() {
			if selector, left := document.(configloader.Selector); left {
				return "", fmt.Errorf("patch %d: there is no %s to delete", i+1, selector.Kind())
			}
		}
	}

	return encode(cfg)
}

func encode(cfg config.Provider) (string, error) {
	text, err := cfg.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))

	return string(text), err
}
