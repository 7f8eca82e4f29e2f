//! What is done to links on purpose, each with its effect and without: stations that are no VMs on a real LAN.

mod bench;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bench::{
    Bench, SHORT, blocking, mac, node,
    station::{DEADLINE, Station},
};
use lab_model::network::{Impairment, Link, LinkFault, Loss, MacAddr, Partition, Rate, UplinkSide};
use lab_vm::network::CAPTURE_LIMIT;

/// The local experimental EtherType 1 (IEEE 802): no other program sends it.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// A frame that is known by its number.
fn numbered(from: u8, to: MacAddr, number: u16, length: usize) -> Vec<u8> {
    let mut frame = [&to.bytes()[..], &mac(from).bytes(), &EXPERIMENT, &number.to_be_bytes()].concat();
    frame.resize(length, 0);
    frame
}

fn number_of(frame: &[u8]) -> Option<u16> {
    (frame.get(12..14)? == EXPERIMENT).then_some(())?;
    Some(u16::from_be_bytes(frame.get(14..16)?.try_into().ok()?))
}

/// The first two stations, once the switch knows both: what is sent to one before that is lost.
async fn pair(bench: &Bench) -> Result<(Station, Station)> {
    let (mut first, mut second) = (bench.station(1)?, bench.station(2)?);
    blocking(move || {
        first.lease()?;
        second.lease()?;
        Ok((first, second))
    })
    .await
}

/// What one station sent and another got.
struct Got {
    /// The numbers in the order of their arrival.
    numbers: Vec<u16>,
    /// When the first and the last came, after the first was sent.
    first: Duration,
    last: Duration,
}

/// Sends frames from the first station to the second and gathers them until all are there or none came for `patience`.
async fn send(
    (mut first, mut second): (Station, Station),
    count: u16,
    length: usize,
    patience: Duration,
) -> Result<((Station, Station), Got)> {
    blocking(move || {
        let began = Instant::now();
        for number in 0..count {
            first.send_raw(&numbered(1, mac(2), number, length))?;
        }
        let mut got = Got { numbers: Vec::new(), first: Duration::ZERO, last: Duration::ZERO };
        while got.numbers.len() < count.into() {
            let Some(frame) = second.receive_raw(patience, |frame| number_of(frame).is_some())? else {
                break;
            };
            got.last = began.elapsed();
            if got.numbers.is_empty() {
                got.first = got.last;
            }
            got.numbers.extend(number_of(&frame));
        }
        Ok(((first, second), got))
    })
    .await
}

fn impaired(change: impl FnOnce(&mut Impairment)) -> Impairment {
    let mut impairment = Impairment::default();
    change(&mut impairment);
    impairment
}

#[tokio::test]
async fn a_delayed_link_brings_every_frame_later_and_in_order_and_a_jitter_mixes_them() -> Result<()> {
    let bench = Bench::new(1500).await?;
    let stations = pair(&bench).await?;
    let (delay, patience) = (Duration::from_millis(400), Duration::from_secs(3));
    let (stations, plain) = send(stations, 100, 60, patience).await?;
    ensure!(plain.numbers.len() == 100 && plain.last < delay, "undelayed: {:?}", plain.last);

    bench.lan.shape(&node(2), impaired(|impairment| impairment.delay = "400ms".parse().expect("a delay")))?;
    let (stations, late) = send(stations, 100, 60, patience).await?;
    ensure!(late.first >= delay, "delayed: {:?}", late.first);
    ensure!(late.numbers == (0..100).collect::<Vec<_>>(), "{:?}", late.numbers);

    // The other end of the way delays as well.
    bench.lan.restore(&node(2))?;
    let jitter = impaired(|impairment| {
        impairment.delay = "400ms".parse().expect("a delay");
        impairment.jitter = "100ms".parse().expect("a delay");
    });
    bench.lan.shape(&node(1), jitter)?;
    let (stations, mixed) = send(stations, 100, 60, patience).await?;
    ensure!(mixed.first >= delay - Duration::from_millis(100), "{:?}", mixed.first);
    ensure!(mixed.numbers.len() == 100 && !mixed.numbers.is_sorted(), "{:?}", mixed.numbers);

    bench.lan.restore(&node(1))?;
    let (_, mended) = send(stations, 100, 60, patience).await?;
    ensure!(mended.numbers.is_sorted() && mended.last < delay, "mended: {:?}", mended.last);
    Ok(())
}

