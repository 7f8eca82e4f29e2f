//! A running LAN with its real uplink (a QEMU without a machine) and ports for stations that are no VMs.
#![allow(dead_code, reason = "not every test of the LAN uses every function")]

#[path = "../station/mod.rs"]
pub mod station;

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use lab_model::{
    events::{EventKind, Recorder, Subscription},
    network::{Attachment, LanPlan, MacAddr},
    node::NodeName,
};
use lab_vm::{machine::QemuBinary, network::Lan, process::Processes};
use station::Station;

pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
pub const NODE_1: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 2);
pub const NODE_2: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 3);
/// Long enough for a frame that passes, short enough to wait for a frame that is dropped.
pub const SHORT: Duration = Duration::from_millis(300);

/// A running LAN with ports for nodes.
pub struct Bench {
    pub lan: Lan,
    events: Subscription,
    pub directory: tempfile::TempDir,
    pub processes: Processes,
}

pub fn node(n: u8) -> NodeName {
    format!("node-{n}").parse().expect("a node name")
}

pub fn mac(n: u8) -> MacAddr {
    MacAddr::new([0x52, 0x54, 0, 0, 0, n])
}

fn plan(nodes: u8, mtu: u16) -> LanPlan {
    let attachment = |n: u8| {
        let address = Ipv4Addr::new(10, 5, 0, n + 1);
        Attachment { node: node(n), mac: mac(n), address, forwards: vec![7] }
    };
    LanPlan {
        network: "10.5.0.0/24".parse().expect("a network"),
        gateway: GATEWAY,
        domain: "lab.internal".into(),
        mtu,
        inner: vec!["10.96.0.0/12".parse().expect("a network")],
        attachments: (1..=nodes).map(attachment).collect(),
    }
}

impl Bench {
    /// Two nodes.
    pub async fn new(mtu: u16) -> Result<Self> {
        Self::of(2, mtu).await
    }

    pub async fn of(nodes: u8, mtu: u16) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let processes = Processes::new(directory.path().join("processes"))?;
        let recorder = Recorder::new();
        let events = recorder.subscribe();
        let qemu = QemuBinary::find(None).await?;
        let lan = Lan::start(plan(nodes, mtu), &qemu, directory.path(), &processes, recorder).await?;
        Ok(Self { lan, events, directory, processes })
    }

    /// A station at a node's port.
    pub fn station(&self, n: u8) -> Result<Station> {
        Station::attach(&self.socket(n)?, mac(n), self.lan.plan().mtu.into())
    }

    pub fn socket(&self, n: u8) -> Result<PathBuf> {
        Ok(self.lan.socket(&node(n)).context("no socket")?.to_owned())
    }

    pub fn notes(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let EventKind::Note { text, .. } = event.kind {
                notes.push(text);
            }
        }
        notes
    }
}

/// Stations block, so their work is moved away from the runtime.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// A card's question for an address.
pub fn dhcp_discover(client: MacAddr) -> Vec<u8> {
    use dhcproto::{
        Encodable,
        v4::{DhcpOption, Message, MessageType},
    };
    let mut message = Message::default();
    message.set_chaddr(&client.bytes());
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    let builder = etherparse::PacketBuilder::ethernet2(client.bytes(), [0xff; 6])
        .ipv4([0; 4], [255; 4], 64)
        .udp(68, 67);
    let mut frame = Vec::new();
    builder.write(&mut frame, &message.to_vec().expect("a message")).expect("a frame");
    frame
}
