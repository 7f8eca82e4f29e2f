//! The gateway address towards the host: what a node may ask of the host's loopback.
//!
//! slirp connects the gateway address to the host's loopback, all ports of it. A guest is not trusted with that. The
//! switch lets a node open a connection only to the ports that this run serves, and lets it answer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    net::Ipv4Addr,
    str::FromStr,
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use lab_model::node::NodeName;

use super::packet::{self, ETHERNET};

/// How long a node may answer a datagram from the host. Tailscale sends at least every 25 s over a path in use.
const HEARD: Duration = Duration::from_secs(300);
/// The maximum number of remembered exchanges of datagrams.
const EXCHANGES: usize = 4096;
/// The number of ports of a node that are reported one by one.
const REPORTED: usize = 8;

/// A port of the host's loopback that nodes reach at the gateway address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPort {
    Tcp(u16),
    Udp(u16),
}

/// The text is not a port of the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a port; write a number from 1 to 65535, and /udp after it for UDP: 8080, 3478/udp"
)]
pub struct InvalidHostPort {
    text: String,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "TCP port {port}"),
            Self::Udp(port) => write!(f, "UDP port {port}"),
        }
    }
}

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let invalid = || InvalidHostPort { text: text.to_owned() };
        let port = number.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?;
        match protocol {
            "tcp" => Ok(Self::Tcp(port)),
            "udp" => Ok(Self::Udp(port)),
            _ => Err(invalid()),
        }
    }
}

/// What a node asked of the gateway that it does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unserved {
    Port(HostPort),
    /// A part of a packet. Only its first part would tell the port.
    Fragment,
    /// Another protocol, by its number.
    Protocol(u8),
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "{port}"),
            Self::Fragment => f.write_str("a fragment of a packet"),
            Self::Protocol(number) => write!(f, "IP protocol {number}"),
        }
    }
}

/// One end of an exchange of datagrams: the switch port, the node's address and port, and the port of the host.
type Exchange = (usize, Ipv4Addr, u16, u16);

/// The served ports, and the exchanges that the host began.
#[derive(Default)]
pub struct Gateway {
    served: RwLock<HashSet<HostPort>>,
    heard: Mutex<HashMap<Exchange, Instant>>,
    refused: Mutex<BTreeMap<NodeName, BTreeSet<Unserved>>>,
}

impl Gateway {
    /// Serves a port from now on.
    pub fn serve(&self, port: HostPort) {
        self.served.write().unwrap_or_else(PoisonError::into_inner).insert(port);
    }

    /// Decides on a frame of a node to the gateway address.
    pub fn admits(&self, from: usize, frame: &[u8]) -> Result<(), Unserved> {
        const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3fff;
        const ICMP: u8 = 1;
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        let Some(&[fragment_high, fragment_low, _, protocol]) = frame.get(ETHERNET + 6..ETHERNET + 10) else {
            return Err(Unserved::Fragment);
        };
        if u16::from_be_bytes([fragment_high, fragment_low]) & MORE_FRAGMENTS_AND_OFFSET != 0 {
            return Err(Unserved::Fragment);
        }
        match protocol {
            ICMP => Ok(()),
            TCP => {
                const SYN: u8 = 0x02;
                const ACK: u8 = 0x10;
                let (_, port, flags) = packet::tcp_ports_and_flags(frame).ok_or(Unserved::Fragment)?;
                // slirp opens a connection for nothing else; other segments belong to an open one.
                let opens = flags & SYN != 0 && flags & ACK == 0;
                if opens { self.serves(HostPort::Tcp(port)) } else { Ok(()) }
            }
            UDP => {
                let ports = packet::udp_source_port(frame).zip(packet::udp_destination_port(frame));
                let (own, port) = ports.ok_or(Unserved::Fragment)?;
                let Some(&[a, b, c, d]) = frame.get(ETHERNET + 12..ETHERNET + 16) else {
                    return Err(Unserved::Fragment);
                };
                if self.was_heard((from, Ipv4Addr::new(a, b, c, d), own, port)) {
                    return Ok(());
                }
                self.serves(HostPort::Udp(port))
            }
            other => Err(Unserved::Protocol(other)),
        }
    }

