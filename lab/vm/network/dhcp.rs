//! DHCP with fixed leases (RFC 2131, RFC 2132).

use std::{collections::HashMap, net::Ipv4Addr};

use dhcproto::{
    Decodable, Decoder, Encodable, Encoder,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode},
};
use lab_model::network::{LanPlan, MacAddr, address};

use super::packet::{Datagram, Endpoint, udp_frame};

/// Port of DHCP servers.
pub const PORT: u16 = 67;

/// Port of DHCP clients.
const CLIENT_PORT: u16 = 68;

/// Bytes of an Ethernet address (`hlen`).
const ETHERNET_ADDRESS: u8 = 6;

/// Longer than the life of any lab, so that no client renews. Shorter than values that signed
/// arithmetic in clients could interpret as negative.
const LEASE_SECONDS: u32 = 30 * 24 * 3600;

/// A DHCP server with a fixed list of clients.
pub struct DhcpServer {
    gateway: Endpoint,
    netmask: Ipv4Addr,
    broadcast: Ipv4Addr,
    domain: String,
    mtu: u16,
    leases: HashMap<MacAddr, Lease>,
}

struct Lease {
    address: Ipv4Addr,
    hostname: String,
}

/// The result of handling a client's message.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// A frame for the client.
    Reply(Vec<u8>),
    /// No reply.
    Silence,
    /// The client is not in the plan.
    Stranger(MacAddr),
}

impl DhcpServer {
    pub fn new(plan: &LanPlan) -> Self {
        let leases = plan.attachments.iter().map(|attachment| {
            let lease = Lease { address: attachment.address, hostname: attachment.node.to_string() };
            (attachment.mac, lease)
        });
        Self {
            gateway: Endpoint { mac: address::gateway_mac(plan.gateway), address: plan.gateway, port: PORT },
            netmask: plan.network.netmask(),
            broadcast: plan.network.broadcast(),
            domain: plan.domain.clone(),
            mtu: plan.mtu,
            leases: leases.collect(),
        }
    }

    /// Handles one message.
    pub fn answer(&self, datagram: &Datagram<'_>) -> Answer {
        let Some(payload) = understood(datagram.payload) else { return Answer::Silence };
        let Ok(request) = Message::decode(&mut Decoder::new(&payload)) else { return Answer::Silence };
        let Some(client) = client_mac(&request) else { return Answer::Silence };
        let Some(lease) = self.leases.get(&client) else { return Answer::Stranger(client) };
        let Some(kind) = self.reply_kind(&request, lease) else { return Answer::Silence };
        self.reply(&request, lease, kind, client).map_or(Answer::Silence, Answer::Reply)
    }

    fn reply_kind(&self, request: &Message, lease: &Lease) -> Option<MessageType> {
        let options = request.opts();
        match options.msg_type()? {
            MessageType::Discover => Some(MessageType::Offer),
            MessageType::Inform => Some(MessageType::Ack),
            MessageType::Request => {
                // A request with another server identifier declines our offer.
                if let Some(DhcpOption::ServerIdentifier(server)) = options.get(OptionCode::ServerIdentifier)
                    && *server != self.gateway.address
                {
                    return None;
                }
                let wanted = match options.get(OptionCode::RequestedIpAddress) {
                    Some(DhcpOption::RequestedIpAddress(address)) => *address,
                    _ => request.ciaddr(),
                };
                Some(if wanted == lease.address { MessageType::Ack } else { MessageType::Nak })
            }
            _ => None,
        }
    }

