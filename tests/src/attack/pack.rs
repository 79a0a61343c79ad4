//! What git's server sends, taken apart and put together again: packet lines, and packs with anything in them.

use std::path::Path;

use sha1_checked::{Digest as _, Sha1};

use crate::program;

/// The most data that one packet line carries behind its band.
const BAND: usize = 65_515;

/// One packet line: data, or one of the special ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A line with its content.
    Line(Vec<u8>),
    /// Ends the answer (0), or one of its sections (1).
    Special(u8),
}

/// Takes an answer apart.
///
/// # Panics
/// When it is not made of packet lines: stock git made it.
pub fn packets(mut bytes: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let length = std::str::from_utf8(&bytes[..4]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length < 4 {
            packets.push(Packet::Special(u8::try_from(length).expect("less than 4")));
            bytes = &bytes[4..];
        } else {
            packets.push(Packet::Line(bytes[4..length].to_vec()));
            bytes = &bytes[length..];
        }
    }
    packets
}

/// Puts an answer together.
pub fn bytes(packets: &[Packet]) -> Vec<u8> {
    let one = |packet: &Packet| match packet {
        Packet::Line(line) => [format!("{:04x}", line.len() + 4).as_bytes(), line].concat(),
        Packet::Special(kind) => format!("{kind:04x}").into_bytes(),
    };
    packets.iter().flat_map(one).collect()
}

/// The pack in an honest answer.
pub fn pack_of(answer: &[u8]) -> Vec<u8> {
    let band = |packet: &Packet| match packet {
        Packet::Line(line) if line.first() == Some(&1) => line[1..].to_vec(),
        _ => Vec::new(),
    };
    packets(answer).iter().flat_map(band).collect()
}

/// An honest answer with another pack in it, if it has one: before, both sides tell what they have.
pub fn with_pack(answer: &[u8], pack: &[u8]) -> Vec<u8> {
    let mut packets = packets(answer);
    if !packets.contains(&Packet::Line(b"packfile\n".to_vec())) {
        return answer.to_vec();
    }
    packets.retain(|packet| match packet {
        Packet::Line(line) => !matches!(line.first(), Some(1..=3)),
        Packet::Special(kind) => *kind != 0,
    });
    packets.extend(
        pack.chunks(BAND)
            .map(|chunk| Packet::Line([&[1], chunk].concat())),
    );
    packets.push(Packet::Special(0));
    bytes(&packets)
}

