//! Seeds of what machines say: frames, datagrams, consoles, monitors, the API.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable,
    v4::{DhcpOption, Message, MessageType},
};
use etherparse::PacketBuilder;
use hickory_proto::{
    op::{Message as Question, Query},
    rr::{Name, RecordType},
};

const NODE_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
const NODE: [u8; 4] = [10, 5, 0, 2];
const GATEWAY: [u8; 4] = [10, 5, 0, 1];

const CONSOLE: &[u8] = b"\x1b[0;32m[ OK ]\x1b[0m up\x07\r\n\x1b]0;title\x07plain\x1b(B text\n\
    [    2.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n\
    Internal error: Oops: 0000000096000004 [#1] SMP\nOut of memory: Killed process 1 (init)\n\xc2\x9b31m\nlogin: ";
const EVENTS: &[u8] = br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "GUEST_PANICKED", "data": {"action": "pause"}}
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;
const KUBECONFIG: &[u8] =
    b"apiVersion: v1\nkind: Config\nclusters: [{name: lab, cluster: {server: 'https://10.5.0.2:6443'}}]\n";

/// Target, name and content of each seed.
pub fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = vec![
        ("console", "boot".to_owned(), CONSOLE.to_vec()),
        ("qmp", "events".to_owned(), EVENTS.to_vec()),
        ("kubeconfig", "unpacked".to_owned(), [&[1][..], &tar("kubeconfig", KUBECONFIG)].concat()),
    ];
    let mut frames = vec![arp(), tcp(), udp(NODE, GATEWAY, 40_000, 123, &[0x23; 48])];
    for (name, kind) in [("discover", MessageType::Discover), ("request", MessageType::Request)] {
        let message = dhcp(kind);
        frames.push(udp([0; 4], [255; 4], 68, 67, &message));
        seeds.push(("dhcp", name.to_owned(), message));
    }
    for (name, kind) in [("node-1.lab.internal.", RecordType::A), ("2.0.5.10.in-addr.arpa.", RecordType::PTR)]
    {
        let question = dns(name, kind);
        frames.push(udp(NODE, GATEWAY, 40_000, 53, &question));
        seeds.push(("dns", kind.to_string(), question));
    }
    let stream = frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], frame].concat());
    let stream = std::iter::once(1).chain(stream).collect();
    seeds.push(("frames", "stream".to_owned(), stream));
    for (number, frame) in frames.iter().enumerate() {
        seeds.push(("frames", format!("frame{number}"), [&[0][..], frame].concat()));
    }
    seeds
}

fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, name, content).expect("append");
    archive.into_inner().expect("archive")
}

fn dhcp(kind: MessageType) -> Vec<u8> {
    let mut message = Message::default();
    message.set_xid(7).set_chaddr(&NODE_MAC);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(DhcpOption::RequestedIpAddress(Ipv4Addr::from(NODE)));
    message.to_vec().expect("a message")
}

fn dns(name: &str, kind: RecordType) -> Vec<u8> {
    let mut question = Question::query();
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    question.to_vec().expect("a question")
}

fn udp(from: [u8; 4], to: [u8; 4], port: u16, to_port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(NODE_MAC, [0xff; 6]).ipv4(from, to, 64).udp(port, to_port);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).expect("a frame");
    frame
}

fn tcp() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([0x52, 0x55, 10, 5, 0, 1], NODE_MAC)
        .ipv4(GATEWAY, NODE, 64)
        .tcp(40_000, 6443, 7, 1024)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, b"").expect("a frame");
    frame
}

fn arp() -> Vec<u8> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &[0x52, 0x55, 10, 5, 0, 1],
        &GATEWAY,
        &[0; 6],
        &NODE,
    );
    let mut frame = Vec::new();
    let builder =
        PacketBuilder::ethernet2([0x52, 0x55, 10, 5, 0, 1], [0xff; 6]).arp(packet.expect("a packet"));
    builder.write(&mut frame).expect("a frame");
    frame
}