    fn reply(&self, request: &Message, lease: &Lease, kind: MessageType, client: MacAddr) -> Option<Vec<u8>> {
        let mut reply = Message::default();
        reply
            .set_opcode(Opcode::BootReply)
            .set_xid(request.xid())
            .set_flags(request.flags())
            .set_chaddr(&client.bytes());
        let refused = kind == MessageType::Nak;
        let informed = request.opts().msg_type() == Some(MessageType::Inform);
        if !refused {
            reply.set_siaddr(self.gateway.address).set_ciaddr(request.ciaddr());
            if !informed {
                reply.set_yiaddr(lease.address);
            }
        }
        let options = reply.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.gateway.address));
        if !refused {
            if !informed {
                options.insert(DhcpOption::AddressLeaseTime(LEASE_SECONDS));
            }
            options.insert(DhcpOption::SubnetMask(self.netmask));
            options.insert(DhcpOption::BroadcastAddr(self.broadcast));
            options.insert(DhcpOption::Router(vec![self.gateway.address]));
            options.insert(DhcpOption::DomainNameServer(vec![self.gateway.address]));
            options.insert(DhcpOption::NtpServers(vec![self.gateway.address]));
            options.insert(DhcpOption::Hostname(lease.hostname.clone()));
            options.insert(DhcpOption::DomainName(self.domain.clone()));
            options.insert(DhcpOption::InterfaceMtu(self.mtu));
        }
        let mut payload = Vec::with_capacity(400);
        reply.encode(&mut Encoder::new(&mut payload)).ok()?;
        // BOOTP clients may drop messages below the size of a BOOTP packet (RFC 1542, 2.1).
        payload.resize(payload.len().max(300), 0);
        udp_frame(self.gateway, destination(request, refused, client), &payload)
    }
}

/// The destination of a reply (RFC 2131, 4.1). A client without an address is reached by its Ethernet
/// address, unless it requests broadcast or gets a refusal.
fn destination(request: &Message, refused: bool, client: MacAddr) -> Endpoint {
    let broadcast = refused || request.flags() == Flags::default().set_broadcast();
    let (mac, address) = if broadcast {
        (MacAddr::BROADCAST, Ipv4Addr::BROADCAST)
    } else if request.ciaddr().is_unspecified() {
        (client, Ipv4Addr::BROADCAST)
    } else {
        (client, request.ciaddr())
    };
    Endpoint { mac, address, port: CLIENT_PORT }
}

/// Copies a message with only the options that the server reads, if its lengths are valid. The
/// library panics on invalid lengths, and a guest can send any bytes. (RFC 2131, section 2; RFC 2132,
/// section 2.)
fn understood(message: &[u8]) -> Option<Vec<u8>> {
    // Start of the options, after the magic cookie.
    const OPTIONS: usize = 240;
    const PAD: u8 = 0;
    const END: u8 = 255;
    if message.get(2) != Some(&ETHERNET_ADDRESS) {
        return None;
    }
    let mut rest = message.get(OPTIONS..)?;
    let mut kept = message.get(..OPTIONS)?.to_vec();
    loop {
        match rest {
            [] | [END, ..] => break,
            [PAD, more @ ..] => rest = more,
            [code, length, more @ ..] => {
                let content = more.get(..usize::from(*length))?;
                match (OptionCode::from(*code), content.len()) {
                    (OptionCode::MessageType, 1)
                    | (OptionCode::RequestedIpAddress | OptionCode::ServerIdentifier, 4) => {
                        kept.extend([*code, *length]);
                        kept.extend(content);
                    }
                    (
                        OptionCode::MessageType
                        | OptionCode::RequestedIpAddress
                        | OptionCode::ServerIdentifier,
                        _,
                    ) => {
                        return None;
                    }
                    _ => {}
                }
                rest = &more[content.len()..];
            }
            [_] => return None,
        }
    }
    kept.push(END);
    Some(kept)
}