#[tokio::test]
async fn a_lossy_link_loses_the_same_frames_for_the_same_seed() -> Result<()> {
    let bench = Bench::new(1500).await?;
    let mut stations = pair(&bench).await?;
    let mut seen = Vec::new();
    for (loss, seed) in [(0, 7), (30, 7), (30, 7), (30, 8), (100, 7)] {
        if loss > 0 {
            let lossy = Impairment { loss: Loss::percent(loss), seed, ..Impairment::default() };
            bench.lan.shape(&node(2), lossy)?;
        }
        let (back, got) = send(stations, 300, 60, SHORT).await?;
        stations = back;
        ensure!(got.numbers.is_sorted(), "loss alone mixes nothing");
        seen.push(got.numbers);
    }
    let counts: Vec<usize> = seen.iter().map(Vec::len).collect();
    ensure!(counts[0] == 300 && (150..270).contains(&counts[1]) && counts[4] == 0, "{counts:?}");
    ensure!(seen[1] == seen[2], "the same seed lost other frames");
    ensure!(seen[1] != seen[3], "another seed lost the same frames");
    let lost = bench.lan.counters().ports[1].dropped_lost;
    ensure!(lost as usize == 1200 - counts[1..].iter().sum::<usize>(), "{lost} are counted as lost");
    Ok(())
}

#[tokio::test]
async fn a_slow_link_takes_its_time_and_drops_what_waits_too_long() -> Result<()> {
    let bench = Bench::new(9000).await?;
    let stations = pair(&bench).await?;
    let (stations, plain) = send(stations, 40, 9000, DEADLINE).await?;
    ensure!(plain.numbers.len() == 40 && plain.last < Duration::from_millis(300), "{:?}", plain.last);

    let slow = Impairment { rate: Some(Rate::megabits(8)), ..Impairment::default() };
    bench.lan.shape(&node(2), slow)?;
    // 360 kB at 8 Mbit a second: 0.36 s.
    let (stations, steady) = send(stations, 40, 9000, DEADLINE).await?;
    ensure!(steady.numbers == (0..40).collect::<Vec<_>>(), "{:?}", steady.numbers);
    ensure!(steady.last >= Duration::from_millis(350), "{:?}", steady.last);

    let (_, flooded) = send(stations, 400, 9000, SHORT).await?;
    let dropped = bench.lan.counters().ports[1].dropped_full;
    ensure!(flooded.numbers.len() < 200 && flooded.numbers.is_sorted(), "{}", flooded.numbers.len());
    ensure!(dropped as usize + flooded.numbers.len() == 400, "{dropped} dropped");
    Ok(())
}

#[tokio::test]
async fn frames_in_flight_on_a_slow_link_are_bounded_and_delay_no_other_node() -> Result<()> {
    let bench = Bench::new(65_000).await?;
    let (mut first, second) = pair(&bench).await?;
    let before = bench.lan.counters().ports[1].frames_out;
    bench.lan.shape(&node(2), impaired(|impairment| impairment.delay = "60s".parse().expect("a delay")))?;
    let (first, second) = blocking(move || {
        for number in 0..200 {
            first.send_raw(&numbered(1, mac(2), number, 60_000))?;
        }
        first.lease()?;
        Ok((first, second))
    })
    .await?;
    let counters = bench.lan.counters();
    ensure!(counters.ports[1].dropped_full > 100 && counters.ports[1].frames_out == before, "{counters:?}");
    // What was on its way is forgotten with the fault.
    bench.lan.restore(&node(2))?;
    let (_, got) = send((first, second), 3, 60, SHORT).await?;
    ensure!(got.numbers == [0, 1, 2], "{:?}", got.numbers);
    Ok(())
}

/// Which of the other stations get a frame of the first to everybody.
async fn reached(mut stations: Vec<Station>) -> Result<(Vec<Station>, BTreeSet<usize>)> {
    blocking(move || {
        stations[0].send_raw(&numbered(1, MacAddr::BROADCAST, 1, 60))?;
        let mut heard = BTreeSet::new();
        for (index, station) in stations.iter_mut().enumerate().skip(1) {
            if station.receive_raw(SHORT, |frame| number_of(frame).is_some())?.is_some() {
                heard.insert(index + 1);
            }
        }
        Ok((stations, heard))
    })
    .await
}

