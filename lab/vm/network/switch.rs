//! The learning switch: forwards frames to ports.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use ipnet::Ipv4Net;
use lab_model::{
    events::{EventKind, Recorder, Subject},
    network::{LanPlan, Link, MacAddr, address},
    node::NodeName,
};

use super::{
    Egress, LanCounters,
    delays::Direction,
    egress::{Attempts, Passage, passage},
    faults::Faults,
    gateway::{Gateway, Unserved},
    handshake::{self, Handshakes},
    packet::{self, ethernet},
    port::{self, Mark, Marks, PREFIX, Port},
    redirect::Redirect,
    services::{Service, Services},
};

/// The maximum number of learned stations. Containers can have their own addresses, but a guest must
/// not be able to fill the lab's memory.
const STATIONS: usize = 1024;

/// All ports and the learned station addresses. Methods never wait.
pub(super) struct Switch {
    ports: Vec<Port>,
    uplink: usize,
    gateway: Ipv4Addr,
    gateway_mac: MacAddr,
    stations: Mutex<HashMap<MacAddr, usize>>,
    /// The planned addresses of cards and the gateway's, each with the only port that may use it.
    pinned: HashMap<MacAddr, usize>,
    planned: HashMap<Ipv4Addr, MacAddr>,
    handshakes: Handshakes,
    pub services: Services,
    attempts: Attempts,
    inner: Vec<Ipv4Net>,
    pub redirect: Redirect,
    pub gateway_ports: Gateway,
    egress: RwLock<Egress>,
    /// Ports that used the address of another card; told once each.
    impostors: Vec<AtomicBool>,
    pub faults: Faults,
    recorder: Recorder,
}

impl Switch {
    /// Creates one port for each attachment in the order of the plan, then the uplink.
    pub fn new(plan: &LanPlan, recorder: Recorder) -> Self {
        let mut ports: Vec<Port> =
            plan.attachments.iter().map(|attachment| Port::new(Some(attachment.node.clone()))).collect();
        let uplink = ports.len();
        ports.push(Port::new(None));
        let gateway_mac = address::gateway_mac(plan.gateway);
        let cards = plan.attachments.iter().enumerate().map(|(port, attachment)| (attachment.mac, port));
        let pinned: HashMap<_, _> = cards.chain([(gateway_mac, uplink)]).collect();
        Self {
            ports,
            uplink,
            gateway: plan.gateway,
            gateway_mac,
            // The plan is known from the start, so the first packet is not flooded.
            stations: Mutex::new(pinned.clone()),
            pinned,
            planned: plan.attachments.iter().map(|a| (a.address, a.mac)).collect(),
            handshakes: Handshakes::default(),
            services: Services::new(plan),
            attempts: Attempts::default(),
            inner: plan.inner.clone(),
            redirect: Redirect::default(),
            gateway_ports: Gateway::default(),
            egress: RwLock::default(),
            impostors: (0..=uplink).map(|_| AtomicBool::default()).collect(),
            faults: Faults::new(uplink + 1),
            recorder,
        }
    }

