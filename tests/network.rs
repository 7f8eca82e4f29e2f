//! The lab LAN with its real uplink (a QEMU without a machine) and stations that are no VMs.

mod bench;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use bench::{
    Bench, GATEWAY, NODE_1, NODE_2, SHORT, blocking, dhcp_discover, mac, node,
    station::{self, Station},
};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use lab_model::network::MacAddr;
use lab_vm::network::{Egress, HostPort};

#[tokio::test]
async fn every_node_gets_its_planned_lease_and_strangers_get_none() -> Result<()> {
    let mut bench = Bench::new(1500).await?;
    for (n, address) in [(1, NODE_1), (2, NODE_2)] {
        let mut station = bench.station(n)?;
        let lease = blocking(move || station.lease()).await?;
        ensure!((lease.address.address(), lease.address.prefix_len()) == (address, 24), "{lease:?}");
        ensure!((lease.router, lease.dns.as_slice()) == (Some(GATEWAY), &[GATEWAY][..]), "{lease:?}");
    }
    ensure!(bench.lan.counters().services.dhcp == 4, "{:?}", bench.lan.counters());

    let mut stranger = Station::attach(&bench.socket(1)?, mac(99), 1500)?;
    let discover = dhcp_discover(mac(99));
    let answer = blocking(move || {
        stranger.send_raw(&discover)?;
        stranger.receive_raw(SHORT, |_| true)
    })
    .await?;
    ensure!(answer.is_none(), "a stranger was answered");
    let notes = bench.notes();
    ensure!(notes.iter().any(|note| note.contains("52:54:00:00:00:63")), "{notes:?}");
    Ok(())
}

