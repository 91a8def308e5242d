//! The words by which attributes are written: their stored forms, the long options that mean the
//! same, and the known word that is nearest to another.

use strsim::osa_distance;

/// What can be said of a task. The order is that of the stored text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `cpus`
    Cpus,
    /// `gpus`
    Gpus,
    /// `mem`
    Mem,
    /// `time`
    Time,
    /// `node`
    Node,
    /// `priority`
    Priority,
    /// `retries`
    Retries,
    /// `retry-on`
    RetryOn,
    /// `name`
    Name,
    /// `after`
    After,
    /// `after-any`
    AfterAny,
    /// `creates`
    Creates,
    /// `in`
    In,
    /// `out`
    Out,
    /// `runner`
    Runner,
    /// `nodes`
    Nodes,
    /// `ntasks`
    Ntasks,
    /// `stage`
    Stage,
    /// `stage-ok`
    StageOk,
}

/// The stored forms, in the order of [`Key`].
const STORED: [(&str, Key); 19] = [
    ("cpus", Key::Cpus),
    ("gpus", Key::Gpus),
    ("mem", Key::Mem),
    ("time", Key::Time),
    ("node", Key::Node),
    ("priority", Key::Priority),
    ("retries", Key::Retries),
    ("retry-on", Key::RetryOn),
    ("name", Key::Name),
    ("after", Key::After),
    ("after-any", Key::AfterAny),
    ("creates", Key::Creates),
    ("in", Key::In),
    ("out", Key::Out),
    ("runner", Key::Runner),
    ("nodes", Key::Nodes),
    ("ntasks", Key::Ntasks),
    ("stage", Key::Stage),
    ("stage-ok", Key::StageOk),
];

/// Long options that are not named as the stored forms.
const OPTIONS: [(&str, Key); 3] = [
    ("cpus-per-task", Key::Cpus),
    ("gpus-per-task", Key::Gpus),
    ("task-timeout", Key::Time),
];

/// Words of schedulers and other farmers, and ours of the same meaning.
const ELSEWHERE: [(&str, &str); 15] = [
    ("cores", "cpus"),
    ("threads", "cpus"),
    ("gres", "gpus"),
    ("memory", "mem"),
    ("mem-per-task", "mem"),
    ("timeout", "time"),
    ("walltime", "time"),
    ("time-limit", "time"),
    ("nodelist", "node"),
    ("dependency", "after"),
    ("depends", "after"),
    ("input", "in"),
    ("inputs", "in"),
    ("output", "out"),
    ("outputs", "out"),
];

impl Key {
    /// The word of the stored form.
    pub fn word(self) -> &'static str {
        STORED[self as usize].0
    }

    /// The key of a word, with or without dashes before it.
    pub fn known(word: &[u8]) -> Option<Self> {
        let bare = word.strip_prefix(b"--").unwrap_or(word);
        let mut known = STORED.iter().chain(&OPTIONS);
        let found = known.find(|(known, _)| known.as_bytes() == bare);
        found.map(|(_, key)| *key)
    }

    /// The same, or what is wrong with the word.
    pub fn of(word: &str) -> Result<Self, String> {
        if let Some(key) = Self::known(word.as_bytes()) {
            return Ok(key);
        }
        let bare = word.strip_prefix("--").unwrap_or(word);
        let near = ELSEWHERE.iter().find(|(there, _)| *there == bare);
        let near = near.map(|(_, ours)| *ours);
        if let Some(known) = near.or_else(|| nearest(bare, Self::words())) {
            return Err(format!("'{word}' is not known; did you mean '{known}'?"));
        }
        let known: Vec<_> = Self::words().take(OF_USERS).collect();
        let known = known.join(", ");
        Err(format!("'{word}' is not known: the words are {known}"))
    }

    /// Whether it may have several values.
    pub fn is_list(self) -> bool {
        matches!(
            self,
            Self::Mem | Self::RetryOn | Self::After | Self::AfterAny | Self::In | Self::Out
        )
    }

    /// Whether its value is a whole number.
    pub fn is_number(self) -> bool {
        use Key::{Cpus, Gpus, Nodes, Ntasks, Priority, Retries, Stage, StageOk};
        matches!(
            self,
            Cpus | Gpus | Priority | Retries | Nodes | Ntasks | Stage | StageOk
        )
    }

    /// The words that users write, shortest forms first.
    pub fn words() -> impl Iterator<Item = &'static str> {
        let of_users = STORED.iter().take(OF_USERS);
        of_users.chain(&OPTIONS).map(|(word, _)| *word)
    }
}

/// All of [`STORED`] but the stages, which users write as barriers.
const OF_USERS: usize = STORED.len() - 2;

/// The known word that this one was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known
        .into_iter()
        .map(|known| (osa_distance(word, known), known));
    let (edits, known) = near.min_by_key(|(edits, _)| *edits)?;
    (edits <= 2 && edits < known.len()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_forms_are_in_the_order_of_the_keys() {
        for (at, (word, key)) in STORED.iter().enumerate() {
            assert_eq!((*key as usize, key.word()), (at, *word));
            assert_eq!(Key::of(word), Ok(*key));
        }
        assert!(Key::words().all(|word| Key::of(&format!("--{word}")).is_ok()));
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_one() {
        for (word, part) in [
            ("cpu", "did you mean 'cpus'?"),
            ("--gpus-per-tsk", "did you mean 'gpus-per-task'?"),
            ("memory", "did you mean 'mem'?"),
            ("retry_on", "did you mean 'retry-on'?"),
            ("walltime", "did you mean 'time'?"),
            ("runer", "did you mean 'runner'?"),
            ("--ntask", "did you mean 'ntasks'?"),
            ("colour", "the words are cpus, gpus, mem"),
        ] {
            let what = Key::of(word).unwrap_err();
            assert!(what.contains(part), "{word}: {what}");
        }
        // A short word is near to everything.
        assert_eq!(nearest("x", ["ok", "cpus"]), None);
    }
}
