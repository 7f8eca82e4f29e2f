//! Addresses and names of the public internet, as opposed to this host and private networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of the public internet (IANA special-purpose registries, RFC 6890): not of this host, of a
/// private network, of a link, of a carrier or of a tailnet (100.64.0.0/10).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    // Translated and tunnelled addresses (RFC 6052, RFC 3056, RFC 4380) have an IPv4 address within.
    let translated =
        (first == 0x64 && second == 0xff9b) || first == 0x2002 || (first == 0x2001 && second == 0);
    // 2000::/3 is all that is assigned for global unicast.
    first & 0xe000 == 0x2000 && !translated && !(first == 0x2001 && second == 0xdb8)
}

/// Whether a host, a name or an address as in a URL, can be of the public internet. Names without a dot and of local
/// domains cannot (RFC 6761, RFC 6762, RFC 8375).
pub fn may_be_public(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_public(address);
    }
    let local = ["localhost", "local", "internal", "home.arpa", "lan", "intranet", "corp", "home", "private"];
    let last_is_number =
        host.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    host.contains('.')
        && !last_is_number
        && !local.iter().any(|domain| host == *domain || host.ends_with(&format!(".{domain}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for address in ["1.1.1.1", "8.8.8.8", "140.82.112.3", "2606:4700::1111", "100.128.0.1", "172.32.0.1"]
        {
            assert!(is_public(address.parse().expect(address)), "{address}");
        }
        for address in [
            "127.0.0.1",
            "127.255.0.1",
            "10.5.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.100.100.100",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fd7a:115c:a1e0::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(address.parse().expect(address)), "{address}");
        }
    }

    #[test]
    fn local_names_and_odd_forms_of_addresses_are_not_public() {
        for host in ["registry.k8s.io", "ghcr.io", "1.1.1.1", "[2606:4700::1111]", "xn--e1a.example"] {
            assert!(may_be_public(host), "{host}");
        }
        for host in [
            "localhost",
            "a.localhost",
            "LOCALHOST.",
            "printer.local",
            "metadata.google.internal",
            "router",
            "[::1]",
            "127.0.0.1",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "1.2.3.0x4",
            "",
            ".",
            "a.home.arpa",
        ] {
            assert!(!may_be_public(host), "{host}");
        }
    }
}
