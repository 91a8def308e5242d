//! Whether the run is complete for this farmer; asked when it has no task.

use std::time::{Duration, Instant};

use super::Ledger;
use crate::farm::message::Event;
use crate::farm::supervisor::why;
use crate::model::farmer::Cause;
use crate::model::polling::{follow_every, look_every};
use crate::workdir::error::Result;
use crate::workdir::liveness::Waiting;
use crate::workdir::membership;
use crate::workdir::state::State;

impl Ledger {
    /// Without tasks: whether the run is complete for us.
    pub(super) fn check_complete(&mut self) -> Result<()> {
        let is_feeding = self
            .session
            .feed()
            .is_some_and(|feed| feed.is_open() || feed.waiting() > 0);
        if !self.view().wants_look() || is_feeding {
            self.times.busy = Instant::now();
            return Ok(());
        }
        if self.times.read.elapsed() >= self.look_every() {
            self.times.read = Instant::now();
            self.session.refresh_state()?;
            self.show();
        }
        let (state, placement) = (self.state(), &self.placement);
        let may_be_released = state.pending() > 0 && state.claimed() > 0;
        if may_be_released || self.left_for_us() > 0 || placement.has_work(state) {
            return Ok(());
        }
        let is_clean = !self.are_held() && self.reports.is_empty() && !self.session.has_pending();
        if is_clean
            && (self.is_stream_cut() || !self.is_following() && !self.has_reason_to_stay()?)
        {
            self.leave_if_none_waits()?;
        }
        Ok(())
    }

    /// Whether to stay although nothing is left to do, since tasks may be added.
    fn is_following(&mut self) -> bool {
        let state = self.session.state();
        let extent = (state.tasks.lines, state.finished.lines + state.failed.lines);
        let is_over = state.is_complete();
        // Others may have run a short one between two looks.
        self.times.over = self
            .times
            .over
            .filter(|(_, known)| is_over && *known == extent);
        let Some(limit) = self.follow else {
            return false;
        };
        let since = match self.times.over {
            Some((since, _)) => since,
            None if !is_over => return true,
            None => {
                self.shared.send(Event::Waiting);
                Instant::now()
            }
        };
        self.times.over = Some((since, extent));
        since.elapsed() < limit
    }

    /// Leaves, unless tasks were added since we looked.
    fn leave_if_none_waits(&mut self) -> Result<()> {
        let last = self.leave_record(why(Cause::Complete));
        self.left = {
            let has_work = |state: &State| self.placement.has_work(state);
            self.session
                .leave_if_none_waits(&last, has_work, &mut self.waiter)?
        };
        self.show();
        if self.left.is_some() {
            self.shared.send(Event::Complete);
        }
        Ok(())
    }

    pub(super) fn look_every(&self) -> Duration {
        let every = if self.follow.is_some() {
            follow_every
        } else {
            look_every
        };
        every(self.times.busy.elapsed(), self.state().live)
    }

    /// Whether our stream ended early: others that wait for its rest wait for us.
    pub(super) fn is_stream_cut(&mut self) -> bool {
        self.session
            .feed()
            .is_some_and(|feed| !feed.is_open() && !feed.is_whole())
    }

    /// Whether to stay while others still run tasks: one of our job may die.
    pub(super) fn has_reason_to_stay(&mut self) -> Result<bool> {
        let state = self.state();
        if !self.linger || state.live < 2 || state.is_complete() {
            return Ok(false);
        }
        let live = state.live as usize;
        let workdir = self.session.workdir().clone();
        let me = self.session.farmer().to_owned();
        let all = membership::present(&workdir.dir)?;
        if live > all.len() {
            // A farmer that comes later cannot detect the death of one without journal.
            return Ok(true);
        }
        // From ours on: a thousand that become idle together do not all check the same one.
        let after = all.partition_point(|name| *name <= me);
        for farmer in all[after..].iter().chain(&all[..after]) {
            // The farmers of another job watch each other. One whose heartbeat was not seen
            // may have died a moment before we joined.
            if *farmer != me
                && (!self.neighbours.have_seen_alive(farmer) || self.is_of_our_job(farmer)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn is_of_our_job(&mut self, farmer: &str) -> Result<bool> {
        let dir = &self.session.workdir().dir;
        let Some(watcher) = self.waiter.watcher() else {
            return Ok(false);
        };
        let id = watcher.id_of(dir, farmer)?;
        Ok(id.is_some_and(|id| id.job == self.job))
    }
}