/// A pack of everything in `repository` but the object that `lacks` names.
pub fn without(repository: &Path, lacks: &str) -> Vec<u8> {
    let git = |args: &[&str], input: &str| {
        let mut git = program::command("git", repository);
        git.arg("-C").arg(repository).args(args);
        program::feed(&mut git, input.as_bytes()).expect("git")
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ids and paths");
    let lacks = text(git(&["rev-parse", lacks], ""));
    let objects = text(git(
        &["rev-list", "--objects", "trust", "admitted", "fresh"],
        "",
    ));
    let ids = objects.lines().filter_map(|line| line.split(' ').next());
    let rest: Vec<_> = ids.filter(|id| *id != lacks.trim()).collect();
    git(
        &["pack-objects", "-q", "--stdout"],
        &(rest.join("\n") + "\n"),
    )
}

/// One object of a pack: what its header says of it, and its compressed content.
pub struct Entry {
    header: Vec<u8>,
    data: Vec<u8>,
}

impl Entry {
    /// A file of this content.
    pub fn blob(content: &[u8]) -> Self {
        Self {
            header: header(3, content.len() as u64),
            data: compress(content),
        }
    }

    /// A file of `mebibytes` of zeros, of which no more than one is ever in memory here.
    pub fn zeros(mebibytes: u32) -> Self {
        let size = u64::from(mebibytes) << 20;
        // Blocks for one mebibyte, once: cleared of "this is the last one" and filled up to a whole byte by an empty
        // stored block, they can be repeated. Compressed data opens with two bytes and closes with a checksum of four.
        let one = compress(&vec![0; 1 << 20]);
        let mut block = one[2..one.len() - 4].to_vec();
        block[0] &= !1;
        block.extend([0, 0, 0xff, 0xff]);
        let mut data = one[..2].to_vec();
        for _ in 0..mebibytes {
            data.extend(&block);
        }
        data.extend([1, 0, 0, 0xff, 0xff]);
        // Adler-32 of zeros: the sum is 1, the sum of sums the number of bytes.
        let sums = u32::try_from(size % 65_521).expect("less than 65521") << 16 | 1;
        data.extend(sums.to_be_bytes());
        Self {
            header: header(3, size),
            data,
        }
    }

    /// What repeats the entry that starts `back` bytes before this one, of `size` bytes, `times`.
    pub fn repeated(back: u64, size: u32, times: u16) -> Self {
        let copy = [&[0x80 | 0x70], &size.to_le_bytes()[..3]].concat();
        let whole = u64::from(size) * u64::from(times);
        let delta = [
            number(u64::from(size)),
            number(whole),
            copy.repeat(times.into()),
        ]
        .concat();
        Self {
            header: [header(6, delta.len() as u64), offset(back)].concat(),
            data: compress(&delta),
        }
    }

    /// How many bytes it takes in the pack.
    pub fn len(&self) -> u64 {
        (self.header.len() + self.data.len()) as u64
    }

    /// Never: there is a header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A pack of these entries, whole and with its checksum.
pub fn pack(entries: &[Entry]) -> Vec<u8> {
    let count = u32::try_from(entries.len()).expect("a few entries");
    let mut pack = [&b"PACK"[..], &2u32.to_be_bytes(), &count.to_be_bytes()].concat();
    for entry in entries {
        pack.extend(&entry.header);
        pack.extend(&entry.data);
    }
    sealed(pack)
}

/// The same bytes with a checksum behind them.
pub fn sealed(mut pack: Vec<u8>) -> Vec<u8> {
    let sum = Sha1::digest(&pack);
    pack.extend(sum.iter());
    pack
}

/// Kind and size of an object: four bits of the size, then seven in each byte that follows, the low ones first.
fn header(kind: u8, size: u64) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | low(size, 0x0f)];
    let mut rest = size >> 4;
    while rest > 0 {
        *bytes.last_mut().expect("one at least") |= 0x80;
        bytes.push(low(rest, 0x7f));
        rest >>= 7;
    }
    bytes
}

/// A size within a delta: seven bits in each byte, the low ones first.
fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(low(value, 0x7f) | 0x80);
        value >>= 7;
    }
    bytes.push(low(value, 0x7f));
    bytes
}

/// How far back the base of a delta is: seven bits in each byte, the high ones first, each but the last plus one.
fn offset(mut back: u64) -> Vec<u8> {
    let mut bytes = vec![low(back, 0x7f)];
    while back > 0x7f {
        back = (back >> 7) - 1;
        bytes.insert(0, low(back, 0x7f) | 0x80);
    }
    bytes
}

fn low(value: u64, mask: u8) -> u8 {
    u8::try_from(value & u64::from(mask)).expect("masked")
}

fn compress(content: &[u8]) -> Vec<u8> {
    let mut out = vec![0; zlib_rs::compress_bound(content.len())];
    let (used, _) = zlib_rs::compress_slice(&mut out, content, zlib_rs::DeflateConfig::new(9));
    used.to_vec()
}

#[cfg(test)]
mod tests {

    use super::*;

    /// What stock git says of a pack.
    fn index(pack: &[u8]) -> program::Outcome {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.pack");
        std::fs::write(&file, pack).expect("a pack");
        program::run(
            program::command("git", folder.path())
                .args(["index-pack", "-v"])
                .arg(file),
        )
    }

    #[test]
    fn stock_git_reads_what_is_packed_here() {
        let base = Entry::blob(&[b'x'; 1000]);
        let twice = Entry::repeated(base.len(), 1000, 2);
        let quadruple = Entry::repeated(twice.len(), 2000, 300);
        index(&pack(&[base, twice, quadruple])).ok();
        index(&pack(&[Entry::zeros(3)])).ok();
        assert_ne!(index(&pack(&[Entry::zeros(3)])[1..]).code, 0);
    }

    #[test]
    fn packet_lines_are_put_together_as_they_were() {
        let answer = b"000dpackfile\n0009\x01PACK0000";
        assert_eq!(bytes(&packets(answer)), answer);
        assert_eq!(pack_of(answer), b"PACK");
        assert_eq!(with_pack(answer, b"PACK"), answer);
    }
}
