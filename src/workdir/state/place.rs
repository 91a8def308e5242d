//! Where things are in the file `lock`, and how a state is written there: a checksum,
//! JSON, blanks.
//!
//! Guarantee: what is read back is whole, or nothing.

use super::fields::{FORMAT, PLAIN, State};
use crate::workdir::error::{Error, Result};
use crate::workdir::layout::LOCK;
use crate::workdir::mechanism::Mechanism;
use serde::Deserialize;

/// What the file begins with: the format alone, as the even state of format 1 would be.
pub(super) const STAMP: usize = 1024;
pub(super) const HOLDER_AT: u64 = 2048;
/// Where the first of the two states begins.
pub(super) const PLACES_AT: usize = 4096;
/// The most bytes that a state may have.
pub(super) const PLACE: usize = 16 << 10;
/// A state is filled up to a multiple of so many bytes.
pub(super) const STEP: usize = 1024;
/// Where the log of transactions begins.
pub const LOG_AT: u64 = (PLACES_AT + 2 * PLACE) as u64;
/// `crc json`, filled up with blanks, closed by a line end.
pub(super) fn encode(state: &State) -> Result<Vec<u8>> {
    let mut text = line_of(&serde_json::to_string(state).map_err(unwritable)?);
    let length = (text.len() + 1).next_multiple_of(STEP);
    if length > PLACE {
        let what = format!("the state has {} bytes, more than {PLACE}", text.len());
        return Err(unwritable(what));
    }
    text.resize(length - 1, b' ');
    text.push(b'\n');
    Ok(text)
}

/// The first kilobyte of the file.
pub(super) fn stamp() -> Vec<u8> {
    let mut text = line_of(&format!("{{\"format\":{PLAIN}}}"));
    text.resize(STAMP - 1, b' ');
    text.push(b'\n');
    text
}

fn line_of(json: &str) -> Vec<u8> {
    format!("{:08x} {json}", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// What cannot be written is refused as a file system refuses it.
pub(super) fn unwritable(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Io {
        doing: "write",
        file: LOCK.into(),
        source: std::io::Error::new(std::io::ErrorKind::FileTooLarge, what),
    }
}

/// A newer format may have fields that we do not know: its number it has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// The format that a line with a checksum names.
pub(super) fn version(place: &[u8]) -> Option<u32> {
    let Version { format } = serde_json::from_str(checked(place)?).ok()?;
    Some(format)
}

/// The JSON in a line with a checksum, when it is whole. What follows the line may be of an
/// older state, which was longer.
pub(super) fn checked(place: &[u8]) -> Option<&str> {
    let end = memchr::memchr(b'\n', place)?;
    let text = std::str::from_utf8(place[..end].trim_ascii_end()).ok()?;
    let (sum, json) = text.split_once(' ')?;
    let is_whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(json.as_bytes());
    is_whole.then_some(json)
}

pub(super) fn decode(place: &[u8]) -> Option<State> {
    let json = checked(place)?;
    serde_json::from_str(json).ok().or_else(|| {
        let format = version(place).filter(|&format| format > FORMAT)?;
        Some(State {
            format,
            seq: u64::MAX,
            ..State::new(Mechanism::Flock)
        })
    })
}
