//! The tailnet without VMs: a real headscale and real tailscaled processes in user-space mode, one
//! of which plays the gateway.

mod secrets;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use lab_cluster::tailnet::{
    Approval, Carries, ClientSpec, ClientStatus, ControlServer, ControlSpec, Fact, GATEWAY_TAG, KeyOptions,
    Link, OutsideClient, Path as TailnetPath, Paths, Probe, Programs, Protocol, RouteLedger, TailnetNode,
    Transport, shared_prefixes,
};
use lab_plan::tailnet::AuthKey;
use lab_vm::process::Processes;
use secrets::{files_below, process_files, search};

const GATEWAY: &str = "gateway";
const OUTSIDE: &str = "outside";
const PODS: &str = "10.244.0.0/16";
const SERVICES: &str = "10.96.0.0/12";
/// For what takes a second or two on an idle host.
const PATIENCE: Duration = Duration::from_secs(60);

/// The three programs, built once when they are not there.
fn programs() -> Result<&'static Programs> {
    static PROGRAMS: OnceLock<Result<Programs, String>> = OnceLock::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    PROGRAMS
        .get_or_init(|| {
            Programs::at_or_built(&root.join("target/images/tailnet"), &root.join("images"))
                .map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|error| anyhow::anyhow!(error.clone()))
}

/// A compiler that notes where it is called and makes its output an empty file.
const GO: &str = r#"#!/bin/sh
test -f go.mod && test -f go.sum || exit 1
pwd >> "$WORK/called"
while [ "$1" != -o ]; do shift; done
: > "$2"
"#;

#[test]
fn a_lab_that_was_installed_elsewhere_builds_the_programs_from_sources_that_it_brings() -> Result<()> {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};
    let work = tempfile::tempdir()?;
    let place = work.path().canonicalize()?;
    fs::create_dir(place.join("bin"))?;
    fs::write(place.join("bin/go"), GO)?;
    fs::set_permissions(place.join("bin/go"), fs::Permissions::from_mode(0o755))?;
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["image", "programs", "--out", "images"])
        .current_dir(&place)
        .env("PATH", format!("{}:/usr/bin:/bin", place.join("bin").display()))
        .env("WORK", &place)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let called = fs::read_to_string(place.join("called"))?;
    ensure!(
        called.lines().count() == 6 && called.lines().all(|line| Path::new(line).starts_with(&place)),
        "{called}"
    );
    Programs::at(&place.join("images/tailnet"))?;
    Ok(())
}

/// A control server with its run directory.
struct Bench {
    control: ControlServer,
    processes: Processes,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn new(transport: Transport, approval: Approval) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let processes = Processes::new(directory.path().join("processes"))?;
        let spec = ControlSpec { seen_from_nodes: Ipv4Addr::LOCALHOST, transport, approval };
        let place = directory.path().join("tailnet");
        let control = ControlServer::start(spec, programs()?, &processes, &place).await?;
        Ok(Self { control, processes, directory })
    }

    async fn client(&self, spec: ClientSpec) -> Result<OutsideClient> {
        let access = self.control.access_from_host();
        let directory = self.directory.path().join("tailnet");
        Ok(OutsideClient::start(spec, &access, programs()?, &self.processes, &directory).await?)
    }

    /// A logged-in node with the gateway's tag.
    async fn gateway(
        &self,
        hostname: &str,
        routes: &[IpNet],
        paths: Paths,
    ) -> Result<(OutsideClient, AuthKey)> {
        let spec = ClientSpec {
            hostname: hostname.to_owned(),
            accept_routes: false,
            advertise_routes: routes.to_vec(),
            paths,
        };
        let key = KeyOptions { tags: vec![GATEWAY_TAG.to_owned()], ..KeyOptions::default() };
        let key = self.control.create_key(&key).await?;
        let client = self.client(spec).await?;
        client.log_in(&key, PATIENCE).await?;
        Ok((client, key))
    }

    /// A logged-in client that accepts routes.
    async fn outside(&self, paths: Paths) -> Result<(OutsideClient, AuthKey)> {
        let key = self.control.create_key(&KeyOptions::default()).await?;
        let client = self.client(ClientSpec { paths, ..ClientSpec::accepting(OUTSIDE) }).await?;
        client.log_in(&key, PATIENCE).await?;
        Ok((client, key))
    }

    /// Fails when a file of the run, or anything that a process list shows, has one of `keys`.
    fn nothing_shows(&self, keys: &[&AuthKey]) -> Result<()> {
        let mut files = files_below(self.directory.path())?;
        ensure!(files.iter().any(|path| path.ends_with("headscale.log")), "nothing was searched");
        files.extend(process_files());
        let secrets: Vec<_> = keys.iter().map(|key| key.reveal().to_owned()).collect();
        search(files, &secrets)
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// An address of this host that is not loopback: the one a packet to elsewhere would leave from.
/// Nothing is sent. A gateway in user-space mode forwards to it like to any pod.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_loopback() => Some(*address.ip()),
        _ => None,
    }
}

