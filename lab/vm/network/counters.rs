//! What went over the LAN, as plain data.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use lab_model::node::NodeName;
use serde::Serialize;

/// A reading of all counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LanCounters {
    /// One entry a port, in the plan's order; the uplink is last.
    pub ports: Vec<PortCounters>,
    /// What the switch answered itself.
    pub services: ServiceCounters,
    /// Attempts to leave the LAN, by node and destination.
    pub refused: Vec<Refused>,
}

/// One port's counters since the LAN was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// The node's name, or `uplink`.
    pub port: String,
    /// Frames that came in from it.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames queued to it.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames to it that were dropped because it did not take them fast enough.
    pub dropped_slow: u64,
    /// Frames from or to it that were dropped because its link was down.
    pub dropped_down: u64,
    /// Frames from or to it that its impaired link lost.
    pub dropped_lost: u64,
    /// Frames from or to it for which its impaired link had no room.
    pub dropped_full: u64,
    /// Frames from it whose destination is on another side of a partition.
    pub dropped_parted: u64,
    /// Frames from it that were too short or too long to be Ethernet.
    pub malformed: u64,
}

/// What the switch answered itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceCounters {
    /// DHCP replies.
    pub dhcp: u64,
    /// DNS replies.
    pub dns: u64,
    /// NTP replies.
    pub ntp: u64,
}

/// A destination outside of the LAN that a node tried to reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Who tried.
    pub node: NodeName,
    /// Where to.
    pub destination: Ipv4Addr,
    /// Packets.
    pub packets: u64,
}

/// A port's live counters.
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