    fn serves(&self, port: HostPort) -> Result<(), Unserved> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        if served.contains(&port) { Ok(()) } else { Err(Unserved::Port(port)) }
    }

    /// Remembers a datagram from the host, so that the node may answer it. `gateway` is its address in the LAN.
    pub fn hear(&self, to: usize, gateway: Ipv4Addr, frame: &[u8]) {
        let Some((port, own)) = packet::udp_source_port(frame).zip(packet::udp_destination_port(frame))
        else {
            return;
        };
        let Some(&[a, b, c, d, e, f, g, h]) = frame.get(ETHERNET + 12..ETHERNET + 20) else { return };
        if Ipv4Addr::new(a, b, c, d) != gateway {
            return;
        }
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() >= EXCHANGES {
            heard.retain(|_, at| at.elapsed() < HEARD);
        }
        if heard.len() < EXCHANGES {
            heard.insert((to, Ipv4Addr::new(e, f, g, h), own, port), Instant::now());
        }
    }

    fn was_heard(&self, exchange: Exchange) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&exchange).is_some_and(|at| at.elapsed() < HEARD)
    }

    /// Remembers a refusal. Returns the text of a note if it is one of the first of this node.
    pub fn refuse(&self, node: &NodeName, gateway: Ipv4Addr, what: Unserved) -> Option<String> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = refused.entry(node.clone()).or_default();
        if of_node.len() > REPORTED || !of_node.insert(what) {
            return None;
        }
        Some(if of_node.len() > REPORTED {
            format!(
                "tried to reach more than {REPORTED} ports of the host at {gateway}: refused, all of them"
            )
        } else {
            format!(
                "tried to reach {what} of the host at {gateway}, which this run does not serve: refused \
                 (--allow-host-port opens one)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
    const NODE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
    const PORT: usize = 0;

    fn segment(port: u16, flags: &str) -> Vec<u8> {
        let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(NODE.octets(), GATEWAY.octets(), 64)
            .tcp(40_000, port, 7, 1000);
        for flag in flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'A' => builder.ack(1),
                'P' => builder.psh(),
                _ => builder.fin(),
            };
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, b"x").expect("write");
        frame
    }

    fn datagram((from, own): (Ipv4Addr, u16), (to, port): (Ipv4Addr, u16)) -> Vec<u8> {
        let builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(from.octets(), to.octets(), 64).udp(own, port);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"x").expect("write");
        frame
    }

    #[test]
    fn of_all_ports_only_the_served_ones_are_open() {
        let gateway = Gateway::default();
        let served = [HostPort::Tcp(5999), HostPort::Udp(3478), HostPort::Tcp(8080)];
        served.into_iter().for_each(|port| gateway.serve(port));
        let mut open = Vec::new();
        for port in 1..=u16::MAX {
            let ways = [segment(port, "S"), segment(port, "SP"), datagram((NODE, 40_000), (GATEWAY, port))];
            let [syn, pushed, udp] = ways.map(|frame| gateway.admits(PORT, &frame).is_ok());
            assert_eq!(syn, pushed, "port {port}");
            open.extend(syn.then_some(HostPort::Tcp(port)));
            open.extend(udp.then_some(HostPort::Udp(port)));
        }
        open.sort();
        assert_eq!(open, [HostPort::Tcp(5999), HostPort::Tcp(8080), HostPort::Udp(3478)]);
    }

    #[test]
    fn a_node_answers_connections_and_datagrams_that_the_host_began() {
        let gateway = Gateway::default();
        for flags in ["SA", "A", "PA", "FA", ""] {
            assert_eq!(gateway.admits(PORT, &segment(50_123, flags)), Ok(()), "{flags}");
        }
        let answer = datagram((NODE, 41_641), (GATEWAY, 50_123));
        let refused = Err(Unserved::Port(HostPort::Udp(50_123)));
        assert_eq!(gateway.admits(PORT, &answer), refused);
        // From elsewhere than the host's loopback, or to another port: no reason to answer there.
        gateway.hear(PORT, GATEWAY, &datagram((Ipv4Addr::new(192, 0, 2, 1), 50_123), (NODE, 41_641)));
        gateway.hear(PORT, GATEWAY, &datagram((GATEWAY, 50_124), (NODE, 41_641)));
        assert_eq!(gateway.admits(PORT, &answer), refused);
        gateway.hear(PORT, GATEWAY, &datagram((GATEWAY, 50_123), (NODE, 41_641)));
        assert_eq!(gateway.admits(PORT, &answer), Ok(()));
        assert_eq!(gateway.admits(PORT + 1, &answer), refused);
    }

    #[test]
    fn fragments_and_other_protocols_do_not_pass() {
        let gateway = Gateway::default();
        gateway.serve(HostPort::Tcp(5999));
        let mut fragment = segment(5999, "S");
        for (high, low) in [(0x20, 0), (0, 1), (0x1f, 0xff)] {
            (fragment[20], fragment[21]) = (high, low);
            assert_eq!(gateway.admits(PORT, &fragment), Err(Unserved::Fragment));
        }
        let mut other = segment(5999, "S");
        other[23] = 47;
        assert_eq!(gateway.admits(PORT, &other), Err(Unserved::Protocol(47)));
        assert_eq!(gateway.admits(PORT, &segment(5999, "S")[..40]), Err(Unserved::Fragment));
        assert_eq!(gateway.admits(PORT, &[]), Err(Unserved::Fragment));
    }

    #[test]
    fn what_is_remembered_of_a_guest_is_bounded() {
        let gateway = Gateway::default();
        let node: NodeName = "node-1".parse().expect("name");
        let notes: Vec<_> = (1..=u16::MAX)
            .flat_map(|port| [HostPort::Tcp(port), HostPort::Udp(port)])
            .filter_map(|port| gateway.refuse(&node, GATEWAY, Unserved::Port(port)))
            .collect();
        assert_eq!(notes.len(), REPORTED + 1, "{notes:?}");
        assert!(notes[0].starts_with("tried to reach TCP port 1 of the host at 10.5.0.1"), "{}", notes[0]);
        assert!(notes[REPORTED].contains("more than 8 ports"), "{}", notes[REPORTED]);
        for port in 1..=u16::MAX {
            gateway.hear(PORT, GATEWAY, &datagram((GATEWAY, port), (NODE, 1)));
        }
        assert_eq!(gateway.heard.lock().expect("lock").len(), EXCHANGES);
    }

    #[test]
    fn a_port_is_read_as_it_is_written() {
        assert_eq!("8080".parse(), Ok(HostPort::Tcp(8080)));
        assert_eq!("8080/tcp".parse(), Ok(HostPort::Tcp(8080)));
        assert_eq!("3478/udp".parse(), Ok(HostPort::Udp(3478)));
        for wrong in ["0", "", "65536", "80/sctp", "tcp/80", "-1"] {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decision_panic(mut frame in proptest::collection::vec(any::<u8>(), 0..80), protocol in 0u8..20) {
            if frame.len() > 24 {
                frame[12..14].copy_from_slice(&[8, 0]);
                frame[23] = protocol;
            }
            let gateway = Gateway::default();
            let _ = gateway.admits(PORT, &frame);
            gateway.hear(PORT, GATEWAY, &frame);
        }
    }
}