fn client_mac(request: &Message) -> Option<MacAddr> {
    (request.opcode() == Opcode::BootRequest).then_some(())?;
    Some(MacAddr::new(request.chaddr().try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(client: MacAddr, kind: MessageType, more: Vec<DhcpOption>) -> Answer {
        let mut message = Message::default();
        message.set_xid(7).set_chaddr(&client.bytes());
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        for option in more {
            message.opts_mut().insert(option);
        }
        let payload = message.to_vec().unwrap();
        let from = Endpoint { mac: client, address: Ipv4Addr::UNSPECIFIED, port: CLIENT_PORT };
        let to = Endpoint { mac: MacAddr::BROADCAST, address: Ipv4Addr::BROADCAST, port: PORT };
        DhcpServer::new(&LanPlan::for_tests(2)).answer(&Datagram { from, to, payload: &payload })
    }

    fn message(answer: &Answer) -> Message {
        let Answer::Reply(frame) = answer else { panic!("no reply: {answer:?}") };
        Message::decode(&mut Decoder::new(Datagram::parse(frame).unwrap().payload)).unwrap()
    }

    const NODE_2: MacAddr = MacAddr::new([0x52, 0x54, 0, 0, 0, 3]);

    #[test]
    fn an_offer_carries_the_planned_address_and_everything_a_node_needs() {
        let offer = message(&ask(NODE_2, MessageType::Discover, vec![]));
        assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 5, 0, 3));
        let mut options: Vec<String> = offer.opts().iter().map(|(_, option)| format!("{option:?}")).collect();
        options.sort();
        insta::assert_snapshot!(options.join("\n"));
    }

    #[test]
    fn the_planned_address_is_acknowledged_and_another_refused() {
        let request = |address: Ipv4Addr| {
            let answer = ask(NODE_2, MessageType::Request, vec![DhcpOption::RequestedIpAddress(address)]);
            message(&answer).opts().msg_type().unwrap()
        };
        assert_eq!(request(Ipv4Addr::new(10, 5, 0, 3)), MessageType::Ack);
        assert_eq!(request(Ipv4Addr::new(10, 5, 0, 2)), MessageType::Nak);
    }

    #[test]
    fn a_hardware_address_longer_than_its_field_is_no_client() {
        let mut message = Message::default();
        message.set_chaddr(&NODE_2.bytes());
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
        let mut payload = message.to_vec().unwrap();
        let from = Endpoint { mac: NODE_2, address: Ipv4Addr::UNSPECIFIED, port: CLIENT_PORT };
        let to = Endpoint { mac: MacAddr::BROADCAST, address: Ipv4Addr::BROADCAST, port: PORT };
        let server = DhcpServer::new(&LanPlan::for_tests(2));
        let answer = |payload: &[u8]| server.answer(&Datagram { from, to, payload });
        assert!(matches!(answer(&payload), Answer::Reply(_)));
        for length in [0, 5, 7, 17, 255] {
            payload[2] = length;
            assert_eq!(answer(&payload), Answer::Silence, "{length}");
        }
    }

    #[test]
    fn options_of_impossible_lengths_are_no_request_and_unknown_ones_do_no_harm() {
        let with = |option: &[u8]| {
            let mut message = Message::default();
            message.set_chaddr(&NODE_2.bytes());
            let mut payload = message.to_vec().unwrap();
            payload.truncate(240);
            payload.extend([option, &[53, 1, 1, 255]].concat());
            let from = Endpoint { mac: NODE_2, address: Ipv4Addr::UNSPECIFIED, port: CLIENT_PORT };
            let to = Endpoint { mac: MacAddr::BROADCAST, address: Ipv4Addr::BROADCAST, port: PORT };
            DhcpServer::new(&LanPlan::for_tests(2)).answer(&Datagram { from, to, payload: &payload })
        };
        for option in [&[50_u8, 3, 10, 5, 0][..], &[54, 0], &[53, 2, 1, 1], &[12, 200, 1]] {
            assert_eq!(with(option), Answer::Silence, "{option:?}");
        }
        for option in [&[][..], &[0, 0], &[51, 3, 1, 2, 3], &[80, 1, 7], &[61, 0]] {
            assert!(matches!(with(option), Answer::Reply(_)), "{option:?}");
        }
    }

    #[test]
    fn strangers_get_nothing_and_other_servers_clients_are_left_alone() {
        let stranger = MacAddr::new([2, 0, 0, 0, 0, 9]);
        assert_eq!(ask(stranger, MessageType::Discover, vec![]), Answer::Stranger(stranger));
        let elsewhere = DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 5, 0, 77));
        assert_eq!(ask(NODE_2, MessageType::Request, vec![elsewhere]), Answer::Silence);
        assert_eq!(ask(NODE_2, MessageType::Release, vec![]), Answer::Silence);
    }
}
