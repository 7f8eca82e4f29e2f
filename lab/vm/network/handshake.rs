//! Repeats connection attempts from the host to nodes that are not up yet.
//!
//! slirp accepts a host connection immediately, sends one SYN to the node, and repeats it only after
//! six seconds (libslirp `tcp_timer.h`: `TCPTV_SRTTDFLT`). A lab constantly tries to connect to
//! booting nodes, so each lost SYN would delay the formation by seconds. The switch therefore keeps
//! unanswered SYNs and repeats them four times a second until the node answers or slirp repeats the
//! SYN itself.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{packet::tcp_ports_and_flags, port::PREFIX};

/// Time between two repetitions.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// The number of repetitions of a SYN: until slirp repeats it itself, after six seconds.
const REPETITIONS: u32 = 24;

/// The maximum number of pending connections; slirp handles any others alone.
const KNOCKING: usize = 256;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A connection as seen from the node: its port on the switch, its own TCP port, slirp's TCP port.
type Flow = (usize, u16, u16);

struct Knock {
    prefixed: Vec<u8>,
    repeated: u32,
}

/// The SYNs that no node has answered yet.
#[derive(Default)]
pub struct Handshakes {
    knocks: Mutex<HashMap<Flow, Knock>>,
    /// Avoids the lock above for the frames of a node while no SYN is pending.
    any: AtomicBool,
    wake: Notify,
}

impl Handshakes {
    /// Checks a frame from the uplink to the node at port `to`.
    pub fn see_knock(&self, to: usize, prefixed: &[u8]) {
        let Some((from, port, flags)) = tcp_ports_and_flags(&prefixed[PREFIX..]) else { return };
        let flow = (to, port, from);
        if flags & (SYN | ACK) == SYN {
            let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
            if knocks.len() < KNOCKING {
                knocks.insert(flow, Knock { prefixed: prefixed.to_vec(), repeated: 0 });
                self.any.store(true, Relaxed);
                self.wake.notify_one();
            }
        } else if flags & RST != 0 {
            // The host has closed the connection.
            self.forget(flow);
        }
    }

    /// Checks a frame from the node at port `from`: any answer ends the repetitions.
    pub fn see_answer(&self, from: usize, frame: &[u8]) {
        if !self.any.load(Relaxed) {
            return;
        }
        if let Some((port, to, _)) = tcp_ports_and_flags(frame) {
            self.forget((from, port, to));
        }
    }

    /// Waits until a SYN is pending.
    pub async fn knocked(&self) {
        while !self.any.load(Relaxed) {
            self.wake.notified().await;
        }
    }

    /// Passes every unanswered SYN to `send` once more and removes SYNs without remaining
    /// repetitions.
    pub fn repeat(&self, send: impl Fn(usize, &[u8])) {
        let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        knocks.retain(|(to, ..), knock| {
            send(*to, &knock.prefixed);
            knock.repeated += 1;
            knock.repeated < REPETITIONS
        });
        self.any.store(!knocks.is_empty(), Relaxed);
    }

    fn forget(&self, flow: Flow) {
        let mut knocks = self.knocks.lock().unwrap_or_else(PoisonError::into_inner);
        knocks.remove(&flow);
        self.any.store(!knocks.is_empty(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use std::cell::RefCell;

    fn segment(from: u16, to: u16, syn: bool, ack: bool) -> Vec<u8> {
        let mut builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 5, 0, 1], [10, 5, 0, 2], 64)
            .tcp(from, to, 1, 1000);
        if syn {
            builder = builder.syn();
        }
        if ack {
            builder = builder.ack(2);
        }
        let mut prefixed = vec![0; PREFIX];
        builder.write(&mut prefixed, &[]).unwrap();
        prefixed
    }

    fn repeated(handshakes: &Handshakes) -> Vec<usize> {
        let sent = RefCell::new(Vec::new());
        handshakes.repeat(|to, _| sent.borrow_mut().push(to));
        sent.into_inner()
    }

    #[test]
    fn an_unanswered_syn_is_repeated_until_slirp_takes_over() {
        let handshakes = Handshakes::default();
        handshakes.see_knock(3, &segment(40_000, 50_000, true, false));
        let total: usize = (0..100).map(|_| repeated(&handshakes).len()).sum();
        assert_eq!(total, REPETITIONS as usize);
    }

    #[test]
    fn an_answer_of_the_same_connection_ends_it() {
        let handshakes = Handshakes::default();
        handshakes.see_knock(3, &segment(40_000, 50_000, true, false));
        handshakes.see_answer(3, &segment(6443, 40_000, true, true)[PREFIX..]);
        assert_eq!(repeated(&handshakes), [3]);
        handshakes.see_answer(3, &segment(50_000, 40_000, true, true)[PREFIX..]);
        assert!(repeated(&handshakes).is_empty());
    }

    #[test]
    fn data_is_never_repeated() {
        let handshakes = Handshakes::default();
        handshakes.see_knock(3, &segment(40_000, 50_000, false, true));
        assert!(repeated(&handshakes).is_empty());
    }
}