#[tokio::test]
async fn a_parted_lan_passes_frames_within_a_group_and_the_uplink_to_those_that_keep_it() -> Result<()> {
    let mut bench = Bench::of(3, 1500).await?;
    let stations = (1..=3).map(|n| bench.station(n)).collect::<Result<Vec<_>>>()?;
    let (stations, leased) = leases(stations).await?;
    ensure!(leased == [true; 3], "leases of a whole LAN: {leased:?}");
    let (stations, heard) = reached(stations).await?;
    ensure!(heard == BTreeSet::from([2, 3]), "a whole LAN: {heard:?}");

    let keeps = UplinkSide::Nodes(vec![node(1)]);
    bench.lan.partition(Partition::parse("node-1,node-2 / node-3", keeps)?)?;
    let (stations, heard) = reached(stations).await?;
    ensure!(heard == BTreeSet::from([2]), "a partitioned LAN: {heard:?}");
    let (stations, leased) = leases(stations).await?;
    ensure!(leased == [true, false, false], "leases of a partitioned LAN: {leased:?}");
    let counters = bench.lan.counters();
    ensure!(counters.ports[0].dropped_parted > 0, "{counters:?}");

    ensure!(bench.lan.heal() && !bench.lan.heal());
    let (stations, heard) = reached(stations).await?;
    ensure!(heard == BTreeSet::from([2, 3]), "a healed LAN: {heard:?}");
    let (_, leased) = leases(stations).await?;
    ensure!(leased == [true; 3], "leases of a healed LAN: {leased:?}");
    let notes = bench.notes().join("\n");
    ensure!(notes.contains("partitioned: node-1, node-2 / node-3; uplink for node-1"), "{notes}");
    Ok(())
}

/// Which stations the switch gives an address.
async fn leases(mut stations: Vec<Station>) -> Result<(Vec<Station>, Vec<bool>)> {
    blocking(move || {
        let mut leased = Vec::new();
        for (index, station) in stations.iter_mut().enumerate() {
            station.send_raw(&bench::dhcp_discover(mac(index as u8 + 1)))?;
            // UDP to port 68.
            let offer = |frame: &[u8]| frame.get(36..38) == Some(&[0, 68]);
            leased.push(station.receive_raw(SHORT, offer)?.is_some());
        }
        Ok((stations, leased))
    })
    .await
}

#[tokio::test]
async fn faults_are_told_and_links_that_do_not_exist_are_refused() -> Result<()> {
    let mut bench = Bench::new(1500).await?;
    let slow = impaired(|impairment| impairment.loss = Loss::percent(1));
    bench.lan.cut(&node(1))?;
    bench.lan.shape(Link::Uplink, slow)?;
    let faults = bench.lan.faults();
    let links = [(Link::from(&node(1)), LinkFault::Cut), (Link::Uplink, LinkFault::Shaped(slow))];
    ensure!(faults.links == links, "{faults:?}");
    let notes = bench.notes().join("\n");
    ensure!(notes.contains("the link of node-1 is cut"), "{notes}");
    ensure!(bench.lan.restore_all().len() == 2 && bench.lan.faults().links.is_empty());

    let unknown = bench.lan.cut(&"node-9".parse()?).expect_err("an unknown link was cut").to_string();
    ensure!(
        unknown == "the lab network has no link node-9; its links are node-1, node-2 and uplink",
        "{unknown}"
    );
    ensure!(bench.lan.shape(&node(1), Impairment::default()).is_err());
    ensure!(bench.lan.stop_capture(&node(1)).is_err());
    Ok(())
}

/// What tshark reads of a whole file, one line a frame.
fn tshark(file: &Path, fields: &[&str]) -> Result<Vec<String>> {
    let (lines, said) = tshark_of(file, fields)?;
    ensure!(said.is_empty(), "tshark on {}: {said}", file.display());
    Ok(lines)
}

/// What tshark reads of a file, and what it finds wrong with it.
fn tshark_of(file: &Path, fields: &[&str]) -> Result<(Vec<String>, String)> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(file).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = command.output().context("tshark is missing; make setup installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // Not about the file.
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("Running as user")).collect();
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    Ok((lines, said.join("\n")))
}

