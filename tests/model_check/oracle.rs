//! What must be true, seen from the server: looked at each time the state in
//! force may have changed.
//!
//! It reads the files as they lie there, without any of the caches, and follows
//! the log of transactions: each task is in exactly one place, each recorded
//! result ends where it belongs, nothing is torn, nothing goes back in time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;

use pytf::model::ids::Ids;
use pytf::model::outcome::Destination;
use pytf::model::task::{TaskId, parse_line};
use pytf::workdir::edit::Edited;
use pytf::workdir::files::Committed;
use pytf::workdir::fs::File;
use pytf::workdir::layout::{
    self, BLOCKED, FAILED, FINISHED, ORDERS, RELEASED, REQUEUED, TASKS, TOPROCESS,
};
use pytf::workdir::mechanism::Mechanism;
use pytf::workdir::orders::{Cancel, Order};
use pytf::workdir::state::{self, Act, Entry, Log, Member, State};

use crate::sim_fs::Server;

/// Bytes, as a file that nobody changes.
struct Still(Vec<u8>);

impl File for Still {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn inode(&self) -> io::Result<u64> {
        Ok(0)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(from..).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn try_lock(&self, _: Mechanism) -> io::Result<bool> {
        Ok(false)
    }
    fn share(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A result in a journal.
#[derive(Clone)]
struct Recorded {
    actor: usize,
    to: Destination,
    is_synced: bool,
}

/// What a run of a task in a process was.
struct Run {
    actor: usize,
    id: u64,
}

/// Where the tasks are in one state.
#[derive(Clone, Default)]
struct Places {
    state: Option<State>,
    live: BTreeSet<u32>,
    quarantined: BTreeSet<u32>,
    owners: BTreeMap<u64, u32>,
    finished: BTreeSet<u64>,
    failed: BTreeSet<u64>,
    queue: BTreeSet<u64>,
    /// What waits, in its order: the tasks, and which line each is.
    order: Vec<(u64, u64)>,
    recorded: BTreeMap<u64, Recorded>,
    /// The tasks that wait for others, and for which.
    blocked: BTreeMap<u64, [Ids; 2]>,
    /// Which line each task is.
    lines: BTreeMap<u64, u64>,
    /// The tasks that were added, and are not of the list.
    added: BTreeSet<u64>,
    /// Since when the run is paused.
    paused: Option<u64>,
    /// The attempt in which each task was claimed last.
    claims: BTreeMap<u64, u32>,
    /// Since when attempts are cancelled.
    cancelled: BTreeMap<(u64, u32), u64>,
    /// By farmer's number: since when it is ordered to leave.
    leaving: BTreeMap<u32, u64>,
}

#[derive(Default)]
pub(crate) struct Oracle {
    /// As it was when it was looked at last, and the time before.
    now: Places,
    before: Places,
    /// By farmer's number: the process.
    actors: BTreeMap<u32, usize>,
    /// By farmer's name: the process.
    names: BTreeMap<String, usize>,
    running: Vec<Run>,
    /// The number of the next attempt of each task that was put back.
    attempts: BTreeMap<u64, u32>,
    /// By task: how often it failed and was tried again, and how often it was lost, since a
    /// person put it back.
    counts: BTreeMap<u64, (u32, u32)>,
    /// How often a task may be tried again.
    retries: u32,
    /// Tasks whose attempt is known to have failed, and that were put back since.
    again: Vec<u64>,
    /// Tasks may have left the list.
    may_drop: bool,
    /// Those who leave since they see nothing left to do.
    idle: BTreeSet<u32>,
    /// Whether tasks of the list wait for others.
    is_ordered: bool,
    /// The tasks that have ended at some time since the run began, or was reset.
    ended: BTreeSet<u64>,
    /// What those who added tasks know of them: their ids and lines.
    answered: Vec<(u64, u64)>,
    /// By transaction: the tasks that waited before and after it was edited which, in their
    /// order.
    edits: BTreeMap<u64, [Vec<(u64, u64)>; 2]>,
    /// How often there was each act, by its word in the log, and each order.
    pub(crate) acts: BTreeMap<String, u64>,
    /// What time it is.
    pub(crate) at: u64,
}

/// The words of the orders, what they cancel, and what they say was added.
type OrdersRead = (Vec<&'static str>, Vec<Cancel>, BTreeSet<u64>);

/// One of the shared files, read.
struct Shown {
    ids: BTreeSet<u64>,
    /// Each task, and which line it is.
    numbers: Vec<(u64, u64)>,
    lines: Vec<Vec<u8>>,
}

impl Oracle {
    /// Nothing seen yet; `may_drop`: tasks may vanish from the list; `retries`: how often one may
    /// be tried again.
    pub(crate) fn new(may_drop: bool, retries: u32, is_ordered: bool) -> Self {
        Self {
            retries,
            may_drop,
            is_ordered,
            ..Self::default()
        }
    }

    /// A process made a farmer of this name.
    pub(crate) fn named(&mut self, farmer: &str, actor: usize) {
        self.names.insert(farmer.to_owned(), actor);
    }

    /// Whether a task is claimed by the farmer with that number.
    pub(crate) fn owns(&self, number: u32, id: u64) -> bool {
        self.now.owners.get(&id) == Some(&number)
    }

    /// A result is in the journal of a process; `is_synced`: durable.
    pub(crate) fn record(&mut self, number: u32, id: u64, to: Destination, is_synced: bool) {
        if self.now.live.contains(&number)
            && self.now.owners.get(&id) == Some(&number)
            && let Some(&actor) = self.actors.get(&number)
        {
            let recorded = Recorded {
                actor,
                to,
                is_synced,
            };
            self.now.recorded.insert(id, recorded);
        }
    }

    /// Nothing is promised any more for what a process had only written.
    pub(crate) fn lost_power(&mut self, actor: usize) {
        self.now
            .recorded
            .retain(|_, recorded| recorded.actor != actor || recorded.is_synced);
    }

    /// What a process had written is durable: the kernel closed its files.
    pub(crate) fn reached_server(&mut self, actor: usize) {
        let its = |recorded: &&mut Recorded| recorded.actor == actor;
        let all = self.now.recorded.values_mut().filter(its);
        all.for_each(|recorded| recorded.is_synced = true);
    }

    /// A process starts a task; the others that run it.
    pub(crate) fn starts(&mut self, actor: usize, id: u64) -> Vec<usize> {
        let others = self.running.iter().filter(|run| run.id == id);
        let others = others.map(|run| run.actor).collect();
        self.running.push(Run { actor, id });
        others
    }

    pub(crate) fn ends(&mut self, actor: usize, id: u64) {
        self.running
            .retain(|run| run.actor != actor || run.id != id);
    }

    /// Whether a task is in `finished`.
    pub(crate) fn is_finished(&self, id: u64) -> bool {
        self.now.finished.contains(&id)
    }

    /// Since when farmers are to start nothing.
    pub(crate) fn paused_since(&self) -> Option<u64> {
        self.now.paused
    }

    /// Since when an attempt is cancelled.
    pub(crate) fn cancelled_since(&self, id: u64, attempt: u32) -> Option<u64> {
        self.now.cancelled.get(&(id, attempt)).copied()
    }

    /// Since when the farmer with that number is to leave.
    pub(crate) fn leaving_since(&self, number: u32) -> Option<u64> {
        self.now.leaving.get(&number).copied()
    }

    /// A farmer is about to leave because nothing waits, if that is so, or stays.
    pub(crate) fn is_idle(&mut self, number: u32, is_so: bool) {
        if is_so {
            self.idle.insert(number);
        } else {
            self.idle.remove(&number);
        }
    }

    /// Somebody has added these tasks, and knows it.
    pub(crate) fn answered(&mut self, ids: &Ids, lines: &[u64]) {
        let ids = ids.iter().map(|id| id.0);
        self.answered.extend(ids.zip(lines.iter().copied()));
    }

    /// Somebody has edited the tasks of `copy`, each an id and which line it is, into this
    /// text, in that transaction, and knows what became of them.
    pub(crate) fn edited(
        &mut self,
        seq: u64,
        copy: &BTreeMap<u64, u64>,
        text: &[(Option<u64>, u64)],
        edited: &Edited,
    ) -> Result<(), String> {
        let is_kept = |(id, line): &(Option<u64>, u64)| {
            let id = id.filter(|id| copy.get(id) == Some(line));
            id.map(|id| (id, *line))
        };
        let kept: BTreeSet<u64> = text.iter().filter_map(is_kept).map(|(id, _)| id).collect();
        let gone = |ids: &Ids| {
            ids.iter()
                .find(|id| kept.contains(&id.0) || !copy.contains_key(&id.0))
        };
        if let Some(id) = gone(&edited.cancelled).or_else(|| gone(&edited.left_alone)) {
            return Err(format!("task {id} was not edited, and {edited:?}"));
        }
        let changed = !edited.cancelled.is_empty() || !edited.added.is_empty();
        let is_committed = changed || edited.left_alone.is_empty();
        let edit = self.edits.get(&seq).filter(|_| is_committed);
        let Some([before, after]) = edit else {
            // Nothing waited of what was edited, or two transactions were seen at once.
            return Ok(());
        };
        let waited: BTreeSet<u64> = before.iter().map(|(id, _)| *id).collect();
        let mut added = edited.added.iter().map(|id| id.0);
        let mut expected = Vec::new();
        for line in text {
            match (is_kept(line), line.0) {
                (Some(kept), _) if waited.contains(&kept.0) => expected.push(kept),
                (Some(_), _) => {}
                (None, Some(id)) if !waited.contains(&id) => {}
                (None, _) => {
                    let new = (added.next().unwrap_or(u64::MAX), line.1);
                    self.answered.push(new);
                    expected.push(new);
                }
            }
        }
        let since = before.iter().filter(|(id, _)| !copy.contains_key(id));
        expected.extend(since);
        let out = copy.keys().filter(|id| !kept.contains(id));
        let (cancelled, left_alone) = out
            .map(|id| TaskId(*id))
            .partition::<Vec<_>, _>(|id| waited.contains(&id.0));
        let is_so = |ids: Vec<TaskId>, known: &Ids| ids.into_iter().collect::<Ids>() == *known;
        if *after != expected
            || !is_so(cancelled, &edited.cancelled)
            || !is_so(left_alone, &edited.left_alone)
        {
            return Err(format!(
                "{before:?} was edited as {text:?} and is {after:?}, not {expected:?}: {edited:?}"
            ));
        }
        Ok(())
    }

    /// A process is over, and with it its tasks.
    pub(crate) fn stopped(&mut self, actor: usize) {
        self.running.retain(|run| run.actor != actor);
    }

    /// Looks at the server.
    pub(crate) fn look(&mut self, server: &Server) -> Result<(), String> {
        let Some(bytes) = server.file("lock") else {
            return match self.now.state {
                Some(_) => Err("the lock file is gone".into()),
                None => Ok(()),
            };
        };
        self.look_at(server, &Still(bytes.to_vec()))
    }

    fn look_at(&mut self, server: &Server, file: &Still) -> Result<(), String> {
        let now = state::read(file).map_err(|error| error.to_string())?;
        let Some(now) = now else {
            return match &self.now.state {
                Some(was) => Err(format!("the state {} is gone", was.seq)),
                None => Ok(()),
            };
        };
        let seq = self.now.state.as_ref().map_or(0, |was| was.seq);
        if now.seq == seq {
            return Ok(());
        }
        if now.seq + 1 == seq && self.take_back(&now) {
            return Ok(());
        }
        if now.seq < seq {
            return Err(format!("the state went back from {seq} to {}", now.seq));
        }
        let entries = self.entries_after(server, file, &now, seq)?;
        let numbers: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
        if numbers.iter().copied().ne(seq + 1..=now.seq) {
            return Err(format!("after {seq} the log has {numbers:?}"));
        }
        let tasks = Self::read(server, &now, TASKS, None)?;
        let lines: BTreeMap<u64, u64> = tasks.numbers.iter().copied().collect();
        let is_other = |(id, line): (&u64, &u64)| lines.get(id) != Some(line);
        if let Some((id, _)) = self.now.lines.iter().find(|known| is_other(*known)) {
            return Err(format!("the line of task {id} has changed"));
        }
        let mut queue = Self::read(server, &now, TOPROCESS, Some(&lines))?;
        for class in 1..now.queues.len() {
            let more = Self::read(server, &now, &layout::queue(class), Some(&lines))?;
            queue.numbers.extend(more.numbers);
            queue.ids.extend(more.ids);
        }
        let blocked = Self::blocked(server, &now)?;
        let finished = Self::read(server, &now, FINISHED, Some(&lines))?;
        let failed = Self::read(server, &now, FAILED, Some(&lines))?;
        let requeued = Self::read(server, &now, REQUEUED, None)?;
        self.attempts = attempts(&requeued);
        let (orders, cancels, added) = Self::orders(server, &now)?;
        self.before = self.now.clone();
        self.now.lines = lines;
        self.now.order.clone_from(&queue.numbers);
        let acts: Vec<Act> = entries.into_iter().map(|entry| entry.act).collect();
        for (nth, act) in acts.iter().enumerate() {
            let is_last = nth + 1 == acts.len();
            *self.acts.entry(word(act)).or_default() += 1;
            let is_alone = acts.len() == 1;
            self.moved(act, &cancels, is_alone.then_some((now.seq, &failed.ids)))?;
            if let (Act::Reset { from }, true) = (act, is_last) {
                self.is_kept(server, &now)?;
                self.is_anew(from.0, &cancels)?;
            }
            self.apply(act, &finished.ids, &failed.ids, &queue.ids, is_last)
                .map_err(|what| format!("{what} (state {}, {act:?})", now.seq))?;
        }
        let waiting = queue.ids.iter().chain(blocked.keys()).copied().collect();
        (self.now.queue, self.now.finished, self.now.failed) = (waiting, finished.ids, failed.ids);
        self.now.blocked = blocked;
        self.ended.extend(&self.now.finished);
        self.ended.extend(&self.now.failed);
        self.check_orders(&now, &orders, &added)?;
        let seen = format!("state {} ({:?})", now.seq, acts);
        self.check_cancelled(&now)
            .map_err(|what| format!("{what} at {seen}"))?;
        self.now.state = Some(now);
        self.partition(server)
            .and_then(|()| self.check_counts(&requeued))
            .map_err(|what| format!("{what} at {seen}"))
    }

    /// No task is tried again more often than it may be, or goes on to lose its farmers; a failure
    /// that is on record is counted as one.
    fn check_counts(&mut self, requeued: &Shown) -> Result<(), String> {
        self.counts.clear();
        let mut last = BTreeMap::new();
        for line in &requeued.lines {
            let text = String::from_utf8_lossy(line);
            let mut words = text.trim_end().splitn(3, ' ');
            let id: u64 = words
                .next()
                .and_then(|id| id.parse().ok())
                .unwrap_or(u64::MAX);
            let why = words.nth(1).unwrap_or_default().to_owned();
            let (failures, losses) = self.counts.entry(id).or_default();
            match &*why {
                "again" => *failures += 1,
                "lost" | "lost-limit" => *losses += 1,
                "retry" | "dropped" | "restored" => (*failures, *losses) = (0, 0),
                _ => {}
            }
            if *failures > self.retries {
                return Err(format!("task {id} is tried again {failures} times"));
            }
            if (why == "lost" && *losses >= 5) || (why == "lost-limit" && *losses != 5) {
                return Err(format!("task {id} is {why} after {losses} losses"));
            }
            last.insert(id, why);
        }
        let is_other = |id: &&u64| last.get(id).is_none_or(|why| why != "again");
        match std::mem::take(&mut self.again).iter().find(is_other) {
            Some(id) => Err(format!("the failure of task {id} is lost")),
            None => Ok(()),
        }
    }

    /// What the log says of the transactions after `seq`. A checkpoint of that very
    /// state must say what is true.
    fn entries_after(
        &self,
        server: &Server,
        file: &Still,
        now: &State,
        seq: u64,
    ) -> Result<Vec<Entry>, String> {
        let mut entries =
            state::entries(file, &now.log, &Log::default()).map_err(|error| error.to_string())?;
        let mut segment = now.log.segment;
        while let Some(Entry {
            seq: at,
            act: Act::Checkpoint { members },
            ..
        }) = entries.first()
        {
            if *at == seq {
                self.check_members(members)?;
            }
            let Some(before) = segment.checked_sub(1).filter(|_| *at > seq) else {
                break;
            };
            let kept = server.file(&state::kept(before)).unwrap_or_default();
            let mut all = state::parse_entries(kept).map_err(|error| error.to_string())?;
            all.append(&mut entries);
            (entries, segment) = (all, before);
        }
        entries.retain(|entry| entry.seq > seq && !matches!(entry.act, Act::Checkpoint { .. }));
        Ok(entries)
    }

    /// A checkpoint says who is alive, and what they have open.
    fn check_members(&self, members: &[Member]) -> Result<(), String> {
        let live: BTreeSet<u32> = members.iter().map(|member| member.by).collect();
        let open = |member: &Member| {
            let ids: Vec<u64> = member.open.ids().iter().map(|id| id.0).collect();
            ids.into_iter()
                .map(|id| (id, member.by))
                .collect::<Vec<_>>()
        };
        let owners: BTreeMap<u64, u32> = members.iter().flat_map(open).collect();
        let quarantined = members.iter().filter(|member| member.quarantined);
        let quarantined: BTreeSet<u32> = quarantined.map(|member| member.by).collect();
        let now = &self.now;
        if (&live, &owners, &quarantined) != (&now.live, &now.owners, &now.quarantined) {
            let (was, owned) = (&now.live, &now.owners);
            return Err(format!(
                "a checkpoint says {members:?}, but {was:?} are alive and have {owned:?}"
            ));
        }
        Ok(())
    }

    /// An old holder may write one state more into the lock file that is being
    /// replaced under it. It must notice, so that nothing follows from it.
    fn take_back(&mut self, now: &State) -> bool {
        let was = self.before.state.as_ref();
        let is_so = was.is_some_and(|was| was.seq == now.seq && was.breaks < now.breaks);
        if is_so {
            let recorded = std::mem::take(&mut self.now.recorded);
            self.now = self.before.clone();
            self.now.recorded.extend(recorded);
            self.now.state = Some(now.clone());
        }
        is_so
    }

    /// `lines`: which line each task is, in all files but `tasks`, which says so.
    fn read(
        server: &Server,
        now: &State,
        name: &str,
        lines: Option<&BTreeMap<u64, u64>>,
    ) -> Result<Shown, String> {
        let (from, known) = match name {
            FINISHED => (0, now.finished),
            FAILED => (0, now.failed),
            REQUEUED => (0, now.requeued),
            TASKS => (0, now.tasks),
            _ => {
                let queue = now.queue_named(name);
                let (len, lines, sum) = (queue.len, queue.left, queue.rest());
                (queue.cursor, Committed { len, lines, sum })
            }
        };
        let coming = now.renames.iter().find(|rename| rename.to == name);
        let bytes = coming
            .and_then(|rename| server.file(&rename.from))
            .or_else(|| server.file(name))
            .unwrap_or_default();
        let (from, to) = (index(from), index(known.len));
        let Some(bytes) = bytes.get(from..to) else {
            let (seq, len) = (now.seq, bytes.len());
            return Err(format!("{name} has {len} bytes, state {seq} knows {to}"));
        };
        let mut shown = Shown {
            ids: BTreeSet::new(),
            numbers: Vec::new(),
            lines: Vec::new(),
        };
        let torn = |line: &[u8]| {
            let line = String::from_utf8_lossy(line).into_owned();
            format!("{name} holds a torn line: {line:?} (state {})", now.seq)
        };
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let whole = line.strip_suffix(b"\n").ok_or_else(|| torn(line))?;
            let (id, text) = parse_line(whole).ok_or_else(|| torn(line))?;
            if name != REQUEUED {
                let number = crate::number_of(text).ok_or_else(|| torn(line))?;
                let known = lines.map(|lines| lines.get(&id.0).copied());
                if known.is_some_and(|known| known != Some(number)) {
                    return Err(torn(line));
                }
                shown.numbers.push((id.0, number));
            }
            if !shown.ids.insert(id.0) && name != REQUEUED {
                return Err(format!("task {id} is twice in {name} (state {})", now.seq));
            }
            shown.lines.push(line.to_vec());
        }
        if crc32fast::hash(&shown.lines.concat()) != known.sum {
            return Err(format!(
                "{name} does not have its checksum (state {})",
                now.seq
            ));
        }
        if shown.lines.len() as u64 != known.lines {
            let n = shown.lines.len();
            return Err(format!("{name} has {n} lines, known are {}", known.lines));
        }
        Ok(shown)
    }

    /// The tasks that wait for others, and for which: those that have to finish, and those that
    /// have to end.
    fn blocked(server: &Server, now: &State) -> Result<BTreeMap<u64, [Ids; 2]>, String> {
        let known = |name: &str, known: Committed| {
            let coming = now.renames.iter().find(|rename| rename.to == name);
            let bytes = coming.and_then(|rename| server.file(&rename.from));
            let bytes = bytes.or_else(|| server.file(name)).unwrap_or_default();
            let bytes = bytes.get(..index(known.len));
            let bytes = bytes.filter(|bytes| crc32fast::hash(bytes) == known.sum);
            let text = bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            text.ok_or_else(|| format!("{name} is not what state {} knows", now.seq))
        };
        let mut all = BTreeMap::new();
        for line in known(BLOCKED, now.blocked)?.lines() {
            let mut words = line.splitn(4, ' ');
            let mut word = || words.next().unwrap_or_default();
            let id = word()
                .parse()
                .map_err(|_| format!("{BLOCKED} has {line:?}"))?;
            all.insert(
                id,
                [word(), word()].map(|ids| ids.parse().unwrap_or_default()),
            );
        }
        for id in known(RELEASED, now.released)?.lines() {
            if id
                .parse()
                .ok()
                .and_then(|id: u64| all.remove(&id))
                .is_none()
            {
                return Err(format!("task {id} is released, and was not blocked"));
            }
        }
        Ok(all)
    }

    /// A task starts: those that it waits for have finished, or ended.
    pub(crate) fn check_order(&self, id: u64) -> Result<(), String> {
        let number = self.now.lines.get(&id);
        let Some(number) = number.filter(|_| self.is_ordered && !self.now.added.contains(&id))
        else {
            return Ok(());
        };
        let before = crate::before(*number);
        let of_list = self
            .now
            .lines
            .iter()
            .filter(|(id, _)| !self.now.added.contains(id));
        for (other, line) in of_list {
            let is_early = before.after.contains(line) && !self.now.finished.contains(other)
                || before.any.contains(line) && !self.ended.contains(other);
            if is_early {
                return Err(format!("task {id} starts before task {other} has ended"));
            }
        }
        Ok(())
    }

    /// Nothing is blocked at the end but by what failed.
    fn check_none_is_stuck(&self) -> Result<(), String> {
        for (id, [after, any]) in &self.now.blocked {
            let is_blocked = |id: TaskId| self.now.blocked.contains_key(&id.0);
            let is_behind = |id: TaskId| self.now.failed.contains(&id.0) || is_blocked(id);
            if !after.iter().any(is_behind) && !any.iter().any(is_blocked) {
                return Err(format!(
                    "task {id} waits for {after}, {any}, and these have ended"
                ));
            }
        }
        Ok(())
    }

    /// The words of all orders, each of which is whole, the attempts that they cancel, and the
    /// tasks that were added.
    fn orders(server: &Server, now: &State) -> Result<OrdersRead, String> {
        let coming = now.renames.iter().find(|rename| rename.to == ORDERS);
        let bytes = coming
            .and_then(|rename| server.file(&rename.from))
            .or_else(|| server.file(ORDERS))
            .unwrap_or_default();
        let what = || format!("orders are {bytes:?}, known is {:?}", now.orders);
        let bytes = bytes.get(..index(now.orders.len)).ok_or_else(what)?;
        if crc32fast::hash(bytes) != now.orders.sum {
            return Err(what());
        }
        let mut added = BTreeSet::new();
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let cancels = lines.clone().filter_map(|line| match Order::of(line) {
            Order::Cancel(cancel) => Some(cancel),
            _ => None,
        });
        let cancels = cancels.collect();
        let words = lines.map(|line| {
            let order: serde_json::Value = serde_json::from_slice(line).ok()?;
            if order["do"] == "add" {
                let ids: Ids = order["ids"].as_str()?.parse().ok()?;
                added.extend(ids.iter().map(|id| id.0));
            }
            let words = ["pause", "resume", "drain", "stop", "cancel", "add", "close"];
            words.into_iter().find(|word| order["do"] == **word)
        });
        let words: Vec<&str> = words.collect::<Option<_>>().ok_or_else(what)?;
        if words.len() as u64 != now.orders.lines {
            return Err(what());
        }
        Ok((words, cancels, added))
    }

    /// What a command takes out of the tasks that wait: `alone` has the number of its transaction,
    /// and what is in `failed` after it, when no other transaction is seen at the same time.
    fn moved(
        &mut self,
        act: &Act,
        cancels: &[Cancel],
        alone: Option<(u64, &BTreeSet<u64>)>,
    ) -> Result<(), String> {
        let waiting = match act {
            Act::Cancel { waiting } => *waiting,
            Act::EditQueue { cancelled, .. } => {
                if let Some((seq, _)) = alone {
                    let order = [self.before.order.clone(), self.now.order.clone()];
                    self.edits.insert(seq, order);
                }
                *cancelled
            }
            _ => return Ok(()),
        };
        self.cancelled(cancels, waiting, alone.map(|(_, failed)| failed))
    }

    /// The orders and the state agree, and the log with them.
    fn check_orders(
        &self,
        now: &State,
        orders: &[&str],
        added: &BTreeSet<u64>,
    ) -> Result<(), String> {
        let last = orders.iter().rev();
        let last = last
            .copied()
            .find(|word| ["pause", "resume"].contains(word));
        let is_paused = self.now.paused.is_some();
        if (is_paused, is_paused) != (now.paused, last == Some("pause")) {
            return Err(format!(
                "paused: {now:?}, {orders:?}, {:?}",
                self.now.paused
            ));
        }
        if *added != self.now.added {
            return Err(format!(
                "orders say that {added:?} were added, the log {:?}",
                self.now.added
            ));
        }
        Ok(())
    }

    /// More attempts are cancelled; `waiting` of them were in `toprocess`.
    fn cancelled(
        &mut self,
        cancels: &[Cancel],
        waiting: u64,
        failed: Option<&BTreeSet<u64>>,
    ) -> Result<(), String> {
        for cancel in cancels {
            for id in cancel.ids.iter() {
                let since = self.now.cancelled.entry((id.0, cancel.attempt));
                since.or_insert(self.at);
            }
        }
        let moved = failed.map(|failed| failed.intersection(&self.now.queue).count() as u64);
        match moved {
            Some(moved) if moved != waiting => Err(format!(
                "{moved} waiting tasks were cancelled, not {waiting}"
            )),
            _ => Ok(()),
        }
    }

    fn is_cancelled(&self, id: u64) -> bool {
        let attempt = self.attempts.get(&id).copied().unwrap_or(1);
        self.now.cancelled.contains_key(&(id, attempt))
    }

    /// What goes back to `toprocess` was not cancelled when it was claimed last, or since.
    fn check_not_cancelled(&self, ids: &Ids) -> Result<(), String> {
        let was_cancelled = |id: &u64| {
            let attempt = self.now.claims.get(id).copied().unwrap_or(1);
            self.now.cancelled.contains_key(&(*id, attempt))
        };
        match ids.iter().map(|id| id.0).find(was_cancelled) {
            Some(id) => Err(format!("task {id} is put back, though it is cancelled")),
            None => Ok(()),
        }
    }

    /// What is cancelled does not wait, and is counted when it is in `failed`.
    fn check_cancelled(&self, now: &State) -> Result<(), String> {
        if let Some(id) = self.now.queue.iter().find(|id| self.is_cancelled(**id)) {
            return Err(format!("task {id} waits, though it is cancelled"));
        }
        let failed = self.now.failed.iter().filter(|id| self.is_cancelled(**id));
        let failed = failed.count() as u64;
        if failed != now.cancelled {
            return Err(format!("{failed} are cancelled, known: {}", now.cancelled));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        act: &Act,
        finished: &BTreeSet<u64>,
        failed: &BTreeSet<u64>,
        queue: &BTreeSet<u64>,
        is_last: bool,
    ) -> Result<(), String> {
        match act {
            Act::Prepare | Act::Checkpoint { .. } | Act::Cancel { .. } => {}
            Act::EditQueue { added: ids, .. } => self.ordered("add", ids),
            Act::Reset { from } => {
                self.again.clear();
                self.ended.clear();
                self.reset(from.0, is_last.then_some([finished, failed, queue]))?;
            }
            Act::Order { order, ids } => self.ordered(order, ids),
            Act::Join {
                by, farmer, claim, ..
            } => {
                self.now.live.insert(*by);
                self.claimed(*by, claim)?;
                let actor = self.names.get(farmer).copied().unwrap_or(usize::MAX);
                self.actors.insert(*by, actor);
            }
            Act::Turn {
                by,
                claim,
                back,
                leave,
                ..
            } => {
                if !self.now.live.contains(by) {
                    return Err(format!("farmer {by} is over and took a turn"));
                }
                self.settled(*by, finished, failed)?;
                self.given_back(*by, back)?;
                self.claimed(*by, claim)?;
                if !claim.is_empty() && self.now.quarantined.contains(by) {
                    return Err(format!("farmer {by} claims in quarantine"));
                }
                if *leave && is_last && self.idle.contains(by) && !queue.is_empty() {
                    return Err(format!("farmer {by} left {queue:?} for no reason"));
                }
                if *leave {
                    self.now.live.remove(by);
                    self.now.quarantined.remove(by);
                    if let Some((id, _)) = self.now.owners.iter().find(|(_, owner)| *owner == by) {
                        return Err(format!("farmer {by} left with task {id}"));
                    }
                }
            }
            Act::Seal { of, .. } => {
                if !self.now.live.remove(of) {
                    return Err(format!("farmer {of} is over and was sealed"));
                }
                self.now.quarantined.remove(of);
                self.settled(*of, finished, failed)?;
                let lost = self.now.owners.iter().filter(|(_, owner)| *owner == of);
                let lost: Ids = lost.map(|(id, _)| TaskId(*id)).collect();
                if let Some(id) = lost.iter().find(|id| is_last && !queue.contains(&id.0)) {
                    return Err(format!("task {id} was lost with its farmer"));
                }
                self.given_back(*of, &lost)?;
            }
            Act::Retry { ids } | Act::Edit { forgotten: ids } => self.put_back(ids),
            Act::Quarantine { by, ids } => {
                self.doubts(*by, ids)?;
            }
            Act::Release { by } => {
                if !self.now.quarantined.remove(by) {
                    return Err(format!("farmer {by} was released from nothing"));
                }
            }
        }
        Ok(())
    }

    /// The tasks from an id on wait as if they had never run, and nobody is there.
    fn reset(&mut self, from: u64, are: Option<[&BTreeSet<u64>; 3]>) -> Result<(), String> {
        let now = &mut self.now;
        if !now.live.is_empty() || !now.owners.is_empty() {
            return Err(format!(
                "{:?} were alive, and had {:?}",
                now.live, now.owners
            ));
        }
        let [stay_finished, stay_failed] = [&now.finished, &now.failed]
            .map(|ids| ids.range(..from).copied().collect::<BTreeSet<_>>());
        let ended = now
            .finished
            .iter()
            .chain(&now.failed)
            .filter(|id| **id >= from);
        let wait: BTreeSet<u64> = now.queue.iter().chain(ended).copied().collect();
        if let Some(are) = are
            && are != [&stay_finished, &stay_failed, &wait]
        {
            return Err(format!("finished, failed and waiting are {are:?}"));
        }
        (now.finished, now.failed, now.queue) = (stay_finished, stay_failed, wait);
        now.recorded.clear();
        now.leaving.clear();
        now.paused = None;
        now.claims.retain(|id, _| *id < from);
        now.cancelled.retain(|(id, _), _| *id < from);
        Ok(())
    }

    /// After a reset, tasks from this id on are in their first attempt, and none is cancelled.
    fn is_anew(&self, from: u64, cancels: &[Cancel]) -> Result<(), String> {
        let again = self.attempts.range(from..);
        let again: Vec<_> = again.filter(|(_, attempt)| **attempt != 1).collect();
        let mut cancelled = cancels.iter().flat_map(|cancel| cancel.ids.iter());
        let cancelled = cancelled.find(|id| id.0 >= from);
        if again.is_empty() && cancelled.is_none() {
            return Ok(());
        }
        Err(format!(
            "after a reset from {from}, again: {again:?}; cancelled: {cancelled:?}"
        ))
    }

    /// What there was before a reset is in its folder when it is committed.
    fn is_kept(&self, server: &Server, now: &State) -> Result<(), String> {
        let folders = now
            .renames
            .iter()
            .filter_map(|rename| rename.to.split_once('/'));
        let folder = folders.map(|(folder, _)| folder).next();
        let folder = folder.ok_or_else(|| format!("a reset keeps nothing: {now:?}"))?;
        let was = self.before.state.as_ref().ok_or("a reset of nothing")?;
        for (name, known) in [
            (FINISHED, was.finished),
            (FAILED, was.failed),
            (REQUEUED, was.requeued),
            (TASKS, was.tasks),
            (ORDERS, was.orders),
        ] {
            let copy = server.file(&format!("{folder}/{name}")).unwrap_or_default();
            let copy = copy.get(..index(known.len)).unwrap_or_default();
            if crc32fast::hash(copy) != known.sum {
                return Err(format!("{folder}/{name} is not as {name} was"));
            }
        }
        Ok(())
    }

    /// A farmer claims nothing more, and these tasks are tried by others.
    fn doubts(&mut self, by: u32, ids: &Ids) -> Result<(), String> {
        self.check_not_cancelled(ids)?;
        self.put_back(ids);
        self.now.quarantined.insert(by);
        if self.now.quarantined.len() >= self.now.live.len() {
            return Err("nobody is left that claims".into());
        }
        Ok(())
    }

    fn ordered(&mut self, order: &str, ids: &Ids) {
        match order {
            "add" => self.now.added.extend(ids.iter().map(|id| id.0)),
            "pause" => self.now.paused = Some(self.at),
            "resume" => self.now.paused = None,
            "close" => {}
            _ => {
                let members = self.now.live.iter().map(|by| (*by, self.at));
                self.now.leaving.extend(members);
            }
        }
    }

    /// Failed tasks are in `toprocess` again.
    fn put_back(&mut self, ids: &Ids) {
        for id in ids.iter() {
            self.now.failed.remove(&id.0);
            self.now.recorded.remove(&id.0);
        }
    }

    fn claimed(&mut self, by: u32, claim: &Ids) -> Result<(), String> {
        if !claim.is_empty() && self.now.paused.is_some() {
            return Err(format!("farmer {by} claims while the run is paused"));
        }
        for id in claim.iter().map(|id| id.0) {
            let attempt = self.attempts.get(&id).copied().unwrap_or(1);
            self.now.claims.insert(id, attempt);
            if self.is_cancelled(id) {
                return Err(format!("farmer {by} claims task {id}, which is cancelled"));
            }
            if let Some(owner) = self.now.owners.insert(id, by) {
                return Err(format!("task {id} of farmer {owner} was claimed by {by}"));
            }
        }
        Ok(())
    }

    /// What is new in `finished` and `failed` must be a farmer's, and end where
    /// its record says.
    fn settled(
        &mut self,
        by: u32,
        finished: &BTreeSet<u64>,
        failed: &BTreeSet<u64>,
    ) -> Result<(), String> {
        for (ids, was, to) in [
            (finished, &mut self.now.finished, Destination::Finished),
            (failed, &mut self.now.failed, Destination::Failed),
        ] {
            let new: Vec<u64> = ids.difference(was).copied().collect();
            for id in new {
                if self.now.owners.get(&id) != Some(&by) {
                    // With two transactions at once: the other's.
                    continue;
                }
                was.insert(id);
                self.now.owners.remove(&id);
                let recorded = self.now.recorded.remove(&id);
                let attempt = self.now.claims.get(&id).copied().unwrap_or(1);
                let is_cancelled = self.now.cancelled.contains_key(&(id, attempt));
                if let Some(recorded) = recorded
                    && recorded.to != to
                    && !(is_cancelled && recorded.to == Destination::ToProcess)
                {
                    let says = recorded.to;
                    return Err(format!("task {id} is {to:?}, its record says {says:?}"));
                }
            }
        }
        Ok(())
    }

    fn given_back(&mut self, by: u32, ids: &Ids) -> Result<(), String> {
        self.check_not_cancelled(ids)?;
        for id in ids.iter().map(|id| id.0) {
            if self.now.owners.remove(&id) != Some(by) {
                return Err(format!("task {id}, given back, was not farmer {by}'s"));
            }
            match self.now.recorded.remove(&id) {
                Some(recorded) if recorded.to == Destination::ToProcess => self.again.push(id),
                Some(_) => return Err(format!("the recorded result of task {id} is lost")),
                None => {}
            }
        }
        Ok(())
    }

    /// Every task is in exactly one place.
    fn partition(&self, server: &Server) -> Result<(), String> {
        let Some(now) = &self.now.state else {
            return Ok(());
        };
        let tasks = Self::read(server, now, TASKS, None)?;
        let mut dropped = 0;
        for &id in &tasks.ids {
            let places = [
                self.now.queue.contains(&id).then_some(TOPROCESS),
                self.now.finished.contains(&id).then_some(FINISHED),
                self.now.failed.contains(&id).then_some(FAILED),
                self.now.owners.contains_key(&id).then_some("a claim"),
            ];
            let places: Vec<&str> = places.into_iter().flatten().collect();
            match places.len() {
                1 => {}
                0 if self.may_drop => dropped += 1,
                0 => return Err(format!("task {id} is nowhere")),
                _ => return Err(format!("task {id} is in {places:?}")),
            }
        }
        if self.now.quarantined.len() != index(u64::from(now.quarantined)) {
            return Err(format!(
                "{:?} are in quarantine, known: {}",
                self.now.quarantined, now.quarantined
            ));
        }
        if self.now.live.len() != index(u64::from(now.live)) {
            return Err(format!(
                "{} are alive, known: {}",
                self.now.live.len(),
                now.live
            ));
        }
        if dropped != now.dropped || now.claimed() != self.now.owners.len() as u64 {
            let (claimed, owned) = (now.claimed(), self.now.owners.len());
            return Err(format!(
                "{owned} are claimed, {dropped} dropped; known: {claimed} claimed, {} dropped",
                now.dropped
            ));
        }
        Ok(())
    }

    /// At the end, when a farmer has left in good order.
    pub(crate) fn finish(&self, server: &Server, tasks: u64) -> Result<(), String> {
        let now = self.now.state.as_ref().ok_or("there is no state")?;
        if !now.is_complete() {
            return Err(format!("the run did not complete: {now:?}"));
        }
        self.check_none_is_stuck()?;
        let (lines, added) = (&self.now.lines, &self.now.added);
        let of_list = lines.iter().filter(|(id, _)| !added.contains(id));
        let mut of_list: Vec<u64> = of_list.map(|(_, line)| *line).collect();
        of_list.sort_unstable();
        if of_list.iter().copied().ne(0..tasks) {
            return Err(format!(
                "the list has {tasks} lines, the run {of_list:?}, and {added:?} were added"
            ));
        }
        for (id, line) in &self.answered {
            if !added.contains(id) || lines.get(id) != Some(line) {
                return Err(format!("task {id}, line {line}, was added and is lost"));
            }
        }
        if now.dropped > 0 {
            return Err(format!("{} lines of the last list never ran", now.dropped));
        }
        for (name, known) in [
            (ORDERS, now.orders.len),
            (TOPROCESS, 0),
            (FINISHED, now.finished.len),
            (FAILED, now.failed.len),
            (REQUEUED, now.requeued.len),
            (TASKS, now.tasks.len),
        ] {
            let len = server.file(name).map_or(0, <[u8]>::len) as u64;
            // What was written of the first order of all may be there, and is not known.
            if len != known && (name, known) != (ORDERS, 0) {
                return Err(format!("at the end {name} has {len} bytes, not {known}"));
            }
        }
        Ok(())
    }
}

/// The numbers of the next attempts, by `requeued`.
fn attempts(requeued: &Shown) -> BTreeMap<u64, u32> {
    let lines = requeued.lines.iter();
    let notes = lines.filter_map(|line| {
        let text = std::str::from_utf8(line).ok()?;
        let (id, rest) = text.split_once(' ')?;
        let attempt = rest.split(' ').next()?.parse().ok()?;
        Some((id.parse().ok()?, attempt))
    });
    notes.collect()
}

/// What an act is called in the log; of an order, what is ordered.
fn word(act: &Act) -> String {
    let Act::Order { order, .. } = act else {
        let act = serde_json::to_value(act).unwrap_or_default();
        return act["did"].as_str().unwrap_or_default().to_owned();
    };
    format!("order to {order}")
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
