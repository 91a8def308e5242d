//! What the ledger does about orders: it holds the queue of a paused run, gives back claimed
//! tasks that were cancelled, and passes the orders to leave or to end tasks, and the limit of
//! failures, on to the supervisor.

use super::Ledger;
use crate::farm::message::Event;
use crate::model::escape::{clip, escape};
use crate::model::task::Task;
use crate::workdir::error::Result;
use crate::workdir::orders::{Cancel, Order};
use crate::workdir::transaction::RequeueReason;

/// How much of an order that is not known is shown.
const SHOWN: usize = 60;

impl Ledger {
    /// Obeys what is new in the state as we read it last.
    pub(super) fn obey(&mut self) -> Result<()> {
        let is_paused = self.state().paused;
        if std::mem::replace(&mut self.is_paused, is_paused) != is_paused {
            self.shared.queue.pause_run(is_paused);
            self.shared.send(Event::Paused(is_paused));
        }
        let state = self.state();
        let all = state.tasks.lines.saturating_sub(state.dropped);
        let failed = state.failed_in_run();
        if self
            .max_fail
            .take_if(|limit| limit.is_reached(failed, all))
            .is_some()
        {
            self.shared.send(Event::TooManyFailed(failed));
        }
        for order in self.session.new_orders()? {
            match order {
                Order::Close => self.follow = None,
                Order::Stop => self.shared.send(Event::Stop),
                Order::Drain { node } if node.as_ref().is_none_or(|node| *node == self.node) => {
                    self.shared.send(Event::Drain);
                }
                Order::Cancel(cancel) => self.cancel(cancel),
                Order::Unknown(order) => self.shared.warn(format!(
                    "an order of a later pytf is not obeyed here: {}",
                    clip(&escape(order.as_bytes()), SHOWN)
                )),
                // Whether it is paused, the state has.
                Order::Pause { stop } => self.shared.send(Event::StopTasks(stop)),
                Order::Resume => self.shared.send(Event::StopTasks(false)),
                Order::Drain { .. } | Order::Add { .. } => {}
            }
        }
        Ok(())
    }

    /// From now on none of these starts; the next turn settles those that have not started.
    fn cancel(&mut self, cancel: Cancel) {
        let cancelled = &self.shared.cancelled;
        // Once they are marked, the supervisor may end them before it knows of the order.
        let running = self.shared.running_of(&cancel);
        cancelled.add(cancel.attempt, &cancel.ids);
        let is_cancelled = |task: &Task| cancelled.contains(task.id, task.attempt);
        for task in self.shared.queue.take_out(is_cancelled) {
            self.session.give_back(task, None);
        }
        for task in self.backoff.take_out(is_cancelled) {
            self.session.give_back(task, Some(RequeueReason::Again));
        }
        self.shared.send(Event::Cancel { cancel, running });
    }
}