#[tokio::test]
async fn names_and_time_come_from_the_gateway() -> Result<()> {
    let bench = Bench::new(1500).await?;
    bench.lan.add_name("registry", GATEWAY);
    let mut station = bench.station(1)?;
    blocking(move || {
        station.lease()?;
        let mut ask = |name: &str| -> Result<(ResponseCode, Vec<String>)> {
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
            let answer = station.ask(SocketAddrV4::new(GATEWAY, 53), &query.to_vec()?)?;
            let reply = Message::from_vec(&answer)?;
            let answers = reply.answers.iter().map(|record| record.data.to_string()).collect();
            Ok((reply.metadata.response_code, answers))
        };
        let found = |address: &str| (ResponseCode::NoError, vec![address.to_owned()]);
        ensure!(ask("node-2.")? == found("10.5.0.3"));
        ensure!(ask("registry.lab.internal.")? == found("10.5.0.1"));
        ensure!(ask("registry.k8s.io.")? == (ResponseCode::NXDomain, vec![]));

        let mut request = [0_u8; 48];
        request[0] = 0x23;
        let answer = station.ask(SocketAddrV4::new(GATEWAY, 123), &request)?;
        let seconds = u32::from_be_bytes(answer[40..44].try_into()?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 2_208_988_800;
        let off = i64::from(seconds) - i64::try_from(now & 0xffff_ffff)?;
        ensure!(off.abs() <= 2, "the clock is {off} s off");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_host_port_leads_to_a_node() -> Result<()> {
    let bench = Bench::new(1500).await?;
    let address = bench.lan.forward(&node(1), 7).context("no forward")?;
    ensure!(address.ip().is_loopback());
    let mut station = bench.station(1)?;
    let echo = blocking(move || {
        station.lease()?;
        station.echo(7)
    });
    let payload: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = payload.clone();
    let client = blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(station::DEADLINE))?;
        let mut sender = stream.try_clone()?;
        let sending = std::thread::spawn(move || sender.write_all(&payload));
        let mut echoed = vec![0; expected.len()];
        stream.read_exact(&mut echoed)?;
        sending.join().expect("the sender does not panic")?;
        ensure!(echoed == expected, "the echo differs");
        Ok(())
    });
    let (echo, client) = tokio::join!(echo, client);
    echo.and(client)
}

#[tokio::test]
async fn a_host_that_knocks_before_a_node_is_up_gets_in_soon_after() -> Result<()> {
    let bench = Bench::new(1500).await?;
    let address = bench.lan.forward(&node(1), 7).context("no forward")?;
    let mut stream = TcpStream::connect(address)?;
    // Long enough for the first SYN to be lost; slirp itself would repeat it after six seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut station = bench.station(1)?;
    let up = Instant::now();
    let echo = blocking(move || {
        station.lease()?;
        station.echo(7)
    });
    let answered = blocking(move || {
        stream.write_all(b"hello")?;
        stream.read_exact(&mut [0; 5])?;
        Ok(up.elapsed())
    });
    let (echo, answered) = tokio::join!(echo, answered);
    echo?;
    let answered = answered?;
    ensure!(answered < Duration::from_secs(3), "it took {answered:?}");
    Ok(())
}

#[tokio::test]
async fn a_forward_can_be_added_while_running() -> Result<()> {
    let bench = Bench::new(1500).await?;
    ensure!(bench.lan.forward(&node(2), 4000).is_none());
    let address = bench.lan.add_forward(&node(2), 4000).await?;
    ensure!(bench.lan.forward(&node(2), 4000) == Some(address));
    ensure!(bench.lan.add_forward(&node(2), 4000).await? == address);
    ensure!(bench.lan.add_forward(&"nobody".parse()?, 1).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_node_reaches_the_hosts_loopback_at_the_gateway() -> Result<()> {
    let bench = Bench::new(1500).await?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    bench.lan.serve(HostPort::Tcp(port));
    let server = blocking(move || {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 5];
        stream.read_exact(&mut request)?;
        stream.write_all(&request)?;
        Ok(())
    });
    let mut station = bench.station(1)?;
    let client = blocking(move || {
        station.lease()?;
        station.exchange(SocketAddrV4::new(GATEWAY, port), b"hello")
    });
    let (server, answer) = tokio::join!(server, client);
    server?;
    ensure!(answer? == b"hello");
    Ok(())
}

/// An answer of the switch: ICMP, destination unreachable, administratively prohibited.
fn prohibited(frame: &[u8]) -> bool {
    frame.get(23) == Some(&1) && frame.get(34..36) == Some(&[3, 13])
}

/// Sends a packet to each port of the gateway and returns the ports that do not answer "prohibited".
fn scanned(
    station: &mut Station,
    from: Ipv4Addr,
    protocol: fn(etherparse::PacketBuilderStep<etherparse::IpHeaders>, u16) -> Result<Vec<u8>>,
) -> Result<Vec<u16>> {
    // Fewer answers than the port's queue holds.
    const BATCH: u16 = 2000;
    let mut open: std::collections::BTreeSet<u16> = (1..=u16::MAX).collect();
    for first in (1..=u16::MAX).step_by(BATCH.into()) {
        let ports = first..=first.saturating_add(BATCH - 1);
        let mut wanted = 0;
        for port in ports {
            let to = etherparse::PacketBuilder::ethernet2(mac(1).bytes(), mac_of_gateway()).ipv4(
                from.octets(),
                GATEWAY.octets(),
                64,
            );
            station.send_raw(&protocol(to, port)?)?;
            wanted += 1;
        }
        // An answer quotes the header of the packet, with the port.
        while wanted > 0 {
            let Some(answer) = station.receive_raw(SHORT, prohibited)? else { break };
            let port = answer.get(64..66).context("a quoted port")?;
            open.remove(&u16::from_be_bytes([port[0], port[1]]));
            wanted -= 1;
        }
    }
    Ok(open.into_iter().collect())
}

#[tokio::test]
async fn a_scan_of_all_ports_of_the_gateway_finds_only_what_is_served() -> Result<()> {
    scan(None, Egress::Refuse).await
}

/// A pod sends from its own address if its node does not replace it.
#[tokio::test]
async fn a_scan_from_a_pod_finds_only_what_is_served() -> Result<()> {
    scan(Some(POD), Egress::Refuse).await
}

#[tokio::test]
async fn a_scan_with_a_tailnet_of_the_users_own_finds_only_what_is_served() -> Result<()> {
    for from in [None, Some(POD)] {
        // A login server in a private network is what opens most.
        scan(from, Egress::Allow { also: Some(Ipv4Addr::new(192, 168, 7, 7)) }).await?;
    }
    Ok(())
}

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 7);

/// Scans the gateway from a node, or from another address behind its network card.
async fn scan(from: Option<Ipv4Addr>, egress: Egress) -> Result<()> {
    let mut bench = Bench::new(1500).await?;
    bench.lan.set_egress(egress);
    let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let sockets = [std::net::UdpSocket::bind("127.0.0.1:0")?, std::net::UdpSocket::bind("127.0.0.1:0")?];
    let [served, closed] = [0, 1].map(|n: usize| listeners[n].local_addr().map(|address| address.port()));
    let [served_udp, closed_udp] =
        [0, 1].map(|n: usize| sockets[n].local_addr().map(|address| address.port()));
    let (served, served_udp) = (served?, served_udp?);
    bench.lan.serve(HostPort::Tcp(served));
    bench.lan.serve(HostPort::Udp(served_udp));
    let mut station = bench.station(1)?;
    let (tcp, udp) = blocking(move || {
        let own = station.lease()?.address.address();
        let from = from.unwrap_or(own);
        let tcp = scanned(&mut station, from, |to, port| {
            let mut frame = Vec::new();
            to.tcp(40_000, port, 1, 1000).syn().write(&mut frame, &[])?;
            Ok(frame)
        })?;
        let udp = scanned(&mut station, from, |to, port| {
            let mut frame = Vec::new();
            to.udp(40_000, port).write(&mut frame, b"x")?;
            Ok(frame)
        })?;
        // Beside the gateway: this host, a neighbour in the LAN, private networks and the metadata of a cloud.
        for closed in
            [[127, 0, 0, 1], [10, 5, 0, 77], [172, 16, 0, 1], [192, 168, 1, 1], [169, 254, 169, 254]]
        {
            let mut frame = Vec::new();
            let to = etherparse::PacketBuilder::ethernet2(mac(1).bytes(), mac_of_gateway());
            to.ipv4(from.octets(), closed, 64).tcp(40_000, 80, 1, 1000).syn().write(&mut frame, &[])?;
            station.send_raw(&frame)?;
            ensure!(station.receive_raw(station::DEADLINE, prohibited)?.is_some(), "{closed:?} is open");
        }
        Ok((tcp, udp))
    })
    .await?;
    ensure!(tcp == [served], "open TCP ports: {tcp:?}, {closed:?} listens and is not served");
    // The switch itself serves names, leases and time, and does not answer nonsense.
    let mut expected = vec![53, 67, 123, served_udp];
    expected.sort_unstable();
    ensure!(udp == expected, "open UDP ports: {udp:?}, {closed_udp:?} listens and is not served");
    for (listener, open) in listeners.iter().zip([true, false]) {
        listener.set_nonblocking(true)?;
        ensure!(listener.accept().is_ok() == open, "{listener:?}");
    }
    for (socket, open) in sockets.iter().zip([true, false]) {
        socket.set_nonblocking(true)?;
        ensure!(socket.recv(&mut [0; 9]).is_ok() == open, "{socket:?}");
    }
    let refused = bench.lan.counters().refused;
    let at_gateway = refused.iter().find(|refused| refused.destination == GATEWAY).context("none refused")?;
    ensure!(at_gateway.packets == 2 * 65_535 - 5 && refused.len() == 6, "{refused:?}");
    let notes = bench.notes();
    let told = notes.iter().filter(|note| note.contains("of the host at 10.5.0.1")).count();
    ensure!(told == 9, "the notes of a scan are bounded: {notes:?}");
    Ok(())
}

#[tokio::test]
async fn a_planned_address_is_used_by_its_own_card_only() -> Result<()> {
    let mut bench = Bench::new(1500).await?;
    let (mut first, mut second) = (bench.station(1)?, bench.station(2)?);
    let frame = |to: [u8; 6], from: [u8; 6], mark: u8| [&to[..], &from, &[0x88, 0xb5], &[mark; 46]].concat();
    let is = |mark: u8| move |frame: &[u8]| frame.get(12..15) == Some(&[0x88, 0xb5, mark][..]);
    blocking(move || {
        // The second claims the addresses of the first and of the gateway.
        for claimed in [mac(1).bytes(), mac_of_gateway()] {
            second.send_raw(&frame([0xff; 6], claimed, 1))?;
        }
        ensure!(first.receive_raw(SHORT, is(1))?.is_none(), "a frame under a false address was delivered");
        second.send_raw(&frame(mac(1).bytes(), mac(2).bytes(), 2))?;
        ensure!(first.receive_raw(station::DEADLINE, is(2))?.is_some(), "the first lost its address");
        Ok(())
    })
    .await?;
    let notes = bench.notes();
    ensure!(
        notes.iter().filter(|note| note.contains("the address of another network card")).count() == 1,
        "{notes:?}"
    );
    Ok(())
}

#[tokio::test]
async fn leaving_the_lan_is_refused_at_once_and_noted_once() -> Result<()> {
    let mut bench = Bench::new(1500).await?;
    let mut station = bench.station(1)?;
    let answers = blocking(move || {
        let lease = station.lease()?;
        let gateway = mac_of_gateway();
        let mut answers = 0;
        // The last one is a service's: a node without the rules of kube-proxy sends it to the gateway.
        for destination in [[192, 0, 2, 7], [192, 0, 2, 7], [192, 0, 2, 7], [10, 96, 0, 10]] {
            let builder = etherparse::PacketBuilder::ethernet2(mac(1).bytes(), gateway)
                .ipv4(lease.address.address().octets(), destination, 64)
                .tcp(40_000, 443, 1, 1000)
                .syn();
            let mut frame = Vec::new();
            builder.write(&mut frame, &[])?;
            station.send_raw(&frame)?;
            answers += usize::from(station.receive_raw(station::DEADLINE, prohibited)?.is_some());
        }
        Ok(answers)
    })
    .await?;
    ensure!(answers == 4, "{answers} answers");
    let refused = bench.lan.counters().refused;
    ensure!(refused.len() == 1 && refused[0].packets == 3, "{refused:?}");
    ensure!(refused[0].destination == Ipv4Addr::new(192, 0, 2, 7));
    let notes = bench.notes();
    ensure!(notes.iter().filter(|note| note.contains("192.0.2.7")).count() == 1, "{notes:?}");
    ensure!(!notes.iter().any(|note| note.contains("10.96.0.10")), "{notes:?}");
    bench.lan.set_egress(Egress::Allow { also: None });
    Ok(())
}

fn mac_of_gateway() -> [u8; 6] {
    [0x52, 0x55, 10, 5, 0, 1]
}

#[tokio::test]
async fn frames_go_only_where_they_belong_and_a_cut_link_carries_none() -> Result<()> {
    let bench = Bench::new(1500).await?;
    let (mut first, mut second) = (bench.station(1)?, bench.station(2)?);
    let frame =
        |to: [u8; 6], from: MacAddr, mark: u8| [&to[..], &from.bytes(), &[0x88, 0xb5], &[mark; 46]].concat();
    let is = |mark: u8| move |frame: &[u8]| frame.get(12..15) == Some(&[0x88, 0xb5, mark][..]);

    let (mut first, mut second) = blocking(move || {
        // The first frame introduces the second station to the switch.
        second.send_raw(&frame([0xff; 6], mac(2), 1))?;
        ensure!(first.receive_raw(station::DEADLINE, is(1))?.is_some(), "a broadcast was lost");
        first.send_raw(&frame(mac(2).bytes(), mac(1), 2))?;
        ensure!(second.receive_raw(station::DEADLINE, is(2))?.is_some(), "a unicast was lost");
        Ok((first, second))
    })
    .await?;
    let uplink = bench.lan.counters().ports.pop().context("no ports")?;
    let announced = bench.lan.plan().attachments.len() as u64;
    ensure!(uplink.frames_out == announced, "frames of an unknown protocol went to the uplink: {uplink:?}");

    for (down, other) in [(1, 2), (2, 1)] {
        bench.lan.cut(&node(down))?;
        (first, second) = blocking(move || {
            first.send_raw(&frame(mac(2).bytes(), mac(1), 3))?;
            ensure!(second.receive_raw(SHORT, is(3))?.is_none(), "node-{down} is cut, {other} heard it");
            Ok((first, second))
        })
        .await?;
        bench.lan.restore(&node(down))?;
    }
    blocking(move || {
        first.send_raw(&frame(mac(2).bytes(), mac(1), 4))?;
        ensure!(second.receive_raw(station::DEADLINE, is(4))?.is_some(), "a mended link carries nothing");
        Ok(())
    })
    .await?;
    let down: u64 = bench.lan.counters().ports.iter().map(|port| port.dropped_down).sum();
    ensure!(down == 2, "{down} frames were dropped by cut links");
    Ok(())
}

#[tokio::test]
async fn a_port_that_does_not_read_delays_no_other_port() -> Result<()> {
    let bench = Bench::new(65_000).await?;
    let (mut first, _silent) = (bench.station(1)?, bench.station(2)?);
    blocking(move || {
        let big = [&mac(2).bytes()[..], &mac(1).bytes(), &[0x88, 0xb5], &[0; 60_000]].concat();
        for _ in 0..200 {
            first.send_raw(&big)?;
        }
        first.lease()
    })
    .await?;
    let counters = bench.lan.counters();
    ensure!(counters.ports[1].dropped_slow > 0, "{counters:?}");
    Ok(())
}

#[tokio::test]
async fn the_largest_frames_pass_between_nodes() -> Result<()> {
    let bench = Bench::new(65_000).await?;
    let (mut server, mut client) = (bench.station(1)?, bench.station(2)?);
    let echo = blocking(move || {
        server.lease()?;
        server.echo(7)
    });
    let exchange = blocking(move || {
        client.lease()?;
        let request: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
        let answer = client.exchange(SocketAddrV4::new(NODE_1, 7), &request)?;
        ensure!(answer == request, "the echo differs");
        Ok(())
    });
    let (echo, exchange) = tokio::join!(echo, exchange);
    echo.and(exchange)
}

#[tokio::test]
async fn two_lans_do_not_meet() -> Result<()> {
    let (one, two) = (Bench::new(1500).await?, Bench::new(1500).await?);
    ensure!(one.lan.forward(&node(1), 7) != two.lan.forward(&node(1), 7));
    ensure!(one.socket(1)? != two.socket(1)?);
    Ok(())
}

#[tokio::test]
async fn the_end_of_the_uplink_is_a_failure_with_a_cause() -> Result<()> {
    let bench = Bench::new(1500).await?;
    std::process::Command::new("kill").args(["-9", &bench.lan.uplink_pid().to_string()]).status()?;
    let failure = tokio::time::timeout(station::DEADLINE, bench.lan.failure()).await?;
    ensure!(failure.to_string().contains("uplink ended"), "{failure}");
    Ok(())
}

#[tokio::test]
async fn dropping_a_lan_leaves_nothing() -> Result<()> {
    let Bench { lan, directory, processes, .. } = Bench::new(1500).await?;
    let sockets = lan.socket(&node(1)).context("no socket")?.parent().context("no parent")?.to_owned();
    let address = lan.forward(&node(1), 7).context("no forward")?;
    drop(lan);
    drop(processes);
    ensure!(!sockets.exists());
    ensure!(TcpStream::connect(address).is_err());
    ensure!(std::fs::read_dir(directory.path().join("processes"))?.count() == 0);
    Ok(())
}
