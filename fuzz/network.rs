//! Readers of the frames that guests send.

use std::{net::Ipv4Addr, sync::LazyLock};

use lab_model::network::{Attachment, LanPlan, MacAddr, address};
use lab_vm::network::{
    Egress, HostPort,
    fuzzed::{
        Answer, Carries, DHCP_PORT, Datagram, DhcpServer, DnsServer, Endpoint, Gateway, Handshakes, PREFIX,
        Passage, Port, Service, Services, arp_answer, carries, ethernet, is_udp, passage, prohibited_frame,
        tcp_ports_and_flags,
    },
};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
const NODE_MAC: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 2]);

static PLAN: LazyLock<LanPlan> = LazyLock::new(|| LanPlan {
    network: "10.5.0.0/24".parse().expect("a network"),
    gateway: GATEWAY,
    domain: "lab.internal".into(),
    mtu: 1500,
    inner: Vec::new(),
    attachments: vec![Attachment {
        node: "node-1".parse().expect("a name"),
        mac: NODE_MAC,
        address: NODE,
        forwards: Vec::new(),
    }],
});

/// What QEMU's back end sends: an odd first byte and frames with their lengths, or an even one and
/// a single frame.
pub fn frames(data: &[u8]) {
    static SERVICES: LazyLock<Services> = LazyLock::new(|| Services::new(&PLAN));
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let port = Port::new(None);
    let bytes =
        if kind % 2 == 1 { data.to_vec() } else { [&(data.len() as u32).to_be_bytes()[..], data].concat() };
    let used = port.split(&bytes, &|prefixed: &[u8]| forward(&SERVICES, prefixed));
    assert!(used.is_ok_and(|used| used <= bytes.len()) || port.tally.read(String::new()).malformed > 0);
}

/// What the switch does with a frame from a node, and with one from the uplink.
fn forward(services: &Services, prefixed: &[u8]) {
    let frame = &prefixed[PREFIX..];
    let Some(_) = ethernet(frame) else {
        return;
    };
    if let Service::Reply(reply) = services.serve(frame) {
        assert!(Datagram::parse(&reply).is_some(), "an answer that is no datagram");
    }
    let _ = services.is_rival(frame);
    let handshakes = Handshakes::default();
    handshakes.see_knock(0, prefixed);
    handshakes.see_answer(0, frame);
    handshakes.repeat(|_, knock| assert_eq!(knock, prefixed));
    if let Passage::Refused(to) = passage(frame, GATEWAY, Egress::Refuse) {
        assert_ne!(to, GATEWAY, "the gateway is part of the LAN");
        let _ = prohibited_frame(GATEWAY, address::gateway_mac(GATEWAY), frame);
    }
    if let Some(answer) = arp_answer(frame, NODE_MAC) {
        assert_eq!(carries(&answer), Carries::Arp);
    }
    let _ = is_udp(frame);
}

/// The payload of a DHCP client's datagram.
pub fn dhcp(data: &[u8]) {
    static SERVER: LazyLock<DhcpServer> = LazyLock::new(|| DhcpServer::new(&PLAN));
    let from = Endpoint { mac: NODE_MAC, address: Ipv4Addr::UNSPECIFIED, port: 68 };
    let to = Endpoint { mac: MacAddr::BROADCAST, address: Ipv4Addr::BROADCAST, port: DHCP_PORT };
    if let Answer::Reply(reply) = SERVER.answer(&Datagram { from, to, payload: data }) {
        assert!(Datagram::parse(&reply).is_some(), "an answer that is no datagram");
    }
}

/// The payload of a DNS question's datagram.
pub fn dns(data: &[u8]) {
    static SERVER: LazyLock<DnsServer> = LazyLock::new(|| DnsServer::new(&PLAN));
    if let Some(answer) = SERVER.answer(data) {
        assert_eq!(answer.get(..2), data.get(..2), "an answer to another question");
    }
}

/// A frame of a guest to the gateway address: what is not served is refused, whatever its form.
pub fn gateway(frame: &[u8]) {
    let ports = Gateway::default();
    ports.serve(HostPort::Tcp(5999));
    ports.hear(0, GATEWAY, frame);
    let _ = ports.admits(1, frame);
    let opens = tcp_ports_and_flags(frame).filter(|(_, port, flags)| *port != 5999 && flags & 0x12 == 0x02);
    assert!(opens.is_none() || ports.admits(0, frame).is_err(), "a port that is not served was opened");
}
