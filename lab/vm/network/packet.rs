//! Parses and builds the few packets that the switch itself handles.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader};
use lab_model::network::MacAddr;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;

/// Destination and source of an Ethernet frame; `None` if the frame is too short.
pub fn ethernet(frame: &[u8]) -> Option<(MacAddr, MacAddr)> {
    let destination = frame.get(0..6)?.try_into().ok()?;
    let source = frame.get(6..12)?.try_into().ok()?;
    (frame.len() >= ETHERNET).then_some((MacAddr::new(destination), MacAddr::new(source)))
}

/// Whether an Ethernet frame carries UDP over IPv4 (type 0x0800, protocol 17).
pub fn is_udp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&17)
}

/// The payload of an Ethernet frame, by its type field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    Arp,
    /// IPv4, with the destination address.
    Ipv4(Ipv4Addr),
    Other,
}

/// Checks only a few fixed bytes, because this runs for every frame to the uplink.
pub fn carries(frame: &[u8]) -> Carries {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => Carries::Arp,
        Some([0x08, 0x00]) => match frame.get(30..34) {
            Some(&[a, b, c, d]) => Carries::Ipv4(Ipv4Addr::new(a, b, c, d)),
            _ => Carries::Other,
        },
        _ => Carries::Other,
    }
}

/// UDP destination port of an IPv4 frame, from fixed bytes; `None` for all other frames. This runs
/// for every frame of a node.
pub(super) fn udp_destination_port(frame: &[u8]) -> Option<u16> {
    udp_port(frame, 2)
}

/// UDP source port of an IPv4 frame, from fixed bytes; `None` for all other frames.
pub(super) fn udp_source_port(frame: &[u8]) -> Option<u16> {
    udp_port(frame, 0)
}

fn udp_port(frame: &[u8], offset: usize) -> Option<u16> {
    const UDP: u8 = 17;
    if frame.get(12..14)? != [0x08, 0x00] || *frame.get(23)? != UDP {
        return None;
    }
    let header = usize::from(frame[ETHERNET] & 0x0f) * 4;
    let at = ETHERNET + header + offset;
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}

/// Source port, destination port and flags of an unfragmented TCP segment in IPv4, from fixed bytes;
/// `None` for all other frames.
pub fn tcp_ports_and_flags(frame: &[u8]) -> Option<(u16, u16, u8)> {
    const TCP: u8 = 6;
    if frame.get(12..14)? != [0x08, 0x00] || *frame.get(23)? != TCP {
        return None;
    }
    let fragment_offset = u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff;
    let header = usize::from(frame[ETHERNET] & 0x0f) * 4;
    let tcp = frame.get(ETHERNET + header..ETHERNET + header + 14)?;
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    (fragment_offset == 0).then(|| (port(0), port(2), tcp[13]))
}

/// The target address of an ARP request; `None` for all other frames (RFC 826, for Ethernet and
/// IPv4).
pub(super) fn arp_question(frame: &[u8]) -> Option<Ipv4Addr> {
    const REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    if frame.get(12..14)? != [0x08, 0x06] || *frame.get(14..22)? != REQUEST {
        return None;
    }
    let target: [u8; 4] = frame.get(38..42)?.try_into().ok()?;
    Some(Ipv4Addr::from(target))
}

/// Answers the ARP request `question` with `mac`.
pub fn arp_answer(question: &[u8], mac: MacAddr) -> Option<Vec<u8>> {
    let asker = MacAddr::new(question.get(22..28)?.try_into().ok()?);
    let asker_address: [u8; 4] = question.get(28..32)?.try_into().ok()?;
    arp_reply((arp_question(question)?, mac), (asker_address.into(), asker))
}

/// An ARP reply that announces the MAC address of `owner` to `to`.
pub(super) fn arp_reply(owner: (Ipv4Addr, MacAddr), to: (Ipv4Addr, MacAddr)) -> Option<Vec<u8>> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REPLY,
        &owner.1.bytes(),
        &owner.0.octets(),
        &to.1.bytes(),
        &to.0.octets(),
    )
    .ok()?;
    let builder = PacketBuilder::ethernet2(owner.1.bytes(), to.1.bytes()).arp(packet);
    let mut frame = Vec::with_capacity(builder.size());
    builder.write(&mut frame).ok()?;
    Some(frame)
}

/// One end of a UDP exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub mac: MacAddr,
    pub address: Ipv4Addr,
    pub port: u16,
}

/// The UDP datagram of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub from: Endpoint,
    pub to: Endpoint,
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Parses a whole frame; `None` if it is not an unfragmented UDP datagram in IPv4.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let (to_mac, from_mac) = ethernet(frame)?;
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return None };
        if ip.is_payload_fragmented() {
            return None;
        }
        let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
        let header = ip.header();
        Some(Self {
            from: Endpoint { mac: from_mac, address: header.source_addr(), port: udp.source_port() },
            to: Endpoint { mac: to_mac, address: header.destination_addr(), port: udp.destination_port() },
            payload: udp.payload(),
        })
    }
}