/// A web server on `address` that tells who asked.
async fn web_server(address: Ipv4Addr) -> Result<SocketAddr> {
    use axum::{Router, extract::ConnectInfo, routing::get};
    let listener = tokio::net::TcpListener::bind((address, 0)).await?;
    let address = listener.local_addr()?;
    let who = get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() });
    let app = Router::new().route("/", who).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(address)
}

/// Sends back every datagram that comes to `address`.
async fn udp_echo(address: Ipv4Addr) -> Result<SocketAddr> {
    let socket = tokio::net::UdpSocket::bind((address, 0)).await?;
    let address = socket.local_addr()?;
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    });
    Ok(address)
}

async fn filled(ledger: &mut RouteLedger, bench: &Bench, outside: &OutsideClient) -> Result<()> {
    ledger.note_nodes(&bench.control.nodes().await?);
    ledger.note_client(&outside.status().await?, &outside.preferences().await?);
    Ok(())
}

fn has_route(route: IpNet) -> impl Fn(&ClientStatus) -> bool {
    move |status| status.router_of(route).is_some()
}

#[tokio::test]
async fn a_route_that_the_policy_approves_is_used_and_carries_packets() -> Result<()> {
    let own = own_address();
    let mut routes = vec![net(PODS)];
    routes.extend(own.map(|address| IpNet::from(std::net::IpAddr::V4(address))));
    let bench = Bench::new(Transport::Http, Approval::Automatic(routes.clone())).await?;
    let (gateway, gateway_key) = bench.gateway(GATEWAY, &routes, Paths::Any).await?;
    let (outside, outside_key) = bench.outside(Paths::Any).await?;
    let status = outside.wait_for("the pod route", PATIENCE, has_route(net(PODS))).await?;

    let peer = status.peer(GATEWAY).context("the gateway is no peer")?;
    let address = *peer.addresses.first().context("the gateway has no address")?;
    // The first may take the relay while both look for a direct path.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pong = outside.ping(address, PATIENCE).await?;
        println!("pong from {} {} after {:?}", pong.node, pong.path, pong.latency);
        if matches!(pong.path, TailnetPath::Direct(_)) {
            break;
        }
        ensure!(Instant::now() < deadline, "no direct path on one host");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // The pod network leads nowhere here, so what is probed is the other route.
    let probed = routes.last().copied().context("no route")?;
    let mut ledger = RouteLedger::new(GATEWAY, [(probed, Carries::Pods)]);
    ledger.service = Fact::Yes;
    filled(&mut ledger, &bench, &outside).await?;
    ensure!(ledger.first_broken_link().map(|broken| broken.link) == Some(Link::PodReached), "{ledger}");
    if let Some(own) = own {
        let server = web_server(own).await?;
        let started = Instant::now();
        let answer = outside.get(&format!("http://{server}/"), PATIENCE).await?;
        let seen = String::from_utf8_lossy(&answer).into_owned();
        ledger.note_probe(probed, Probe::answered(server.to_string(), Protocol::Tcp, started.elapsed()));
        let echo = udp_echo(own).await?;
        ensure!(outside.udp(echo, b"there and back", PATIENCE).await? == b"there and back", "other bytes");
        println!("{ledger}\nthe server saw {seen}");
        ensure!(gateway.last_words() != "nothing" && ledger.first_broken_link().is_none(), "{ledger}");
    } else {
        println!("this host has no address but loopback: no packet was sent through the tailnet");
    }

    bench.nothing_shows(&[&gateway_key, &outside_key])
}

/// The TCP ports on which a process listens.
fn ports(pid: u32) -> Result<Vec<u16>> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: Vec<String> = targets.map(|target| target.display().to_string()).collect();
    let mut ports = Vec::new();
    for table in ["tcp", "tcp6"] {
        for row in std::fs::read_to_string(format!("/proc/{pid}/net/{table}"))?.lines() {
            // proc_net_tcp: the local address, the state (0A is listening) and the inode of the socket.
            let columns: Vec<_> = row.split_whitespace().collect();
            let [_, local, _, "0A", _, _, _, _, _, inode, ..] = columns[..] else { continue };
            if sockets.contains(&format!("socket:[{inode}]")) {
                let (_, port) = local.rsplit_once(':').context("a port")?;
                ports.push(u16::from_str_radix(port, 16)?);
            }
        }
    }
    Ok(ports)
}

