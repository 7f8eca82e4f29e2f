//! The blocks of a pcapng file (IETF draft-ietf-opsawg-pcapng), which Wireshark and tcpdump read.
//!
//! Little-endian; timestamps are nanoseconds since 1970. Blocks are appended to a buffer, so a
//! capture costs the switch one copy of the frame.

use super::delays::Direction;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// Size of the frame of a block: its type, and its length before and after the body.
const FRAMING: usize = 12;
/// Size of the packet fields: interface, time, two lengths; the direction and the end of the options.
const PACKET_FIELDS: usize = 20 + 8 + 4;

/// The header of a file with one interface: the network card of a link.
pub(super) fn head(link: &str) -> Vec<u8> {
    let mut file = Vec::new();
    block(&mut file, SECTION_HEADER, |body| {
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]); // version 1.0
        body.extend(u64::MAX.to_le_bytes()); // the section's length is not known
        option(body, 4, format!("lab {}", env!("CARGO_PKG_VERSION")).as_bytes());
        end_of_options(body);
    });
    block(&mut file, INTERFACE_DESCRIPTION, |body| {
        body.extend([1, 0, 0, 0]); // LINKTYPE_ETHERNET
        body.extend(0_u32.to_le_bytes()); // frames are whole
        option(body, 2, link.as_bytes());
        option(body, 3, format!("the network card at the link of {link}").as_bytes());
        option(body, 9, &[9]); // nanoseconds
        end_of_options(body);
    });
    file
}

/// The size of a frame's block in bytes.
pub(super) fn packet_length(frame: usize) -> usize {
    FRAMING + PACKET_FIELDS + frame.next_multiple_of(4)
}

/// Appends a frame.
pub(super) fn packet(file: &mut Vec<u8>, nanos: u64, direction: Direction, frame: &[u8]) {
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_le_bytes();
    block(file, ENHANCED_PACKET, |body| {
        body.extend(0_u32.to_le_bytes());
        time(body, nanos);
        body.extend(length);
        body.extend(length);
        body.extend(frame);
        pad(body, frame.len());
        let flags: u32 = match direction {
            Direction::ToCard => 1,
            Direction::FromCard => 2,
        };
        option(body, 2, &flags.to_le_bytes());
        end_of_options(body);
    });
}

/// Appends the total number of frames and the number of frames that are missing in the file.
pub(super) fn statistics(file: &mut Vec<u8>, nanos: u64, seen: u64, left_out: u64) {
    block(file, INTERFACE_STATISTICS, |body| {
        body.extend(0_u32.to_le_bytes());
        time(body, nanos);
        option(body, 4, &seen.to_le_bytes());
        option(body, 5, &left_out.to_le_bytes());
        end_of_options(body);
    });
}

fn block(file: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = file.len();
    file.extend(kind.to_le_bytes());
    file.extend([0; 4]);
    body(file);
    let length = u32::try_from(file.len() + 4 - start).unwrap_or(u32::MAX).to_le_bytes();
    file[start + 4..start + 8].copy_from_slice(&length);
    file.extend(length);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    body.extend(value);
    pad(body, value.len());
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn time(body: &mut Vec<u8>, nanos: u64) {
    for half in [nanos >> 32, nanos & 0xffff_ffff] {
        body.extend(u32::try_from(half).unwrap_or_default().to_le_bytes());
    }
}

/// Values are padded with zeros to a multiple of four bytes.
fn pad(body: &mut Vec<u8>, length: usize) {
    body.resize(body.len() + length.next_multiple_of(4) - length, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind and body of every block. The lengths at both ends must match.
    fn blocks(file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let (mut blocks, mut at) = (Vec::new(), 0);
        while at < file.len() {
            let length = number(at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(number(at + length - 4) as usize, length);
            blocks.push((number(at), file[at + 8..at + length - 4].to_vec()));
            at += length;
        }
        blocks
    }

    #[test]
    fn a_file_is_a_chain_of_whole_blocks() {
        let mut file = head("worker-1");
        for length in [14, 15, 16, 17] {
            let before = file.len();
            packet(&mut file, 0x0000_0001_0000_0002, Direction::ToCard, &vec![0xab; length]);
            assert_eq!(file.len() - before, packet_length(length));
        }
        statistics(&mut file, 5, 4, 0);
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION_HEADER, INTERFACE_DESCRIPTION, 6, 6, 6, 6, INTERFACE_STATISTICS]);
        let packet = &blocks[3].1;
        assert_eq!(packet[..20], [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 15, 0, 0, 0, 15, 0, 0, 0]);
        assert_eq!(packet[20..36], [&[0xab; 15][..], &[0]].concat());
        assert_eq!(packet[36..], [2, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
