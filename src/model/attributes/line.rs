//! The stored line of a task: its command, and the text of its attributes after it.
//!
//! Guarantee: [`joined`] and [`split`] are inverse for every command; a command of which nothing
//! is said is stored as it is, byte for byte.

use memchr::memrchr;

/// The word before the attributes in a stored line, with the blank before it.
const WORD: &[u8] = b" #PYTF";

/// The command and the text of the attributes in a stored line.
pub fn split(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    // No attribute has this byte, and nearly all lines are told apart by it.
    let Some(at) = memrchr(b'#', line).and_then(|at| at.checked_sub(1)) else {
        return (line, None);
    };
    let (command, rest) = line.split_at(at);
    match rest.strip_prefix(WORD) {
        Some([b' ', rest @ ..] | rest @ []) => (command, Some(rest)),
        _ => (line, None),
    }
}

/// The command of a stored line.
pub fn command(line: &[u8]) -> &[u8] {
    split(line).0
}

/// The line in which a command is stored with the text of its attributes, which may be empty.
pub fn joined(command: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut line = command.to_vec();
    push_attributes(&mut line, attributes);
    line
}

/// Makes of a command the line in which it is stored with this text of its attributes.
pub fn push_attributes(line: &mut Vec<u8>, attributes: &[u8]) {
    if !attributes.is_empty() || split(line).1.is_some() {
        line.extend_from_slice(WORD);
        if !attributes.is_empty() {
            line.push(b' ');
            line.extend_from_slice(attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_stored_line_is_split_as_it_was_joined(
            command in "[a #PYTF]{0,24}",
            attributes in "([a-z]{1,4}=[a-z]{1,4}( [a-z]{1,4}=[0-9]{1,4})?)?",
        ) {
            let line = joined(command.as_bytes(), attributes.as_bytes());
            let (left, right) = split(&line);
            assert_eq!(left, command.as_bytes());
            assert_eq!(right.unwrap_or_default(), attributes.as_bytes());
        }
    }

    #[test]
    fn what_only_looks_like_attributes_belongs_to_the_command() {
        for line in ["echo #PYTFX", "echo x#PYTF cpus=1", "#PYTF cpus=1", "echo"] {
            assert_eq!(joined(line.as_bytes(), b""), line.as_bytes());
        }
        assert_eq!(joined(b"echo #PYTF x", b""), b"echo #PYTF x #PYTF");
    }
}
