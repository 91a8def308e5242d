//! Checksums that grow with what is appended: the CRC-32 of zlib.
//!
//! Guarantee: the sum of a whole follows from the sums of its parts, so the sums of a file and
//! of its head give that of the rest without reading it.

use crc32fast::Hasher;

/// Reported of a file whose checksum is not the recorded one.
pub const CHANGED: &str = "its checksum is not the recorded one: some of its lines have \
                           changed since they were written";

/// The sum of `len` bytes that have the sum `sum`, followed by `bytes`.
pub fn grown(sum: u32, len: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial_len(sum, len);
    hasher.update(bytes);
    hasher.finalize()
}

/// The sum of the last `len` bytes of something, by its sum and that of what is before
/// them.
pub fn rest(whole: u32, before: u32, len: u64) -> u32 {
    // The sum of a whole is that of its head, moved on by the length of the rest, and
    // that of the rest, added bit by bit.
    let mut moved = Hasher::new_with_initial_len(before, 0);
    moved.combine(&Hasher::new_with_initial_len(0, len));
    whole ^ moved.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_grows_and_that_of_the_rest_follows() {
        let text = b"0 echo a\n1 echo b\n2 echo c\n";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            let head_sum = grown(0, 0, head);
            let whole = grown(head_sum, head.len() as u64, tail);
            assert_eq!(whole, crc32fast::hash(text));
            let rest = rest(whole, head_sum, tail.len() as u64);
            assert_eq!(rest, crc32fast::hash(tail));
        }
    }
}
