//! A station on the lab LAN that is no VM: it speaks QEMU's stream framing itself and has a TCP/IP
//! stack of its own (smoltcp), so that the switch is tested against an implementation that shares
//! nothing with it.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lab_model::network::MacAddr;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium},
    socket::{dhcpv4, tcp, udp},
    time::Instant as Clock,
    wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr},
};

/// Far more than anything here takes; a test that reaches it has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// One network card with a stack.
pub struct Station {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
}

/// What DHCP gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Cidr,
    pub router: Option<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
}

/// The stream back end's framing: a big-endian length before each frame.
struct Wire {
    stream: UnixStream,
    unread: Vec<u8>,
    frames: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Station {
    /// Plugs a card into a port of the switch.
    pub fn attach(socket: &Path, mac: MacAddr, mtu: usize) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("connecting to the switch")?;
        let mut wire = Wire { stream, unread: Vec::new(), frames: VecDeque::new(), mtu };
        let address = HardwareAddress::Ethernet(EthernetAddress(mac.bytes()));
        let interface = Interface::new(Config::new(address), &mut wire, Clock::now());
        Ok(Self { wire, interface, sockets: SocketSet::new(Vec::new()) })
    }

    /// Asks for an address and takes it.
    pub fn lease(&mut self) -> Result<Lease> {
        let handle = self.sockets.add(dhcpv4::Socket::new());
        let lease =
            self.run("DHCP", |_, sockets| match sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
                Some(dhcpv4::Event::Configured(config)) => Some(Lease {
                    address: config.address,
                    router: config.router,
                    dns: config.dns_servers.iter().copied().collect(),
                }),
                _ => None,
            })?;
        self.sockets.remove(handle);
        self.take(lease.address, lease.router)?;
        Ok(lease)
    }

    /// Takes an address without asking.
    pub fn take(&mut self, address: Ipv4Cidr, router: Option<Ipv4Addr>) -> Result<()> {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            addresses.push(IpCidr::Ipv4(address)).expect("there is room for one address");
        });
        if let Some(router) = router {
            self.interface.routes_mut().add_default_ipv4_route(router)?;
        }
        Ok(())
    }

    /// Sends one UDP datagram and returns the answer.
    pub fn ask(&mut self, to: SocketAddrV4, question: &[u8]) -> Result<Vec<u8>> {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(40_000)?;
        socket.send_slice(question, to)?;
        let handle = self.sockets.add(socket);
        let answer = self.run("a UDP answer", |_, sockets| {
            sockets.get_mut::<udp::Socket>(handle).recv().ok().map(|(answer, _)| answer.to_vec())
        });
        self.sockets.remove(handle);
        answer
    }

    /// Takes one connection on `port` and sends everything back until the peer is done.
    pub fn echo(&mut self, port: u16) -> Result<()> {
        let handle = self.tcp_socket();
        self.sockets.get_mut::<tcp::Socket>(handle).listen(port)?;
        let result = self.run("a connection to echo", |_, sockets| {
            let socket = sockets.get_mut::<tcp::Socket>(handle);
            if socket.can_recv() && socket.can_send() {
                let room = socket.send_capacity() - socket.send_queue();
                let bytes = socket.recv(|data| {
                    let count = data.len().min(room);
                    (count, data[..count].to_vec())
                });
                if let Ok(bytes) = bytes {
                    socket.send_slice(&bytes).ok()?;
                }
            }
            if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
                socket.close();
            }
            matches!(socket.state(), tcp::State::Closed | tcp::State::TimeWait).then_some(())
        });
        self.sockets.remove(handle);
        result
    }

    /// Connects, sends `request` and returns what comes back until it is as long as the request.
    pub fn exchange(&mut self, to: SocketAddrV4, request: &[u8]) -> Result<Vec<u8>> {
        let handle = self.tcp_socket();
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.interface.context(), to, 40_001)?;
        let mut sent = 0;
        let mut answer = Vec::new();
        let result = self.run("a TCP exchange", |_, sockets| {
            let socket = sockets.get_mut::<tcp::Socket>(handle);
            if socket.state() == tcp::State::Closed {
                return Some(false);
            }
            if socket.can_send() && sent < request.len() {
                sent += socket.send_slice(&request[sent..]).unwrap_or(0);
            }
            if socket.can_recv() {
                let _ = socket.recv(|data| {
                    answer.extend_from_slice(data);
                    (data.len(), ())
                });
            }
            (answer.len() >= request.len()).then_some(true)
        })?;
        ensure!(result, "the connection was refused or reset");
        self.sockets.get_mut::<tcp::Socket>(handle).abort();
        // Only now is the reset sent that tells the peer.
        self.interface.poll(Clock::now(), &mut self.wire, &mut self.sockets);
        self.sockets.remove(handle);
        Ok(answer)
    }

    /// Sends a frame as it is.
    pub fn send_raw(&mut self, frame: &[u8]) -> Result<()> {
        self.wire.send(frame)
    }

    /// The next frame that `wanted` accepts, or `None` if none comes within `patience`.
    pub fn receive_raw(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        loop {
            while let Some(frame) = self.wire.frames.pop_front() {
                if wanted(&frame) {
                    return Ok(Some(frame));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wire.gather(left)?;
        }
    }

    fn tcp_socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 * 1024]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Runs the stack until `done` has a result.
    fn run<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Interface, &mut SocketSet<'static>) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.interface.poll(Clock::now(), &mut self.wire, &mut self.sockets);
            let result = done(&mut self.interface, &mut self.sockets);
            self.interface.poll(Clock::now(), &mut self.wire, &mut self.sockets);
            if let Some(result) = result {
                return Ok(result);
            }
            ensure!(Instant::now() < deadline, "{what} took over {DEADLINE:?}");
            let delay = self.interface.poll_delay(Clock::now(), &self.sockets);
            let delay =
                delay.map_or(Duration::from_millis(100), |delay| Duration::from_micros(delay.total_micros()));
            self.wire.gather(delay.min(Duration::from_millis(100)))?;
        }
    }
}

impl Wire {
    fn send(&mut self, frame: &[u8]) -> Result<()> {
        let length = u32::try_from(frame.len())?.to_be_bytes();
        self.stream.write_all(&[&length, frame].concat())?;
        Ok(())
    }

    /// Reads what is there, waiting at most `patience`.
    fn gather(&mut self, patience: Duration) -> Result<()> {
        if self.frames.is_empty() {
            self.stream.set_read_timeout(Some(patience.max(Duration::from_micros(1))))?;
            let mut buffer = vec![0; 256 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the switch closed the port"),
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e.into()),
            }
        }
        while let Some(prefix) = self.unread.first_chunk::<4>() {
            let end = 4 + u32::from_be_bytes(*prefix) as usize;
            if self.unread.len() < end {
                break;
            }
            self.frames.push_back(self.unread[4..end].to_vec());
            self.unread.drain(..end);
        }
        Ok(())
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Clock) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let frame = self.frames.pop_front()?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _: Clock) -> Option<Self::TxToken<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

struct Received(Vec<u8>);

impl smoltcp::phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut Wire);

impl smoltcp::phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // A closed port shows when the station next reads.
        let _ = self.0.send(&frame);
        result
    }
}
