package cri

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
)

// HostsDir is where containerd looks for registry settings (config_path), as in Talos.
const HostsDir = "/etc/cri/conf.d/hosts"

// Hosts renders the registry mirrors of a machine config as containerd's hosts.toml files, by directory name. A cache,
// when there is one, is asked first, also for registries without a mirror, as in Talos.
//
// skipFallback makes the last endpoint the server itself, so that nothing is left to fall back to. It is listed as a
// host all the same: containerd 1.7 refuses a file without any ("invalid `host` tree").
func Hosts(mirrors map[string]config.RegistryMirrorConfig, tls map[string]config.RegistryTLSConfig, cache string) (map[string]string, error) {
	out := map[string]string{}

	first := ""
	if cache != "" {
		first = fmt.Sprintf("[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", strconv.Quote(cache))
		out[hostDirectory("*")] = first
	}

	for _, registry := range slices.Sorted(maps.Keys(mirrors)) {
		mirror := mirrors[registry]
		endpoints := mirror.Endpoints()

		var b strings.Builder

		for _, e := range endpoints {
			u, err := url.Parse(e.Endpoint())
			if err != nil || u.Host == "" {
				return nil, fmt.Errorf("registry mirror of %q: %q is not a URL", registry, e.Endpoint())
			}

			fmt.Fprintf(&b, "[host.%s]\n%s", strconv.Quote(e.Endpoint()), hostSettings(e, tls[u.Host], "  "))
		}

		text := first + b.String()

		if mirror.SkipFallback() && len(endpoints) > 0 {
			last := endpoints[len(endpoints)-1]
			u, _ := url.Parse(last.Endpoint()) // parsed above
			text = fmt.Sprintf("server = %s\n%s", strconv.Quote(last.Endpoint()), hostSettings(last, tls[u.Host], "")) + text
		}

		out[hostDirectory(registry)] = text
	}

	return out, nil
}

func hostSettings(e config.RegistryEndpointConfig, tls config.RegistryTLSConfig, indent string) string {
	var b strings.Builder

	fmt.Fprintf(&b, "%scapabilities = [\"pull\", \"resolve\"]\n", indent)

	if e.OverridePath() {
		fmt.Fprintf(&b, "%soverride_path = true\n", indent)
	}

	if tls != nil && tls.InsecureSkipVerify() {
		fmt.Fprintf(&b, "%sskip_verify = true\n", indent)
	}

	return b.String()
}

// hostDirectory is the directory of a registry: colons are not allowed in it, and the wildcard has a name.
func hostDirectory(registry string) string {
	if registry == "*" {
		return "_default"
	}

	if host, port, found := strings.Cut(registry, ":"); found {
		return host + "_" + port + "_"
	}

	return registry
}

// WriteHosts writes the files; a registry whose mirror is gone from the config loses its directory.
func WriteHosts(files map[string]string) error {
	if err := os.RemoveAll(HostsDir); err != nil {
		return err
	}

	if err := os.MkdirAll(HostsDir, 0o755); err != nil {
		return err
	}

	for dir, content := range files {
		path := filepath.Join(HostsDir, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}

		if err := os.WriteFile(filepath.Join(path, "hosts.toml"), []byte(content), 0o600); err != nil {
			return err
		}
	}

	return nil
}
