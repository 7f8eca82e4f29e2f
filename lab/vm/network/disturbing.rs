//! What is done to the links of a running LAN on purpose. Every change is noted on the event stream.

use std::path::PathBuf;

use lab_model::network::{Impairment, Link, LinkFault, Partition};

use super::{CaptureState, Lan, LanFaults, NetworkError, port::Port, switch::Switch};

impl Lan {
    /// Pulls a cable out, at the switch. A fault that the link had is forgotten.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn cut(&self, link: impl Into<Link>) -> Result<(), NetworkError> {
        self.set_fault(link.into(), Some(LinkFault::Cut))
    }

    /// Makes a link slow or lossy, in place of a fault that it had.
    ///
    /// # Errors
    /// When there is no such link, or it cannot be impaired so.
    pub fn shape(&self, link: impl Into<Link>, impairment: Impairment) -> Result<(), NetworkError> {
        let link = link.into();
        impairment.check().map_err(|source| NetworkError::Impairment { link: link.clone(), source })?;
        self.set_fault(link, Some(LinkFault::Shaped(impairment)))
    }

    /// Mends a link. What was on its way over it does not arrive.
    ///
    /// # Errors
    /// When there is no such link.
    pub fn restore(&self, link: impl Into<Link>) -> Result<(), NetworkError> {
        self.set_fault(link.into(), None)
    }

    /// Mends every link that something is wrong with, and returns which.
    pub fn restore_all(&self) -> Vec<Link> {
        let links: Vec<Link> = self.faults().links.into_iter().map(|(link, _)| link).collect();
        for link in &links {
            // They exist.
            let _ = self.restore(link.clone());
        }
        links
    }

    /// Parts the LAN, in place of a partition that there is.
    ///
    /// # Errors
    /// When it cannot be parted so.
    pub fn partition(&self, partition: Partition) -> Result<(), NetworkError> {
        let nodes: Vec<_> = self.plan().attachments.iter().map(|attachment| &attachment.node).collect();
        let sides = partition.sides(&nodes)?;
        let text = format!("the network is parted: {partition}");
        self.switch.faults.part(Some((partition, sides)), self.switch.ports());
        self.switch.note_of_all(text);
        Ok(())
    }

    /// Ends the partition. Returns whether there was one.
    pub fn heal(&self) -> bool {
        let parted = self.faults().partition.is_some();
        if parted {
            self.switch.faults.part(None, self.switch.ports());
            self.switch.note_of_all("the network is whole again".to_owned());
        }
        parted
    }

    /// Writes all frames of a link to a pcapng file, as its network card sends and gets them: what the link then loses
    /// is in it, what it lost before is not. Without `file` it is `LINK.pcapng` in the LAN's directory, numbered
    /// when that is there. It stops before it has more than `limit` bytes.
    ///
    /// # Errors
    /// When there is no such link, it is being captured, or the file is there or cannot be written.
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

    /// Ends a capture. Its file is whole when this returns.
    ///
    /// # Errors
    /// When the link is not being captured.
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

    /// All faults and captures now.
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
    /// Records something about the whole LAN.
    fn note_of_all(&self, text: String) {
        // The uplink's port is the cluster's.
        self.note(self.ports().len() - 1, text);
    }
}
