package kernel

import "testing"

func TestSysctlPath(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":        "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.proxy": "net/ipv4/conf/eth0.1/proxy",
		"net/ipv4/ip_forward":        "net/ipv4/ip_forward",
	} {
		if got := SysctlPath(key); got != want {
			t.Errorf("SysctlPath(%q) = %q, want %q", key, got, want)
		}
	}
}
