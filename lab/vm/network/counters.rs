//! Traffic counters of the LAN, as plain data.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use lab_model::node::NodeName;
use serde::Serialize;

/// A snapshot of all counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LanCounters {
    /// One entry per port, in the order of the plan; the uplink is last.
    pub ports: Vec<PortCounters>,
    /// Replies of the switch itself.
    pub services: ServiceCounters,
    /// Attempts to reach destinations outside the LAN, by node and destination.
    pub refused: Vec<Refused>,
}

/// The counters of one port since the start of the LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// The node's name, or `uplink`.
    pub port: String,
    /// Frames received from the port.
    pub frames_in: u64,
    /// Bytes of the received frames.
    pub bytes_in: u64,
    /// Frames queued to the port.
    pub frames_out: u64,
    /// Bytes of the queued frames.
    pub bytes_out: u64,
    /// Dropped frames to the port, because the receiver was too slow.
    pub dropped_slow: u64,
    /// Dropped frames from or to the port, because its link was down.
    pub dropped_down: u64,
    /// Frames from or to the port that its impaired link lost.
    pub dropped_lost: u64,
    /// Dropped frames from or to the port, because the queue of its impaired link was full.
    pub dropped_full: u64,
    /// Dropped frames from the port with a destination on another side of a partition.
    pub dropped_parted: u64,
    /// Frames from the port that were too short or too long for Ethernet.
    pub malformed: u64,
}

/// Replies of the switch itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceCounters {
    /// DHCP replies.
    pub dhcp: u64,
    /// DNS replies.
    pub dns: u64,
    /// NTP replies.
    pub ntp: u64,
}

/// A destination outside the LAN that a node tried to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub node: NodeName,
    pub destination: Ipv4Addr,
    /// The number of packets.
    pub packets: u64,
}

/// The live counters of a port.
#[derive(Default)]
pub struct PortTally {
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
    dropped_slow: AtomicU64,
    dropped_down: AtomicU64,
    dropped_lost: AtomicU64,
    dropped_full: AtomicU64,
    dropped_parted: AtomicU64,
    malformed: AtomicU64,
}

impl PortTally {
    pub fn count_in(&self, bytes: usize) {
        self.frames_in.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub fn count_out(&self, bytes: usize) {
        self.frames_out.fetch_add(1, Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub fn count_slow(&self) {
        self.dropped_slow.fetch_add(1, Relaxed);
    }

    pub fn count_down(&self) {
        self.dropped_down.fetch_add(1, Relaxed);
    }

    pub fn count_lost(&self) {
        self.dropped_lost.fetch_add(1, Relaxed);
    }

    pub fn count_full(&self) {
        self.dropped_full.fetch_add(1, Relaxed);
    }

    pub fn count_parted(&self) {
        self.dropped_parted.fetch_add(1, Relaxed);
    }

    pub fn count_malformed(&self) {
        self.malformed.fetch_add(1, Relaxed);
    }

    pub fn read(&self, port: String) -> PortCounters {
        PortCounters {
            port,
            frames_in: self.frames_in.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            frames_out: self.frames_out.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            dropped_slow: self.dropped_slow.load(Relaxed),
            dropped_down: self.dropped_down.load(Relaxed),
            dropped_lost: self.dropped_lost.load(Relaxed),
            dropped_full: self.dropped_full.load(Relaxed),
            dropped_parted: self.dropped_parted.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
        }
    }
}
