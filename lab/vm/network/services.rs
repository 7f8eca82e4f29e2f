//! The services of the switch itself. They handle frames before the uplink.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use lab_model::network::{LanPlan, MacAddr};

use super::{
    ServiceCounters,
    dhcp::{self, Answer, DhcpServer},
    dns::{self, DnsServer},
    ntp,
    packet::{Datagram, udp_destination_port, udp_frame, udp_source_port},
};

/// DHCP, DNS and NTP of one LAN.
pub struct Services {
    gateway: Ipv4Addr,
    dhcp: DhcpServer,
    dns: Mutex<DnsServer>,
    strangers: Mutex<HashSet<MacAddr>>,
    /// How far the time for a node is ahead of the host's.
    ahead: Mutex<HashMap<MacAddr, Duration>>,
    answered: Answered,
}

#[derive(Default)]
struct Answered {
    dhcp: AtomicU64,
    dns: AtomicU64,
    ntp: AtomicU64,
}

/// The result of handling a node's frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Service {
    /// The frame is not for the services: forward it.
    None,
    /// Handled; this frame is the reply to the sender.
    Reply(Vec<u8>),
    /// Handled, without a reply.
    Taken,
    /// Handled: a network card that is not in the plan requested an address for the first time.
    Stranger(MacAddr),
}

/// The maximum number of remembered unknown network cards, because a guest can invent them.
const STRANGERS: usize = 64;

impl Services {
    pub fn new(plan: &LanPlan) -> Self {
        Self {
            gateway: plan.gateway,
            dhcp: DhcpServer::new(plan),
            dns: Mutex::new(DnsServer::new(plan)),
            strangers: Mutex::default(),
            ahead: Mutex::default(),
            answered: Answered::default(),
        }
    }

    /// Adds a DNS name for `address`.
    pub fn add_name(&self, name: &str, address: Ipv4Addr) {
        self.dns.lock().unwrap_or_else(PoisonError::into_inner).add(name, address);
    }

    /// Sets a time ahead of the host's for the node with this network card.
    pub fn set_time_ahead(&self, node: MacAddr, ahead: Duration) {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner).insert(node, ahead);
    }

    fn ahead_of(&self, frame: &[u8]) -> Duration {
        let ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let node = Datagram::parse(frame).map(|datagram| datagram.from.mac);
        node.and_then(|node| ahead.get(&node).copied()).unwrap_or_default()
    }

    /// Checks a frame from a node. Frames for other services cost only a few comparisons.
    pub fn serve(&self, frame: &[u8]) -> Service {
        match udp_destination_port(frame) {
            Some(dhcp::PORT) => self.serve_dhcp(frame),
            Some(dns::PORT) => self.serve_at_gateway(frame, &self.answered.dns, |question| {
                self.dns.lock().unwrap_or_else(PoisonError::into_inner).answer(question)
            }),
            Some(ntp::PORT) => self.serve_at_gateway(frame, &self.answered.ntp, |packet| {
                ntp::answer(packet, SystemTime::now() + self.ahead_of(frame))
            }),
            _ => Service::None,
        }
    }

    /// Whether a frame from the uplink is slirp's own DHCP, which must not reach a node.
    pub fn is_rival(&self, frame: &[u8]) -> bool {
        udp_source_port(frame) == Some(dhcp::PORT)
    }

    pub fn counters(&self) -> ServiceCounters {
        ServiceCounters {
            dhcp: self.answered.dhcp.load(Relaxed),
            dns: self.answered.dns.load(Relaxed),
            ntp: self.answered.ntp.load(Relaxed),
        }
    }

    fn serve_dhcp(&self, frame: &[u8]) -> Service {
        // Never forwarded, because no node serves DHCP.
        let Some(datagram) = Datagram::parse(frame) else { return Service::Taken };
        match self.dhcp.answer(&datagram) {
            Answer::Reply(reply) => {
                self.answered.dhcp.fetch_add(1, Relaxed);
                Service::Reply(reply)
            }
            Answer::Stranger(mac) => {
                let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
                let news = strangers.len() < STRANGERS && strangers.insert(mac);
                if news { Service::Stranger(mac) } else { Service::Taken }
            }
            Answer::Silence => Service::Taken,
        }
    }

    fn serve_at_gateway(
        &self,
        frame: &[u8],
        counter: &AtomicU64,
        answer: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Service {
        // Other addresses may also serve DNS, e.g. the cluster's own name server.
        let Some(datagram) = Datagram::parse(frame).filter(|datagram| datagram.to.address == self.gateway)
        else {
            return Service::None;
        };
        match answer(datagram.payload).and_then(|reply| udp_frame(datagram.to, datagram.from, &reply)) {
            Some(reply) => {
                counter.fetch_add(1, Relaxed);
                Service::Reply(reply)
            }
            None => Service::Taken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packet::Endpoint, *};

    const CLIENT_REQUEST: u8 = (4 << 3) | 3;

    /// The seconds that the time server returns to the node with this network card.
    fn told(services: &Services, mac: MacAddr) -> u32 {
        let plan = LanPlan::for_tests(2);
        let node = Endpoint { mac, address: plan.attachments[0].address, port: 40_123 };
        let server = Endpoint {
            mac: lab_model::network::address::gateway_mac(plan.gateway),
            address: plan.gateway,
            port: ntp::PORT,
        };
        let mut question = [0; 48];
        question[0] = CLIENT_REQUEST;
        let frame = udp_frame(node, server, &question).expect("frame");
        let Service::Reply(reply) = services.serve(&frame) else { panic!("no answer") };
        let reply = Datagram::parse(&reply).expect("datagram").payload.to_vec();
        u32::from_be_bytes(reply[40..44].try_into().expect("seconds"))
    }

    #[test]
    fn one_node_is_told_a_time_that_is_ahead_and_the_others_are_not() {
        let plan = LanPlan::for_tests(2);
        let services = Services::new(&plan);
        let [fooled, other] = [0, 1].map(|index| plan.attachments[index].mac);
        services.set_time_ahead(fooled, Duration::from_secs(90));
        let ahead = told(&services, fooled) - told(&services, other);
        assert!((89..=90).contains(&ahead), "{ahead}");
    }
}
