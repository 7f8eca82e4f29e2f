//! NTP with the host's clock (RFC 5905, the simple server of section 14).
//!
//! Nodes wait for the time before they start etcd, and the clock of a restored node is in the past.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Port of NTP servers.
pub(super) const PORT: u16 = 123;

/// Bytes of a packet without extensions.
const PACKET: usize = 48;

/// Seconds from the NTP era's start in 1900 to the Unix epoch.
const EPOCH: u64 = 2_208_988_800;

/// Answers one client packet; `None` if the request is not a client packet.
pub(super) fn answer(request: &[u8], now: SystemTime) -> Option<Vec<u8>> {
    const CLIENT: u8 = 3;
    const SERVER: u8 = 4;
    let first = *request.first()?;
    let (version, mode) = ((first >> 3) & 7, first & 7);
    if request.len() < PACKET || mode != CLIENT || !(1..=4).contains(&version) {
        return None;
    }
    let mut reply = vec![0; PACKET];
    reply[0] = (version << 3) | SERVER; // leap indicator 0: no warning
    reply[1] = 2; // stratum: the host's own source is taken for a primary one
    reply[2] = request[2]; // poll interval
    reply[3] = 0xec; // precision: 2^-20 s
    reply[7] = 0x42; // root delay: 1 ms in units of 2^-16 s
    reply[11] = 0x42; // root dispersion, in the same units
    reply[12..16].copy_from_slice(&[127, 127, 1, 0]); // reference: the local clock
    let clock = timestamp(now);
    reply[16..24].copy_from_slice(&timestamp(now - Duration::from_secs(1)));
    reply[24..32].copy_from_slice(&request[40..48]); // originate: the client's transmit time
    reply[32..40].copy_from_slice(&clock);
    reply[40..48].copy_from_slice(&clock);
    Some(reply)
}

/// Seconds since 1900 and a binary fraction, 32 bits each.
fn timestamp(time: SystemTime) -> [u8; 8] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    // The wrap of the era in 2036 is part of the format.
    ((since.as_secs().wrapping_add(EPOCH) << 32) | fraction).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_hosts_time_and_its_own_time_back() {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let mut request = vec![0; PACKET];
        request[0] = (4 << 3) | 3;
        request[40..48].copy_from_slice(b"original");
        let reply = answer(&request, now).unwrap();
        assert_eq!(reply[0], (4 << 3) | 4);
        assert_eq!(&reply[24..32], b"original");
        assert_eq!(reply[40..44], (1_000_000_u32 + 2_208_988_800).to_be_bytes());
        assert_eq!(reply[44..48], [0x80, 0, 0, 0]);
    }

    #[test]
    fn servers_and_fragments_get_no_answer() {
        let now = UNIX_EPOCH;
        assert_eq!(answer(&[], now), None);
        assert_eq!(answer(&[0x1b; 20], now), None);
        assert_eq!(answer(&[(4 << 3) | 4; 48], now), None);
    }
}