/// Whether a port of loopback answers as a SOCKS5 or an HTTP proxy does.
fn is_proxy(port: u16, target: std::net::SocketAddrV4) -> bool {
    use std::io::{Read, Write};
    let answer = |request: &[u8]| -> std::io::Result<Vec<u8>> {
        let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(request)?;
        let mut answer = vec![0; 64];
        let length = stream.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let get = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    let greets = answer(&[5, 1, 0]).is_ok_and(|answer| answer == [5, 0]);
    let http =
        |request: String| answer(request.as_bytes()).is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"));
    greets || http(connect) || http(get)
}

/// A GET request through a SOCKS5 proxy at a unix socket (RFC 1928), as curl sends it.
fn through_proxy(socket: &Path, target: std::net::SocketAddrV4) -> Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[5, 1, 0])?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    ensure!(chosen == [5, 0], "the proxy answers {chosen:?}");
    stream.write_all(&[&[5, 1, 0, 1], &target.ip().octets()[..], &target.port().to_be_bytes()].concat())?;
    let mut reply = [0; 10];
    stream.read_exact(&mut reply)?;
    ensure!(reply[1] == 0, "the proxy refuses {target}: {reply:?}");
    write!(stream, "GET / HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[tokio::test]
async fn the_outside_client_is_a_proxy_for_nobody_else_and_lets_no_node_of_the_tailnet_in() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new(Transport::Http, Approval::Automatic(vec![net(PODS)])).await?;
    let (gateway, _) = bench.gateway(GATEWAY, &[net(PODS)], Paths::Any).await?;
    let (outside, _) = bench.outside(Paths::Any).await?;
    let status = outside.wait_for("the gateway", PATIENCE, |status| status.peer(GATEWAY).is_some()).await?;
    gateway.wait_for("the client", PATIENCE, |status| status.peer(OUTSIDE).is_some()).await?;
    let address = |status: &ClientStatus, name| {
        let addresses = status.peer(name).map(|peer| peer.addresses.clone()).unwrap_or_default();
        addresses.into_iter().find_map(|address| match address {
            std::net::IpAddr::V4(address) => Some(address),
            std::net::IpAddr::V6(_) => None,
        })
    };
    let of_gateway = address(&status, GATEWAY).context("the gateway has no address")?;
    let of_outside = address(&gateway.status().await?, OUTSIDE).context("the client has no address")?;

    // A node that advertises routes lets connections in and, in user-space mode, passes them on to loopback: so would
    // the client, if it let any in.
    let (web, echo) = (web_server(Ipv4Addr::LOCALHOST).await?, udp_echo(Ipv4Addr::LOCALHOST).await?);
    let url = |node| format!("http://{node}:{}/", web.port());
    outside.get(&url(of_gateway), PATIENCE).await?;
    let datagram = outside.udp(SocketAddr::from((of_gateway, echo.port())), b"x", PATIENCE).await?;
    ensure!(datagram == b"x", "{datagram:?}");
    let short = Duration::from_secs(3);
    let reached = gateway.get(&url(of_outside), short).await;
    ensure!(reached.is_err(), "a node of the tailnet reached a port of this host's loopback: {reached:?}");
    let reached = gateway.udp(SocketAddr::from((of_outside, echo.port())), b"x", short).await;
    ensure!(reached.is_err(), "a datagram reached a port of this host's loopback: {reached:?}");

    // Its own way in is a socket of this user.
    let target = std::net::SocketAddrV4::new(of_gateway, web.port());
    let proxy = outside.proxy().to_owned();
    let directory = std::fs::metadata(proxy.parent().context("no directory")?)?;
    ensure!(directory.mode() & 0o077 == 0, "others enter the directory of the proxy");
    let answer = tokio::task::spawn_blocking(move || through_proxy(&proxy, target)).await??;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    if cfg!(target_os = "linux") {
        let mut clients = 0;
        for record in std::fs::read_dir(bench.directory.path().join("processes"))? {
            let record: lab_vm::process::ProcessRecord =
                serde_json::from_slice(&std::fs::read(record?.path())?)?;
            if !record.name.starts_with("tailscaled") {
                continue;
            }
            clients += 1;
            // Its peer API is such a port: it answers nodes of the tailnet only.
            let proxies: Vec<_> =
                ports(record.process.pid)?.into_iter().filter(|port| is_proxy(*port, target)).collect();
            ensure!(proxies.is_empty(), "{} is a proxy at {proxies:?}", record.name);
        }
        ensure!(clients == 2, "{clients} clients were looked at");
        // What a proxy is: a server that answers a request for anything.
        let found = tokio::task::spawn_blocking(move || is_proxy(web.port(), target)).await?;
        ensure!(found, "no proxy would have been found");
    }
    Ok(())
}

