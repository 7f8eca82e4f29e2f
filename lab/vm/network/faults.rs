//! Injected faults of the links, and their effect on frames. A frame reaches this module only if one
//! of its ports is marked.

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use lab_model::network::{Link, LinkFault, Partition, Sides};
use serde::{Deserialize, Serialize};

use super::{
    CaptureState,
    capture::Capture,
    delays::{Delays, Direction, OnItsWay},
    port::{Mark, Marks, PREFIX, Port},
    shaper::{Fate, Shaper},
};

/// A snapshot of all faults and captures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanFaults {
    /// The faulty links.
    pub links: Vec<(Link, LinkFault)>,
    /// The partition, if there is one.
    pub partition: Option<Partition>,
    /// The running captures.
    pub captures: Vec<CaptureState>,
}

/// The faults of all ports.
pub(super) struct Faults {
    ports: Vec<PortFaults>,
    partition: Mutex<Option<(Partition, Sides)>>,
    pub delays: Delays,
}

#[derive(Default)]
struct PortFaults {
    link: Mutex<LinkState>,
    capture: Mutex<Option<Capture>>,
}

#[derive(Default)]
struct LinkState {
    fault: Option<LinkFault>,
    /// Increments with each change: frames that were sent before a change do not arrive.
    epoch: u64,
    /// Index 0: from the card; index 1: to the card.
    shapers: Option<[Shaper; 2]>,
}

impl Faults {
    pub fn new(ports: usize) -> Self {
        let ports = std::iter::repeat_with(PortFaults::default).take(ports).collect();
        Self { ports, partition: Mutex::default(), delays: Delays::default() }
    }

    /// Replaces the fault of a port; `None` restores the link.
    pub fn set(&self, index: usize, port: &Port, fault: Option<LinkFault>) {
        let mut link = lock(&self.ports[index].link);
        link.fault = fault;
        link.epoch += 1;
        link.shapers = match fault {
            Some(LinkFault::Shaped(impairment)) => {
                let stream = 2 * index as u64;
                Some([stream, stream + 1].map(|stream| Shaper::new(impairment, stream, Instant::now())))
            }
            Some(LinkFault::Cut) | None => None,
        };
        port.mark(Mark::Cut, fault == Some(LinkFault::Cut));
        port.mark(Mark::Shaped, link.shapers.is_some());
    }

    /// Partitions the LAN, or ends the partition.
    pub fn part(&self, partition: Option<(Partition, Sides)>, ports: &[Port]) {
        let parted = partition.is_some();
        *lock(&self.partition) = partition;
        for port in ports {
            port.mark(Mark::Parted, parted);
        }
    }

    /// Whether a partition allows frames between two ports.
    pub fn side_by_side(&self, from: usize, to: usize) -> bool {
        lock(&self.partition).as_ref().is_none_or(|(_, sides)| sides.pass(from, to))
    }

    /// Starts a capture.
    pub fn capture(
        &self,
        index: usize,
        port: &Port,
        link: Link,
        file: &Path,
        limit: u64,
    ) -> io::Result<CaptureState> {
        let mut slot = lock(&self.ports[index].capture);
        if let Some(running) = &*slot {
            let file = running.state().file;
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{link} is being captured already, to {}", file.display()),
            ));
        }
        let capture = slot.insert(Capture::start(link, file, limit)?);
        port.mark(Mark::Captured, true);
        Ok(capture.state())
    }

    /// Ends a capture; `None` if there is no capture.
    pub fn end_capture(&self, index: usize, port: &Port) -> Option<CaptureState> {
        port.mark(Mark::Captured, false);
        let capture = lock(&self.ports[index].capture).take();
        capture.map(Capture::stop)
    }

    /// Reads all faults and captures. `links` are the links of the ports.
    pub fn read(&self, links: impl Iterator<Item = Link>) -> LanFaults {
        let mut faults = LanFaults::default();
        for (link, port) in links.zip(&self.ports) {
            faults.links.extend(lock(&port.link).fault.map(|fault| (link, fault)));
            faults.captures.extend(lock(&port.capture).as_ref().map(Capture::state));
        }
        faults.partition = lock(&self.partition).as_ref().map(|(partition, _)| partition.clone());
        faults
    }

    /// Whether a frame passes a marked link immediately. Otherwise the frame is dropped or delayed.
    pub fn passes(
        &self,
        marks: Marks,
        index: usize,
        port: &Port,
        direction: Direction,
        prefixed: &[u8],
    ) -> bool {
        if marks.has(Mark::Cut) {
            port.tally.count_down();
            return false;
        }
        !marks.has(Mark::Shaped) || self.is_through(index, port, direction, prefixed)
    }

    /// Whether an impaired link passes a frame immediately.
    fn is_through(&self, index: usize, port: &Port, direction: Direction, prefixed: &[u8]) -> bool {
        let mut link = lock(&self.ports[index].link);
        let epoch = link.epoch;
        let Some([from_card, to_card]) = &mut link.shapers else { return true };
        let shaper = match direction {
            Direction::FromCard => from_card,
            Direction::ToCard => to_card,
        };
        let now = Instant::now();
        let was_empty = shaper.is_empty();
        match shaper.send(now, prefixed.len() - PREFIX) {
            Fate::Lost => port.tally.count_lost(),
            Fate::NoRoom => port.tally.count_full(),
            // A link that only loses frames does not delay the others.
            Fate::Arrives(due) if due <= now && was_empty => {
                shaper.arrived(prefixed.len() - PREFIX);
                return true;
            }
            Fate::Arrives(due) => {
                self.delays.add(OnItsWay { due, port: index, direction, epoch, prefixed: prefixed.to_vec() });
            }
        }
        false
    }

    /// Whether a frame in transit arrives: the state of its link has not changed since it was sent.
    pub fn arrives(&self, frame: &OnItsWay) -> bool {
        let mut link = lock(&self.ports[frame.port].link);
        let same = link.epoch == frame.epoch;
        if same && let Some([from_card, to_card]) = &mut link.shapers {
            let shaper = match frame.direction {
                Direction::FromCard => from_card,
                Direction::ToCard => to_card,
            };
            shaper.arrived(frame.prefixed.len() - PREFIX);
        }
        same
    }

    /// Adds a frame to the capture of its link. Returns the reason if the capture stops with this
    /// frame.
    pub fn record(&self, index: usize, direction: Direction, prefixed: &[u8]) -> Option<String> {
        lock(&self.ports[index].capture).as_ref()?.take(direction, &prefixed[PREFIX..])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
