package machine

import (
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"

	"lab/images/node/internal/supervise"
)

func TestUnmetConditions(t *testing.T) {
	up := func(id string) supervise.Status { return supervise.Status{ID: id, State: supervise.StateRunning} }
	sick := func(id string) supervise.Status {
		return supervise.Status{ID: id, State: supervise.StateRunning, HasHealth: true}
	}
	worker := []supervise.Status{up("apid"), up("machined"), up("kubelet")}

	for name, tc := range map[string]struct {
		services     []supervise.Status
		controlPlane bool
		synced       bool
		want         string
	}{
		"a complete worker":                    {worker, false, true, ""},
		"the clock":                            {worker, false, false, "time: time is not synced"},
		"a control plane needs more":           {worker, true, true, "services: etcd not running, trustd not running"},
		"an unhealthy service":                 {append(worker[:2:2], sick("kubelet")), false, true, "services: kubelet not healthy"},
		"a waiting extension does not count":   {append(worker, supervise.Status{ID: "ext-tailscale", State: supervise.StateWaiting}), false, true, ""},
		"what Talos would run as a static pod": {append(worker, supervise.Status{ID: "kube-proxy", State: supervise.StateWaiting, Background: true}), false, true, "staticPods: kube-proxy not running"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range unmetConditions(tc.services, tc.controlPlane, tc.synced) {
				got = append(got, c.Name+": "+c.Reason)
			}

			if text := strings.Join(got, "; "); text != tc.want {
				t.Fatalf("got %q, want %q", text, tc.want)
			}
		})
	}
}

func TestImmediateObstacle(t *testing.T) {
	const base = "version: v1alpha1\nmachine: {type: worker, sysctls: {a: b}}\ncluster: {controlPlane: {endpoint: \"https://10.5.0.10:6443\"}}\n"

	load := func(text string) config.Provider {
		cfg, err := configloader.NewFromBytes([]byte(text))
		if err != nil {
			t.Fatal(err)
		}

		return cfg
	}

	for name, tc := range map[string]struct {
		next   string
		reboot bool
	}{
		"nothing":                 {base, false},
		"sysctls":                 {strings.Replace(base, "a: b", "a: c", 1), false},
		"an extension's config":   {base + "---\napiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: tailscale\nenvironment: [TS_AUTHKEY=x]\n", false},
		"the endpoint":            {strings.Replace(base, "10.5.0.10", "10.5.0.11", 1), true},
		"the type of the machine": {strings.Replace(base, "worker", "controlplane", 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := immediateObstacle(load(base), load(tc.next)); (err != nil) != tc.reboot {
				t.Fatalf("reboot wanted: %v, got %v", tc.reboot, err)
			}
		})
	}
}