#[tokio::test]
async fn a_route_without_approval_is_the_named_link_until_it_is_approved() -> Result<()> {
    let bench = Bench::new(Transport::Http, Approval::ByCall).await?;
    let (_gateway, _) = bench.gateway(GATEWAY, &[net(PODS)], Paths::Any).await?;
    let (outside, _) = bench.outside(Paths::Any).await?;
    outside.wait_for("the gateway", PATIENCE, |status| status.peer(GATEWAY).is_some()).await?;
    let advertised = |nodes: &[TailnetNode]| nodes.iter().any(|node| node.advertised.contains(&net(PODS)));
    let nodes = bench.control.wait_for_nodes("the advertised route", PATIENCE, advertised).await?;

    let mut ledger = RouteLedger::new(GATEWAY, [(net(PODS), Carries::Pods)]);
    ledger.service = Fact::Yes;
    filled(&mut ledger, &bench, &outside).await?;
    let broken = ledger.first_broken_link().context("an unapproved route passed")?;
    println!("{ledger}\n{broken}");
    assert_eq!((broken.link, ledger.routes[0].advertised.holds()), (Link::Approved, true));
    ensure!(!ledger.routes[0].accepted.holds(), "an unapproved route reached the client");

    let gateway = nodes.iter().find(|node| node.name == GATEWAY).context("no gateway")?;
    bench.control.approve(gateway.id, &[net(PODS)]).await?;
    outside.wait_for("the pod route", PATIENCE, has_route(net(PODS))).await?;
    filled(&mut ledger, &bench, &outside).await?;
    assert_eq!(ledger.first_broken_link().map(|broken| broken.link), Some(Link::PodReached));

    let (_second, _) = bench.gateway("second", &[net(PODS)], Paths::Any).await?;
    let both = |nodes: &[TailnetNode]| !shared_prefixes(nodes).is_empty();
    let nodes = bench.control.wait_for_nodes("two advertisers", PATIENCE, both).await?;
    let shared = shared_prefixes(&nodes);
    println!("{}", shared[0]);
    assert_eq!((shared[0].nodes.len(), shared[0].primary.as_deref()), (2, Some(GATEWAY)));

    bench.control.approve(gateway.id, &[]).await?;
    outside.wait_for("the route gone", PATIENCE, |status| !has_route(net(PODS))(status)).await?;
    filled(&mut ledger, &bench, &outside).await?;
    assert_eq!(ledger.first_broken_link().map(|broken| broken.link), Some(Link::Approved));
    Ok(())
}

