//! Fault injection on the links of a running LAN. Every change is recorded on the event stream.

use std::path::PathBuf;

use lab_model::network::{Impairment, Link, LinkFault, Partition};

use super::{CaptureState, Lan, LanFaults, NetworkError, port::Port, switch::Switch};

impl Lan {
    /// Disconnects a link at the switch. Replaces an existing fault of the link.
    ///
    /// # Errors
    /// Fails if the link does not exist.
    pub fn cut(&self, link: impl Into<Link>) -> Result<(), NetworkError> {
        self.set_fault(link.into(), Some(LinkFault::Cut))
    }

    /// Makes a link slow or lossy. Replaces an existing fault of the link.
    ///
    /// # Errors
    /// Fails if the link does not exist, or the impairment is invalid for it.
    pub fn shape(&self, link: impl Into<Link>, impairment: Impairment) -> Result<(), NetworkError> {
        let link = link.into();
        impairment.check().map_err(|source| NetworkError::Impairment { link: link.clone(), source })?;
        self.set_fault(link, Some(LinkFault::Shaped(impairment)))
    }

    /// Restores a link. Frames in transit are lost.
    ///
    /// # Errors
    /// Fails if the link does not exist.
    pub fn restore(&self, link: impl Into<Link>) -> Result<(), NetworkError> {
        self.set_fault(link.into(), None)
    }

    /// Restores all faulty links and returns them.
    pub fn restore_all(&self) -> Vec<Link> {
        let links: Vec<Link> = self.faults().links.into_iter().map(|(link, _)| link).collect();
        for link in &links {
            // The links exist, so this cannot fail.
            let _ = self.restore(link.clone());
        }
        links
    }

    /// Partitions the LAN. Replaces an existing partition.
    ///
    /// # Errors
    /// Fails if the partition is invalid.
    pub fn partition(&self, partition: Partition) -> Result<(), NetworkError> {
        let nodes: Vec<_> = self.plan().attachments.iter().map(|attachment| &attachment.node).collect();
        let sides = partition.sides(&nodes)?;
        let text = format!("the network is partitioned: {partition}");
        self.switch.faults.part(Some((partition, sides)), self.switch.ports());
        self.switch.note_of_all(text);
        Ok(())
    }

    /// Ends the partition. Returns whether there was a partition.
    pub fn heal(&self) -> bool {
        let parted = self.faults().partition.is_some();
        if parted {
            self.switch.faults.part(None, self.switch.ports());
            self.switch.note_of_all("the partition has ended".to_owned());
        }
        parted
    }

    /// Writes all frames of a link to a pcapng file, as its network card sends and receives them. The
    /// file includes frames that the link loses afterwards, and excludes frames that it lost before.
    /// The default for `file` is `LINK.pcapng` in the LAN's directory, with a number if that file
    /// exists. The capture stops before the file exceeds `limit` bytes.
    ///
    /// # Errors
    /// Fails if the link does not exist, a capture of the link is running, or the file exists or
    /// cannot be written.
    pub fn start_capture(
        &self,
        link: impl Into<Link>,
        file: Option<PathBuf>,
        limit: u64,
    ) -> Result<CaptureState, NetworkError> {
        let link = link.into();
        let (index, port) = self.port(&link)?;
        let file = file.unwrap_or_else(|| self.free_name(&link));
        let started = self.switch.faults.capture(index, port, link.clone(), &file, limit);
        let state = started.map_err(|source| NetworkError::Capture { link, file, source })?;
        self.switch
            .note(index, format!("the link of {} is captured to {}", state.link, state.file.display()));
        Ok(state)
    }

    /// Ends a capture. The file is complete when this returns.
    ///
    /// # Errors
    /// Fails if no capture of the link is running.
    pub fn stop_capture(&self, link: impl Into<Link>) -> Result<CaptureState, NetworkError> {
        let link = link.into();
        let (index, port) = self.port(&link)?;
        let state = self.switch.faults.end_capture(index, port);
        let state = state.ok_or(NetworkError::NotCaptured { link })?;
        let text =
            format!("the capture of the link of {} has ended with {} frames", state.link, state.frames);
        self.switch.note(index, text);
        Ok(state)
    }

    /// All current faults and captures.
    pub fn faults(&self) -> LanFaults {
        let link = |port: &Port| port.node.as_ref().map_or(Link::Uplink, Link::from);
        self.switch.faults.read(self.switch.ports().iter().map(link))
    }

    fn set_fault(&self, link: Link, fault: Option<LinkFault>) -> Result<(), NetworkError> {
        let (index, port) = self.port(&link)?;
        self.switch.faults.set(index, port, fault);
        let what = fault.map_or_else(|| "whole again".to_owned(), |fault| fault.to_string());
        self.switch.note(index, format!("the link of {link} is {what}"));
        Ok(())
    }

    fn port(&self, link: &Link) -> Result<(usize, &Port), NetworkError> {
        let index = self.switch.index_of(link).ok_or_else(|| {
            let nodes = self.plan().attachments.iter().map(|attachment| attachment.node.as_str());
            NetworkError::UnknownLink { link: link.clone(), links: nodes.collect::<Vec<_>>().join(", ") }
        })?;
        Ok((index, self.switch.port(index)))
    }

    fn free_name(&self, link: &Link) -> PathBuf {
        let numbered = (2..).map(|number| format!("{link}-{number}.pcapng"));
        std::iter::once(format!("{link}.pcapng"))
            .chain(numbered)
            .map(|name| self.directory.join(name))
            .find(|file| !file.exists())
            .unwrap_or_default()
    }
}

impl Switch {
    /// Records a note about the whole LAN.
    fn note_of_all(&self, text: String) {
        // Notes on the uplink's port belong to the cluster.
        self.note(self.ports().len() - 1, text);
    }
}
