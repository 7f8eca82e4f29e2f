//! DNS for the names of the nodes only (RFC 1035).
//!
//! The gateway is the only name server of the nodes, so it rejects every other name immediately.
//! Otherwise a lab would wait for answers from the internet.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata},
};
use lab_model::network::LanPlan;

/// Port of DNS servers.
pub(super) const PORT: u16 = 53;

/// Names do not change while a lab runs. The TTL is short, so that nodes find later names soon.
const TTL_SECONDS: u32 = 30;

/// The DNS names of one LAN.
pub struct DnsServer {
    domain: String,
    addresses: HashMap<String, Ipv4Addr>,
    names: HashMap<Ipv4Addr, String>,
}

impl DnsServer {
    /// Creates a server with every node and `gateway`, each with and without the domain.
    pub fn new(plan: &LanPlan) -> Self {
        let mut server =
            Self { domain: plan.domain.clone(), addresses: HashMap::new(), names: HashMap::new() };
        server.add("gateway", plan.gateway);
        for attachment in &plan.attachments {
            server.add(attachment.node.as_str(), attachment.address);
        }
        server
    }

    /// Adds a name. A name without a dot also gets the domain. A reverse look-up returns the first
    /// name of the address.
    pub fn add(&mut self, name: &str, address: Ipv4Addr) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let full = if name.contains('.') { name.clone() } else { format!("{name}.{}", self.domain) };
        self.addresses.insert(name, address);
        self.addresses.insert(full.clone(), address);
        self.names.entry(address).or_insert(full);
    }

    /// Answers one query; `None` if the payload is not a query.
    pub fn answer(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(payload).ok()?;
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_desired = query.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = true;
        reply.metadata.response_code = match query.queries.first() {
            _ if query.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
            Some(question) if question.query_class() == DNSClass::IN => {
                let (code, data) = self.look_up(question.name(), question.query_type());
                reply.add_answers(
                    data.map(|data| Record::from_rdata(question.name().clone(), TTL_SECONDS, data)),
                );
                code
            }
            Some(_) => ResponseCode::Refused,
            None => ResponseCode::FormErr,
        };
        reply.add_queries(query.queries.iter().take(1).cloned());
        reply.to_vec().ok()
    }

    fn look_up(&self, name: &Name, kind: RecordType) -> (ResponseCode, Option<RData>) {
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let (exists, data) = if text.ends_with(".in-addr.arpa") {
            let known = reverse_address(name).and_then(|address| self.names.get(&address));
            let target = known.and_then(|target| Name::from_ascii(format!("{target}.")).ok());
            let data = target.filter(|_| kind == RecordType::PTR).map(|name| RData::PTR(rdata::PTR(name)));
            (known.is_some(), data)
        } else {
            let address = self.addresses.get(&text);
            let data = address.filter(|_| kind == RecordType::A).map(|address| RData::A(rdata::A(*address)));
            (address.is_some(), data)
        };
        // An existing name without a record of this type (usually AAAA) is not an error. A denial
        // would make clients give up on the A record too.
        (if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }, data)
    }
}

fn reverse_address(name: &Name) -> Option<Ipv4Addr> {
    match name.parse_arpa_name().ok()?.addr() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use proptest::prelude::*;

    fn server() -> DnsServer {
        let mut server = DnsServer::new(&LanPlan::for_tests(2));
        server.add("registry.example", Ipv4Addr::new(10, 5, 0, 1));
        server
    }

    fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        let reply = Message::from_vec(&server().answer(&query.to_vec().unwrap()).unwrap()).unwrap();
        assert_eq!((reply.metadata.id, &reply.queries), (query.metadata.id, &query.queries));
        (reply.metadata.response_code, reply.answers.iter().map(|record| record.data.to_string()).collect())
    }

    #[test]
    fn nodes_and_added_names_are_found_in_any_case_with_and_without_domain() {
        for (name, address) in [
            ("node-2.", "10.5.0.3"),
            ("NODE-2.lab.Internal.", "10.5.0.3"),
            ("gateway.lab.internal.", "10.5.0.1"),
            ("registry.example.", "10.5.0.1"),
        ] {
            assert_eq!(ask(name, RecordType::A), (ResponseCode::NoError, vec![address.to_owned()]), "{name}");
        }
    }

    #[test]
    fn addresses_have_names() {
        let (code, answers) = ask("3.0.5.10.in-addr.arpa.", RecordType::PTR);
        assert_eq!((code, answers), (ResponseCode::NoError, vec!["node-2.lab.internal.".to_owned()]));
    }

    #[test]
    fn a_known_name_without_such_a_record_is_no_error_and_other_names_do_not_exist() {
        assert_eq!(ask("node-1.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
        assert_eq!(ask("registry.k8s.io.", RecordType::A), (ResponseCode::NXDomain, vec![]));
        assert_eq!(ask("9.0.5.10.in-addr.arpa.", RecordType::PTR), (ResponseCode::NXDomain, vec![]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = server().answer(&payload);
        }
    }
}