#[tokio::test]
async fn a_route_that_is_not_advertised_or_not_accepted_is_the_named_link() -> Result<()> {
    let routes = vec![net(PODS), net(SERVICES)];
    let bench = Bench::new(Transport::Http, Approval::Automatic(routes)).await?;
    let (_gateway, _) = bench.gateway(GATEWAY, &[net(PODS)], Paths::Any).await?;
    let key = bench.control.create_key(&KeyOptions::default()).await?;
    let careless = ClientSpec { accept_routes: false, ..ClientSpec::accepting(OUTSIDE) };
    let outside = bench.client(careless).await?;
    outside.log_in(&key, PATIENCE).await?;
    outside.wait_for("the gateway", PATIENCE, |status| status.peer(GATEWAY).is_some()).await?;
    let approved = |nodes: &[TailnetNode]| nodes.iter().any(|node| node.approved.contains(&net(PODS)));
    bench.control.wait_for_nodes("the approved route", PATIENCE, approved).await?;

    let both = [(net(PODS), Carries::Pods), (net(SERVICES), Carries::Services)];
    let mut ledger = RouteLedger::new(GATEWAY, both);
    ledger.service = Fact::Yes;
    filled(&mut ledger, &bench, &outside).await?;
    let broken = ledger.first_broken_link().context("a route that no node advertises passed")?;
    assert_eq!((broken.link, broken.prefix), (Link::Advertised, Some(net(SERVICES))), "{broken}");

    let mut ledger = RouteLedger::new(GATEWAY, [(net(PODS), Carries::Pods)]);
    ledger.service = Fact::Yes;
    filled(&mut ledger, &bench, &outside).await?;
    let broken = ledger.first_broken_link().context("a client without routes passed")?;
    assert_eq!(broken.link, Link::Accepted, "{broken}");
    ensure!(broken.seen.contains("does not accept routes"), "{broken}");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_refused_is_named_with_its_reason_and_never_shown() -> Result<()> {
    let bench = Bench::new(Transport::Http, Approval::ByCall).await?;
    let wrong = AuthKey::new("planted-0123456789abcdef0123456789abcdef", "a test")?;
    let expired =
        bench.control.create_key(&KeyOptions { valid: Duration::ZERO, ..KeyOptions::default() }).await?;
    let used = bench.control.create_key(&KeyOptions::default()).await?;
    let first = bench.client(ClientSpec::accepting("first")).await?;
    first.log_in(&used, PATIENCE).await?;

    let keys = [(&wrong, "does not know this key"), (&expired, "has expired"), (&used, "used up")];
    for (key, hint) in keys {
        let outside = bench.client(ClientSpec::accepting(OUTSIDE)).await?;
        let started = Instant::now();
        let Err(error) = outside.log_in(key, PATIENCE).await else { bail!("a refused key logged in") };
        println!("{error}");
        let text = format!("{error:?} {error}");
        ensure!(text.contains(hint) && !text.contains(key.reveal()), "{}", key.redact(&text));
        ensure!(started.elapsed() < PATIENCE, "the refusal was only seen when time was up");
    }
    let good = bench.control.create_key(&KeyOptions { ephemeral: true, ..KeyOptions::default() }).await?;
    let outside = bench.client(ClientSpec::accepting(OUTSIDE)).await?;
    outside.log_in(&good, PATIENCE).await?;
    bench.nothing_shows(&[&wrong, &expired, &used, &good])
}

#[tokio::test]
async fn a_login_waits_for_a_control_server_that_comes_up_later() -> Result<()> {
    let bench = Bench::new(Transport::Http, Approval::ByCall).await?;
    let key = bench.control.create_key(&KeyOptions { reusable: true, ..KeyOptions::default() }).await?;
    let outside = bench.client(ClientSpec::accepting(OUTSIDE)).await?;
    bench.control.stop().await;
    ensure!(bench.control.nodes().await.is_err(), "a stopped control server answered");

    let Err(error) = outside.log_in(&key, Duration::from_secs(3)).await else {
        bail!("logged in without a control server")
    };
    println!("{error}");
    ensure!(error.to_string().contains("did not answer"), "{error}");

    let started = Instant::now();
    let (login, resumed) = tokio::join!(outside.log_in(&key, PATIENCE), async {
        // Long enough for the client to have failed at least once.
        tokio::time::sleep(Duration::from_secs(2)).await;
        bench.control.resume().await
    });
    resumed?;
    ensure!(login?.is_running());
    println!("logged in {:.1} s after the attempt began", started.elapsed().as_secs_f64());

    let before = bench.control.nodes().await?;
    bench.control.stop().await;
    bench.control.resume().await?;
    let online = |nodes: &[TailnetNode]| nodes.iter().any(|node| node.online);
    let after = bench.control.wait_for_nodes("the client again", PATIENCE, online).await?;
    assert_eq!((before[0].id, &before[0].addresses), (after[0].id, &after[0].addresses));
    bench.nothing_shows(&[&key])
}

#[tokio::test]
async fn packets_take_the_relay_when_there_is_no_direct_path() -> Result<()> {
    let bench = Bench::new(Transport::Https, Approval::Automatic(vec![net(PODS)])).await?;
    ensure!(bench.control.access_from_nodes().authority.is_some());
    let (_gateway, _) = bench.gateway(GATEWAY, &[net(PODS)], Paths::RelayOnly).await?;
    let (outside, _) = bench.outside(Paths::RelayOnly).await?;
    let status = outside.wait_for("the pod route", PATIENCE, has_route(net(PODS))).await?;
    let address = status.peer(GATEWAY).and_then(|peer| peer.addresses.first().copied());
    let address = address.context("the gateway has no address")?;
    let pong = outside.ping(address, PATIENCE).await?;
    println!("pong {} after {:?}", pong.path, pong.latency);
    assert_eq!(pong.path, TailnetPath::Relay("lab".to_owned()));
    outside.ping_through_tunnel(address, PATIENCE).await?;
    Ok(())
}