    /// All ports, in the order of the plan; the uplink is last.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    pub fn port(&self, index: usize) -> &Port {
        &self.ports[index]
    }

    pub fn port_of(&self, node: &NodeName) -> Option<&Port> {
        self.ports.iter().find(|port| port.node.as_ref() == Some(node))
    }

    /// The port at the end of a link.
    pub fn index_of(&self, link: &Link) -> Option<usize> {
        match link {
            Link::Uplink => Some(self.uplink),
            Link::Node(node) => self.ports.iter().position(|port| port.node.as_ref() == Some(node)),
        }
    }

    pub fn set_egress(&self, egress: Egress) {
        *self.egress.write().unwrap_or_else(PoisonError::into_inner) = egress;
    }

    pub fn counters(&self) -> LanCounters {
        LanCounters {
            ports: self.ports.iter().map(|port| port.tally.read(port.name())).collect(),
            services: self.services.counters(),
            refused: self.attempts.read(),
        }
    }

    /// Handles a frame with its length prefix from a network card.
    pub fn receive(&self, from: usize, prefixed: &[u8]) {
        let port = &self.ports[from];
        let marks = port.marks();
        if !marks.is_empty() {
            if marks.has(Mark::Captured) {
                self.record(from, Direction::FromCard, prefixed);
            }
            if !self.faults.passes(marks, from, port, Direction::FromCard, prefixed) {
                return;
            }
        }
        self.forward(from, marks, prefixed);
    }

    /// Delivers the delayed frames of impaired links. Never returns.
    pub async fn bring_delayed(&self) {
        loop {
            let frame = self.faults.delays.next().await;
            if !self.faults.arrives(&frame) {
                self.ports[frame.port].tally.count_down();
                continue;
            }
            match frame.direction {
                Direction::FromCard => {
                    self.forward(frame.port, self.ports[frame.port].marks(), &frame.prefixed);
                }
                Direction::ToCard => self.hand_over(frame.port, &frame.prefixed),
            }
        }
    }

    /// Forwards a frame from a port with these marks to its destination.
    fn forward(&self, from: usize, marks: Marks, prefixed: &[u8]) {
        self.ports[from].tally.count_in(prefixed.len() - PREFIX);
        let rewritten = if from == self.uplink {
            self.redirect.towards_node(self.gateway, prefixed, PREFIX)
        } else {
            self.redirect.towards_host(self.gateway, prefixed, PREFIX)
        };
        let asked = &prefixed[PREFIX..];
        let prefixed = rewritten.as_deref().unwrap_or(prefixed);
        let frame = &prefixed[PREFIX..];
        let Some((destination, source)) = ethernet(frame) else { return };
        if self.pinned.get(&source).is_some_and(|port| *port != from) {
            return self.refuse_impostor(from, source);
        }
        if from == self.uplink {
            if self.services.is_rival(frame) || self.answer_arp(frame) {
                return;
            }
        } else if self.side_by_side(marks, from, self.uplink) && self.serve(from, frame) {
            return;
        } else {
            self.handshakes.see_answer(from, frame);
        }
        match self.learn_and_look_up(from, source, destination) {
            Some(to) if to == from => {}
            Some(to) => {
                if from == self.uplink {
                    self.handshakes.see_knock(to, prefixed);
                }
                self.deliver(from, marks, to, asked, prefixed);
            }
            None => {
                for to in (0..self.ports.len()).filter(|to| *to != from) {
                    self.deliver(from, marks, to, asked, prefixed);
                }
            }
        }
    }

    /// Runs when a QEMU has connected to a port. Announces the addresses of the nodes to slirp at
    /// once: slirp drops packets whose address it cannot resolve within a second, which a loaded host
    /// easily exceeds. Its table holds 16 addresses (libslirp `ARP_TABLE_SIZE`); in a larger LAN it
    /// sends ARP requests for the others.
    pub fn greet(&self, index: usize) {
        if index != self.uplink {
            return;
        }
        let to = (self.gateway, self.gateway_mac);
        for (address, mac) in &self.planned {
            if let Some(frame) = packet::arp_reply((*address, *mac), to) {
                self.send_frame(self.uplink, &frame);
            }
        }
    }

    /// Repeats the SYNs of hosts to nodes that were not up yet. Never returns.
    pub async fn repeat_handshakes(&self) {
        loop {
            self.handshakes.knocked().await;
            tokio::time::sleep(handshake::INTERVAL).await;
            self.handshakes.repeat(|to, prefixed| {
                let marks = self.ports[to].marks();
                if self.side_by_side(marks, self.uplink, to) {
                    self.send(to, marks, prefixed);
                }
            });
        }
    }

    /// slirp sends one ARP request for a node, then drops the packets that wait for the answer. The
    /// plan contains the answer even while the node is still booting.
    fn answer_arp(&self, frame: &[u8]) -> bool {
        let mac = packet::arp_question(frame).and_then(|address| self.planned.get(&address));
        let Some(answer) = mac.and_then(|mac| packet::arp_answer(frame, *mac)) else { return false };
        self.send_frame(self.uplink, &answer);
        true
    }

    /// Whether one of the switch's own services handled the frame.
    fn serve(&self, from: usize, frame: &[u8]) -> bool {
        match self.services.serve(frame) {
            Service::None => return false,
            Service::Reply(reply) => self.send_frame(from, &reply),
            Service::Taken => {}
            Service::Stranger(mac) => self.note(
                from,
                format!("network card {mac} requested an address, but is not in the plan: it gets none"),
            ),
        }
        true
    }

    fn learn_and_look_up(&self, from: usize, source: MacAddr, destination: MacAddr) -> Option<usize> {
        let mut stations = self.stations.lock().unwrap_or_else(PoisonError::into_inner);
        let claims = !source.is_group() && !self.pinned.contains_key(&source);
        let room = stations.len() < STATIONS || stations.contains_key(&source);
        if claims && room {
            stations.insert(source, from);
        }
        if destination.is_group() { None } else { stations.get(&destination).copied() }
    }

    /// Whether one end blocks datagrams beyond the LAN and the frame is such a datagram.
    fn is_held_back(&self, marks: Marks, from: usize, to: usize, frame: &[u8]) -> bool {
        (from == self.uplink || to == self.uplink) && marks.has(Mark::NoDatagrams) && packet::is_udp(frame)
    }

    /// Whether no partition separates two ports. `marks` belong to one of the ports or to both.
    fn side_by_side(&self, marks: Marks, from: usize, to: usize) -> bool {
        !marks.has(Mark::Parted) || self.faults.side_by_side(from, to)
    }

    /// Delivers a frame to a port. `asked` is the frame as the sender wrote it.
    fn deliver(&self, from: usize, marks: Marks, to: usize, asked: &[u8], prefixed: &[u8]) {
        let theirs = self.ports[to].marks();
        let both = marks.and(theirs);
        if !both.is_empty() {
            if self.is_held_back(both, from, to, &prefixed[PREFIX..]) {
                return;
            }
            if !self.side_by_side(both, from, to) {
                return self.ports[from].tally.count_parted();
            }
        }
        if to == self.uplink {
            let egress = *self.egress.read().unwrap_or_else(PoisonError::into_inner);
            match passage(asked, self.gateway, egress) {
                Passage::Granted => {}
                Passage::AtGateway => {
                    if let Err(what) = self.gateway_ports.admits(from, asked) {
                        return self.refuse_at_gateway(from, what, asked);
                    }
                }
                Passage::Pointless => return,
                Passage::Refused(destination) => return self.refuse(from, destination, asked),
            }
        } else if from == self.uplink {
            self.gateway_ports.hear(to, self.gateway, &prefixed[PREFIX..]);
        }
        self.send(to, theirs, prefixed);
    }

    /// Sends a frame over the link of a port with these marks.
    fn send(&self, to: usize, marks: Marks, prefixed: &[u8]) {
        let port = &self.ports[to];
        if marks.is_empty() {
            port.send(prefixed);
        } else if self.faults.passes(marks, to, port, Direction::ToCard, prefixed) {
            self.hand_over(to, prefixed);
        }
    }

    /// Sends a frame without a length prefix.
    fn send_frame(&self, to: usize, frame: &[u8]) {
        self.send(to, self.ports[to].marks(), &port::prefixed(frame));
    }

    /// Delivers a frame to a network card after it passed the link.
    fn hand_over(&self, to: usize, prefixed: &[u8]) {
        let port = &self.ports[to];
        if port.send(prefixed) && port.marks().has(Mark::Captured) {
            self.record(to, Direction::ToCard, prefixed);
        }
    }

    fn record(&self, port: usize, direction: Direction, prefixed: &[u8]) {
        if let Some(why) = self.faults.record(port, direction, prefixed) {
            let link = self.ports[port].name();
            self.note(port, format!("the capture of the link of {link} takes no more frames: {why}"));
        }
    }

    fn refuse_at_gateway(&self, from: usize, what: Unserved, frame: &[u8]) {
        if let Some(node) = &self.ports[from].node {
            self.attempts.count(node, self.gateway);
            if let Some(text) = self.gateway_ports.refuse(node, self.gateway, what) {
                self.note(from, text);
            }
        }
        self.answer_prohibited(from, frame);
    }

    fn refuse_impostor(&self, from: usize, source: MacAddr) {
        self.ports[from].tally.count_malformed();
        if !self.impostors[from].swap(true, Relaxed) {
            self.note(
                from,
                format!("sent frames from {source}, the address of another network card: dropped"),
            );
        }
    }

    fn refuse(&self, from: usize, destination: Ipv4Addr, frame: &[u8]) {
        if let Some(node) = &self.ports[from].node
            && !self.inner.iter().any(|network| network.contains(&destination))
            && self.attempts.count(node, destination)
        {
            self.note(from, format!("tried to reach {destination} outside of the lab network: refused"));
        }
        self.answer_prohibited(from, frame);
    }

    fn answer_prohibited(&self, from: usize, frame: &[u8]) {
        if let Some(answer) = packet::prohibited_frame(self.gateway, self.gateway_mac, frame) {
            self.send_frame(from, &answer);
        }
    }

    /// Records a note about a port.
    pub fn note(&self, port: usize, text: String) {
        let subject = self.ports[port].node.clone().map_or(Subject::Cluster, Subject::Node);
        self.recorder.record(EventKind::Note { subject, text });
    }
}
