package main

import (
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"
)

// cluster is what talosctl gen config is told.
type cluster struct {
	Name              string   `json:"name"`
	Endpoint          string   `json:"endpoint"`
	Contract          string   `json:"contract"`
	KubernetesVersion string   `json:"kubernetesVersion"`
	Kind              string   `json:"kind"`
	Pods              []string `json:"pods"`
	Services          []string `json:"services"`
	DNSDomain         string   `json:"dnsDomain"`
	InstallDisk       string   `json:"installDisk"`
}

// generateConfig makes the config that talosctl gen config makes, from the secrets bundle in Config.
func generateConfig(q question) (string, error) {
	bundle, err := loadSecrets(q.Config)
	if err != nil {
		return "", err
	}

	contract, err := config.ParseContractFromVersion(q.Cluster.Contract)
	if err != nil {
		return "", err
	}

	kind, err := machine.ParseType(q.Cluster.Kind)
	if err != nil {
		return "", err
	}

	input, err := generate.NewInput(q.Cluster.Name, q.Cluster.Endpoint, q.Cluster.KubernetesVersion,
		generate.WithSecretsBundle(bundle),
		generate.WithVersionContract(contract),
		generate.WithDNSDomain(q.Cluster.DNSDomain),
		generate.WithInstallDisk(q.Cluster.InstallDisk),
	)
	if err != nil {
		return "", err
	}

	input.PodNet, input.ServiceNet = q.Cluster.Pods, q.Cluster.Services

	cfg, err := input.Config(kind)
	if err != nil {
		return "", err
	}

	return encode(cfg)
}