#[tokio::test]
async fn a_capture_holds_what_the_card_sends_and_gets_and_tshark_reads_it() -> Result<()> {
    let bench = Bench::new(9000).await?;
    let stations = pair(&bench).await?;
    // Before it begins nothing is captured, after it has ended neither.
    let (stations, _) = send(stations, 5, 60, SHORT).await?;
    let running = bench.lan.start_capture(&node(2), None, CAPTURE_LIMIT)?;
    let twice = bench.lan.start_capture(&node(2), None, CAPTURE_LIMIT);
    ensure!(twice.is_err(), "{twice:?}");
    let ((first, mut second), _) = send(stations, 20, 200, SHORT).await?;
    // A cut link brings nothing to the card; what the card sends is in the capture all the same.
    bench.lan.cut(&node(2))?;
    let second = blocking(move || {
        second.send_raw(&numbered(2, mac(1), 99, 9000))?;
        Ok(second)
    })
    .await?;
    let ((first, second), cut) = send((first, second), 5, 60, SHORT).await?;
    ensure!(cut.numbers.is_empty());
    bench.lan.restore(&node(2))?;
    let state = bench.lan.stop_capture(&node(2))?;
    send((first, second), 5, 60, SHORT).await?;
    ensure!(state.file == running.file && state.frames == 21 && state.left_out == 0, "{state:?}");

    let frames = tshark(
        &state.file,
        &["frame.len", "eth.type", "frame.interface_name", "frame.packet_flags_direction"],
    )?;
    ensure!(frames.len() == 21, "{frames:#?}");
    let is = |line: &String, length: &str, direction: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        fields[0] == length
            && fields[1].ends_with("88b5")
            && fields[2] == "node-2"
            && fields[3].ends_with(direction)
    };
    ensure!(frames[..20].iter().all(|line| is(line, "200", "1")), "{frames:#?}");
    ensure!(is(&frames[20], "9000", "2"), "{frames:#?}");
    // Nanoseconds since 1970.
    let times = tshark(&state.file, &["frame.time_epoch"])?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let time: f64 = times[0].parse()?;
    ensure!((now - 60.0..now + 1.0).contains(&time), "{time}");
    // A second capture has a file of its own.
    let again = bench.lan.start_capture(&node(2), None, CAPTURE_LIMIT)?;
    ensure!(again.file != state.file);
    Ok(())
}

/// Tells this program that it is the owner of a LAN that is to be killed.
const OWNER: &str = "LAB_TEST_CAPTURE";

/// Not a test of its own: the body of the process that the test below kills.
#[tokio::test]
async fn owner_process() -> Result<()> {
    if std::env::var_os(OWNER).is_none() {
        return Ok(());
    }
    let bench = Bench::new(1500).await?;
    let stations = pair(&bench).await?;
    let state = bench.lan.start_capture(&node(2), None, CAPTURE_LIMIT)?;
    let (mut stations, _) = send(stations, 50, 500, SHORT).await?;
    println!("\ncaptured {}", state.file.display());
    // The test kills this process during the loop; the deadline ends the loop if the test fails.
    let began = Instant::now();
    while began.elapsed() < DEADLINE {
        (stations, _) = send(stations, 50, 500, SHORT).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_lab_that_is_killed_leaves_a_capture_that_tshark_reads() -> Result<()> {
    let mut owner = Command::new(std::env::current_exe()?)
        .args(["--exact", "owner_process", "--nocapture"])
        .env(OWNER, "yes")
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(owner.stdout.take().context("no output")?).lines();
    let file = blocking(move || {
        let mut lines = lines;
        let said = lines.find_map(|line| line.ok()?.strip_prefix("captured ").map(str::to_owned));
        said.context("the owner did not capture")
    })
    .await?;
    // As the file is written a moment after the frames.
    let whole = std::time::Instant::now() + DEADLINE;
    while std::fs::metadata(&file)?.len() < 50 * 500 && Instant::now() < whole {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    owner.kill()?;
    owner.wait()?;
    let read = tshark_of(Path::new(&file), &["frame.len"]);
    // The killed process could not remove its directory.
    std::fs::remove_dir_all(Path::new(&file).parent().context("no directory")?)?;
    let (frames, said) = read?;
    // At most its last frame may have been on its way to the disk.
    ensure!(said.is_empty() || said.contains("cut short"), "{said}");
    ensure!(frames.len() >= 50 && frames.iter().all(|length| length == "500"), "{}", frames.len());
    Ok(())
}
