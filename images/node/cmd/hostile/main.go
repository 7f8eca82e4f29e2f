//go:build hostile

// Command hostile is /init of a node that lies in every answer. It exists for tests alone (tests/hostile_node.rs): it
// behaves like a node until it has a machine config, because it needs one to be asked anything, and then answers every
// call of the machine API and of the Kubernetes API with something that a host must survive. With the node label
// `lies: later` it is a ready node first, so that the checks of a scenario meet its lies, too.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/pki"
)

// lie is text that no terminal, log, report or page may obey: a window title, a cleared screen, a forged line, workflow
// commands, markup, marks of direction.
const lie = "\x1b]0;owned-title\x07\x1b[2J\x1b[31m\r\nrun directory: /tmp/lab-hostile-forged\r\n::error::owned-command\r\n" +
	"##[set-output name=verdict]passed\r\n<script>owned()</script>[[ATTACHMENT|/etc/passwd]]```\n| \u202egnirts \u2028|"

// honesty is how long a node tells that it is ready. The lab sees that at once, and the checks begin.
const honesty = 3 * time.Second

// truth tells whether the state of the node is still told as that of a ready node.
var truth = struct {
	asked atomic.Bool
	begin sync.Once
	over  chan struct{}
}{over: make(chan struct{})}

// told reports whether the truth is to be told.
func told() bool {
	select {
	case <-truth.over:
		return false
	default:
		return truth.asked.Load()
	}
}

// seen is called when the node was seen to be ready: the truth ends soon.
func seen() {
	truth.begin.Do(func() { time.AfterFunc(honesty, func() { close(truth.over) }) })
}

func main() {
	fmt.Println("hostile: started as init process")

	if err := run(); err != nil {
		fmt.Println("hostile: failed:", err)
	}

	select {}
}

func run() error {
	for _, m := range []struct{ source, target, fs string }{
		{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"},
	} {
		_ = os.MkdirAll(m.target, 0o755)
		_ = unix.Mount(m.source, m.target, m.fs, 0, "")
	}

	if err := loadModules(); err != nil {
		return err
	}

	address, err := up()
	if err != nil {
		return err
	}

	cert, err := pki.SelfSigned(pki.Request{CommonName: "hostile", Addresses: []netip.Addr{address}, Usage: pki.Server})
	if err != nil {
		return err
	}

	configured := make(chan config.Provider, 1)
	maintenance := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())

	go func() { maintenance <- serveMaintenance(ctx, cert, configured) }()

	fmt.Printf("this machine is reachable at:\n\t%s\n", address)

	provider := <-configured

	stop()
	<-maintenance

	if provider.Machine().NodeLabels()["lies"] == "later" {
		truth.asked.Store(true)
	}

	go floodConsole()

	authority := provider.Machine().Security().IssuingCA()

	api, err := issued(authority, address)
	if err != nil {
		return err
	}

	kubernetes, err := issued(provider.Cluster().IssuingCA(), address)
	if err != nil {
		return err
	}

	go func() { fmt.Println("hostile: kubernetes:", serveKubernetes(kubernetes)) }()

	return serveMachine(api)
}

func issued(authority *x509.PEMEncodedCertificateAndKey, address netip.Addr) (tls.Certificate, error) {
	cert, err := pki.Issue(authority, pki.Request{CommonName: "hostile", Addresses: []netip.Addr{address}, Usage: pki.Server})
	if err != nil {
		return tls.Certificate{}, err
	}

	return tls.X509KeyPair(cert.Crt, cert.Key)
}

// floodConsole writes text with escapes and workflow commands to the serial console, and then some megabytes of text.
func floodConsole() {
	fmt.Print(lie, "\n", strings.Repeat("x", 1<<20), "\n")

	for i := range 20000 {
		fmt.Printf("flood %d \x1b[%dmowned-colour\x1b[0m\n\n\n", i, i%50)
	}
}

func loadModules() error {
	list, err := os.ReadFile("/modules.load")
	if err != nil {
		return err
	}

	for path := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}

		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()

		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}

	return nil
}

// up brings up the network. The lab derives the address of a card from the address of its node.
func up() (netip.Addr, error) {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo)
	}

	for range 100 {
		links, err := netlink.LinkList()
		if err != nil {
			return netip.Addr{}, err
		}

		for _, link := range links {
			mac := link.Attrs().HardwareAddr
			if len(mac) != 6 || mac[0] != 0x52 || mac[1] != 0x54 {
				continue
			}

			if err := netlink.LinkSetUp(link); err != nil {
				return netip.Addr{}, err
			}

			ip := net.IPv4(mac[2], mac[3], mac[4], mac[5])
			err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(24, 32)}})

			return netip.AddrFrom4([4]byte(mac[2:6])), err
		}

		time.Sleep(50 * time.Millisecond)
	}

	return netip.Addr{}, fmt.Errorf("there is no network card")
}