/// Builds a frame with a UDP datagram.
pub(super) fn udp_frame(from: Endpoint, to: Endpoint, payload: &[u8]) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(from.mac.bytes(), to.mac.bytes())
        .ipv4(from.address.octets(), to.address.octets(), 64)
        .udp(from.port, to.port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, payload).ok()?;
    Some(frame)
}

/// Builds an ICMP error for the sender of `frame`: the destination is prohibited (type 3 code 13, RFC
/// 1812). A connect then fails immediately instead of after minutes. `None` for frames that must not
/// be answered: not IPv4, a later fragment, or itself an ICMP error (RFC 1122, 3.2.2).
pub fn prohibited_frame(gateway: Ipv4Addr, gateway_mac: MacAddr, frame: &[u8]) -> Option<Vec<u8>> {
    const ICMP: u8 = 1;
    let (_, sender) = ethernet(frame)?;
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { return None };
    let header = ip.header();
    if header.protocol().0 == ICMP || header.fragments_offset().value() != 0 {
        return None;
    }
    let quoted = (usize::from(header.ihl()) * 4 + 8).min(frame.len() - ETHERNET);
    let builder = PacketBuilder::ethernet2(gateway_mac.bytes(), sender.bytes())
        .ipv4(gateway.octets(), header.source_addr().octets(), 64)
        .icmpv4(Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FilterProhibited));
    let payload = &frame[ETHERNET..ETHERNET + quoted];
    let mut answer = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut answer, payload).ok()?;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(n: u8, port: u16) -> Endpoint {
        Endpoint { mac: MacAddr::new([2, 0, 0, 0, 0, n]), address: Ipv4Addr::new(10, 5, 0, n), port }
    }

    #[test]
    fn a_datagram_survives_building_and_parsing() {
        let frame = udp_frame(endpoint(2, 40_000), endpoint(1, 53), b"question").unwrap();
        assert_eq!(udp_destination_port(&frame), Some(53));
        assert_eq!(udp_source_port(&frame), Some(40_000));
        assert_eq!(carries(&frame), Carries::Ipv4(Ipv4Addr::new(10, 5, 0, 1)));
        let datagram = Datagram::parse(&frame).unwrap();
        assert_eq!((datagram.from, datagram.to), (endpoint(2, 40_000), endpoint(1, 53)));
        assert_eq!(datagram.payload, b"question");
    }

    #[test]
    fn a_forbidden_destination_is_answered_with_the_start_of_the_packet() {
        let frame = udp_frame(endpoint(2, 40_000), endpoint(99, 443), b"hello, world").unwrap();
        let gateway = Ipv4Addr::new(10, 5, 0, 1);
        let answer = prohibited_frame(gateway, MacAddr::new([2, 0, 0, 0, 0, 1]), &frame).unwrap();
        assert_eq!(carries(&answer), Carries::Ipv4(Ipv4Addr::new(10, 5, 0, 2)));
        assert_eq!(answer[34..36], [3, 13]);
        assert_eq!(answer[42..], frame[14..42]);
        // Errors about errors would never end.
        assert_eq!(prohibited_frame(gateway, MacAddr::BROADCAST, &answer), None);
    }

    #[test]
    fn an_arp_request_is_answered_for_its_target() {
        let packet = etherparse::ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            etherparse::EtherType::IPV4,
            etherparse::ArpOperation::REQUEST,
            &[2, 0, 0, 0, 0, 1],
            &[10, 5, 0, 1],
            &[0; 6],
            &[10, 5, 0, 2],
        );
        let mut question = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0xff; 6])
            .arp(packet.unwrap())
            .write(&mut question)
            .unwrap();
        assert_eq!(arp_question(&question), Some(Ipv4Addr::new(10, 5, 0, 2)));
        let answer = arp_answer(&question, MacAddr::new([2, 0, 0, 0, 0, 2])).unwrap();
        assert_eq!(arp_question(&answer), None);
        assert_eq!(ethernet(&answer).unwrap().0, MacAddr::new([2, 0, 0, 0, 0, 1]));
        assert_eq!(answer[20..32], [0, 2, 2, 0, 0, 0, 0, 2, 10, 5, 0, 2]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(frame in proptest::collection::vec(any::<u8>(), 0..120), ip in any::<bool>()) {
            let mut frame = frame;
            if ip && frame.len() > 24 {
                frame[12..14].copy_from_slice(&[8, 0]);
                frame[23] = 17;
            }
            let _ = (carries(&frame), udp_destination_port(&frame), Datagram::parse(&frame));
            let _ = (tcp_ports_and_flags(&frame), arp_question(&frame));
            let _ = prohibited_frame(Ipv4Addr::LOCALHOST, MacAddr::BROADCAST, &frame);
        }
    }
}
