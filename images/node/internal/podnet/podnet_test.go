package podnet

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"
)

func TestConfListCarriesTheRangesOfTheNode(t *testing.T) {
	b, err := RenderConfList([]netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")})
	if err != nil {
		t.Fatal(err)
	}

	var got struct {
		Plugins []struct {
			Type string
			IPAM struct {
				Ranges [][]struct{ Subnet string }
				Routes []struct{ Dst string }
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}

	bridge := got.Plugins[0]
	if bridge.Type != "bridge" || bridge.IPAM.Ranges[0][0].Subnet != "10.244.1.0/24" || bridge.IPAM.Routes[0].Dst != "0.0.0.0/0" || got.Plugins[1].Type != "portmap" {
		t.Fatalf("%s", b)
	}
}

func TestNodeConditions(t *testing.T) {
	var n node
	if err := json.Unmarshal([]byte(`{"status":{"addresses":[{"type":"Hostname","address":"w1"},{"type":"InternalIP","address":"10.5.0.3"}],
		"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"True","lastHeartbeatTime":"2026-11-21T05:00:00Z"}]}}`), &n); err != nil {
		t.Fatal(err)
	}

	ip, ok := n.internalIP()
	if !ok || ip.String() != "10.5.0.3" {
		t.Fatalf("%+v", n)
	}

	report := time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)
	if !n.ready(report) {
		t.Error("a report of this boot does not count")
	}

	if n.ready(report.Add(time.Second)) {
		t.Error("a report from before this boot counts")
	}
}
