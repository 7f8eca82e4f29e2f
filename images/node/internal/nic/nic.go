// Package nic brings up the node's network: the loopback, the first physical interface, and its DHCP lease.
package nic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lab/images/node/internal/console"
)

// Lease is what the node learned from DHCP.
type Lease struct {
	Link       string
	Address    netip.Prefix
	Gateway    netip.Addr
	DNS        []netip.Addr
	NTP        []netip.Addr // option 42
	Hostname   string
	Domain     string
	Expiry     time.Duration
	MTU        int
	underlying *nclient4.Lease
}

// Up brings the loopback and the first physical interface up and takes a lease. It asks until there is one: a node
// without an address has nothing else to do, and says every ten seconds that it waits.
func Up(ctx context.Context) (Lease, error) {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		if err := netlink.LinkSetUp(lo); err != nil {
			return Lease{}, fmt.Errorf("bring up lo: %w", err)
		}
	}

	link, err := physical(ctx)
	if err != nil {
		return Lease{}, err
	}

	name := link.Attrs().Name

	if err := netlink.LinkSetUp(link); err != nil {
		return Lease{}, fmt.Errorf("bring up %s: %w", name, err)
	}

	for attempt := 1; ; attempt++ {
		lease, err := request(ctx, name, nil)
		if err == nil {
			return lease, apply(link, lease)
		}

		if ctx.Err() != nil {
			return Lease{}, ctx.Err()
		}

		if attempt%5 == 0 {
			console.Printf("no DHCP lease on %s after %d attempts: %v", name, attempt, err)
		}
	}
}

// Keep renews the lease at half its time until the context ends. A server that is gone costs the node nothing as
// long as the lab's leases are fixed: the address is kept.
func Keep(ctx context.Context, lease Lease) {
	for {
		half := max(lease.Expiry/2, time.Minute)

		select {
		case <-ctx.Done():
			return
		case <-time.After(half):
		}

		renewed, err := request(ctx, lease.Link, lease.underlying)
		if err != nil {
			console.Printf("DHCP lease of %s was not renewed, keeping %s: %v", lease.Link, lease.Address, err)

			continue
		}

		if renewed.Address != lease.Address {
			console.Printf("DHCP offers %s instead of %s; a node keeps its address until it reboots", renewed.Address, lease.Address)

			continue
		}

		lease = renewed
	}
}

// physical returns the first interface that has a device behind it, waiting for the driver for at most 10 s.
func physical(ctx context.Context) (netlink.Link, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()

	for {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("list network interfaces: %w", err)
		}

		for _, l := range links {
			if _, err := os.Stat("/sys/class/net/" + l.Attrs().Name + "/device"); err == nil {
				return l, nil
			}
		}

		select {
		case <-ctx.Done():
			return nil, errors.New("no physical network interface within 10 s: does the machine have a virtio-net device?")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func request(ctx context.Context, link string, old *nclient4.Lease) (Lease, error) {
	client, err := nclient4.New(link, nclient4.WithTimeout(500*time.Millisecond), nclient4.WithRetry(4))
	if err != nil {
		return Lease{}, fmt.Errorf("open a DHCP socket on %s: %w", link, err)
	}
	defer client.Close()

	var got *nclient4.Lease

	options := dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionHostName,
		dhcpv4.OptionDomainName, dhcpv4.OptionNTPServers, dhcpv4.OptionInterfaceMTU,
	)

	if old != nil {
		got, err = client.Renew(ctx, old, options)
	} else {
		got, err = client.Request(ctx, options)
	}

	if err != nil {
		return Lease{}, err
	}

	return fromACK(link, got)
}

func fromACK(link string, l *nclient4.Lease) (Lease, error) {
	ack := l.ACK

	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok {
		return Lease{}, fmt.Errorf("the DHCP server gave no address but %s", ack.YourIPAddr)
	}

	ones, _ := ack.SubnetMask().Size()
	lease := Lease{
		Link:       link,
		Address:    netip.PrefixFrom(address, ones),
		Hostname:   strings.TrimRight(ack.HostName(), "\x00"),
		Domain:     ack.DomainName(),
		Expiry:     ack.IPAddressLeaseTime(time.Hour),
		DNS:        addresses(ack.DNS()),
		NTP:        addresses(ack.NTPServers()),
		underlying: l,
	}

	if routers := addresses(ack.Router()); len(routers) > 0 {
		lease.Gateway = routers[0]
	}

	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil {
		lease.MTU = int(mtu)
	}

	return lease, nil
}

func addresses(ips []net.IP) []netip.Addr {
	var out []netip.Addr

	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok {
			out = append(out, a)
		}
	}

	return out
}

func apply(link netlink.Link, lease Lease) error {
	if lease.MTU >= 576 {
		if err := netlink.LinkSetMTU(link, lease.MTU); err != nil {
			console.Printf("MTU %d of the DHCP lease was not set: %v", lease.MTU, err)
		}
	}

	address := &netlink.Addr{IPNet: prefixNet(lease.Address)}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("set address %s on %s: %w", lease.Address, lease.Link, err)
	}

	if lease.Gateway.IsValid() {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: lease.Gateway.AsSlice(), Protocol: unix.RTPROT_DHCP}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("set the default route over %s: %w", lease.Gateway, err)
		}
	}

	return nil
}

func prefixNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// WriteResolvConf writes the resolver's file for the given name servers.
func WriteResolvConf(path string, servers []netip.Addr, domain string) error {
	var b bytes.Buffer

	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}

	if domain != "" {
		fmt.Fprintf(&b, "search %s\n", domain)
	}

	return os.WriteFile(path, b.Bytes(), 0o644)
}

// Addresses lists the global unicast addresses of all interfaces that belong to the host, not to its pods.
func Addresses(exclude ...netip.Prefix) []netip.Prefix {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil
	}

	var out []netip.Prefix

	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()

		if !ok || !ip.IsGlobalUnicast() || slices.ContainsFunc(exclude, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			continue
		}

		ones, _ := a.Mask.Size()
		out = append(out, netip.PrefixFrom(ip, ones))
	}

	return out
}
