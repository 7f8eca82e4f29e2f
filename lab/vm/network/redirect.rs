//! Redirects a port of the gateway to another port of the host's loopback.
//!
//! Machine configs contain the port of the image registry, and a saved cluster keeps its configs.
//! However, the registry of a run listens on any free port. Therefore nodes always use the same port,
//! and the switch rewrites the port in packets to the uplink and back.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = super::packet::ETHERNET;
const TCP: u8 = 6;

/// The mapping of one port to another; initially empty.
#[derive(Debug, Default)]
pub(super) struct Redirect {
    /// The nodes' port in the upper half, the host's in the lower half; zero means no redirect.
    ports: AtomicU32,
}

impl Redirect {
    /// Redirects connections from nodes to the gateway's port `asked` to `real`.
    pub fn set(&self, asked: u16, real: u16) {
        self.ports.store(u32::from(asked) << 16 | u32::from(real), Relaxed);
    }

    fn get(&self) -> Option<(u16, u16)> {
        let ports = self.ports.load(Relaxed);
        // Both halves are 16 bits wide.
        (ports != 0).then_some(((ports >> 16) as u16, ports as u16))
    }

    /// A frame from a node with the rewritten port, if the frame goes to the redirected port. The
    /// first `prefix` bytes are not part of the frame.
    pub fn towards_host(&self, gateway: Ipv4Addr, prefixed: &[u8], prefix: usize) -> Option<Vec<u8>> {
        let (asked, real) = self.get()?;
        rewritten(prefixed, prefix, (DESTINATION, gateway), (asked, real))
    }

    /// A frame from the host, with the port that the node used.
    pub fn towards_node(&self, gateway: Ipv4Addr, prefixed: &[u8], prefix: usize) -> Option<Vec<u8>> {
        let (asked, real) = self.get()?;
        rewritten(prefixed, prefix, (SOURCE, gateway), (real, asked))
    }
}

/// The offsets of a connection end: its address in the IPv4 header, its port in the TCP header.
#[derive(Clone, Copy)]
struct End {
    address: usize,
    port: usize,
}

const SOURCE: End = End { address: 12, port: 0 };
const DESTINATION: End = End { address: 16, port: 2 };

/// The frame with another port at one end, if that end matches.
fn rewritten(
    prefixed: &[u8],
    prefix: usize,
    (end, address): (End, Ipv4Addr),
    (old, new): (u16, u16),
) -> Option<Vec<u8>> {
    let ip = prefix + ETHERNET;
    let header = prefixed.get(ip..)?;
    let (version, words) = (header.first()? >> 4, usize::from(header.first()? & 0x0f));
    let is_ipv4 = prefixed.get(ip - 2..ip)? == [0x08, 0x00] && version == 4 && words >= 5;
    let fragment = u16::from_be_bytes([*header.get(6)? & 0x1f, *header.get(7)?]);
    let ours = header.get(end.address..end.address + 4)? == address.octets();
    if !is_ipv4 || header.get(9) != Some(&TCP) || fragment != 0 || !ours {
        return None;
    }
    let tcp = ip + words * 4;
    let port = tcp + end.port..tcp + end.port + 2;
    let checksum = tcp + 16..tcp + 18;
    if prefixed.get(port.clone())? != old.to_be_bytes() {
        return None;
    }
    let sum = u16::from_be_bytes(prefixed.get(checksum.clone())?.try_into().ok()?);
    let mut frame = prefixed.to_vec();
    frame[port].copy_from_slice(&new.to_be_bytes());
    frame[checksum].copy_from_slice(&updated(sum, old, new).to_be_bytes());
    Some(frame)
}

/// The checksum of a header after a change of one word (RFC 1624, equation 3).
fn updated(sum: u16, old: u16, new: u16) -> u16 {
    let total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    let folded = (total & 0xffff) + (total >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, TcpSlice};
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
    const NODE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 10);
    const PREFIX: usize = 4;

    fn segment(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), body: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(from.0.octets(), to.0.octets(), 64)
            .tcp(from.1, to.1, 7, 1000);
        let mut frame = vec![0; PREFIX];
        builder.write(&mut frame, body).expect("write");
        frame
    }

    fn checksum_is_right(prefixed: &[u8], from: Ipv4Addr, to: Ipv4Addr) -> bool {
        let tcp = TcpSlice::from_slice(&prefixed[PREFIX + ETHERNET + 20..]).expect("tcp");
        let sum = tcp.to_header().calc_checksum_ipv4_raw(from.octets(), to.octets(), tcp.payload());
        sum.expect("sum") == tcp.checksum()
    }

    proptest! {
        #[test]
        fn a_call_and_its_answer_are_rewritten_with_right_checksums(
            asked in 1u16.., real in 1u16.., port in 1u16.., body in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let redirect = Redirect::default();
            redirect.set(asked, real);
            let call = segment((NODE, port), (GATEWAY, asked), &body);
            let sent = redirect.towards_host(GATEWAY, &call, PREFIX).expect("rewritten");
            prop_assert_eq!(&sent, &{
                let mut whole = segment((NODE, port), (GATEWAY, real), &body);
                // In one's complement, both zeros are equal.
                let at = PREFIX + ETHERNET + 20 + 16;
                whole[at..at + 2].copy_from_slice(&sent[at..at + 2]);
                whole
            });
            prop_assert!(checksum_is_right(&sent, NODE, GATEWAY));
            let answer = segment((GATEWAY, real), (NODE, port), &body);
            let heard = redirect.towards_node(GATEWAY, &answer, PREFIX).expect("rewritten");
            prop_assert!(checksum_is_right(&heard, GATEWAY, NODE));
        }

        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let redirect = Redirect::default();
            redirect.set(1, 2);
            let _ = redirect.towards_host(GATEWAY, &bytes, PREFIX);
        }
    }

    #[test]
    fn what_calls_another_port_or_another_host_is_left() {
        let redirect = Redirect::default();
        let call = segment((NODE, 40_000), (GATEWAY, 5999), b"");
        assert!(redirect.towards_host(GATEWAY, &call, PREFIX).is_none(), "nothing is redirected yet");
        redirect.set(5999, 41_234);
        assert!(redirect.towards_host(GATEWAY, &call, PREFIX).is_some());
        for other in [segment((NODE, 1), (GATEWAY, 5998), b""), segment((NODE, 1), (NODE, 5999), b"")] {
            assert!(redirect.towards_host(GATEWAY, &other, PREFIX).is_none());
        }
    }
}
