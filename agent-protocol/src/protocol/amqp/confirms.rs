//! Confirm mode (<https://www.rabbitmq.com/docs/confirms>): whether a channel is in it, and which publish a confirm is
//! of. A channel that was seen from its beginning is without it until confirm.select, after which publishes are counted
//! from 1. For the others see the module's "Joined in the middle".

use super::channel::Channel;
use super::confirm_mode::{Confirm, Confirms, Mode, Place};
use super::ledger::{Early, Ledger, Times};
use super::open::Open;
use super::ring::Ring;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;
use crate::record::amqp::Outcome;

/// How long a message may take to come back, in nanoseconds: so long a mandatory publish without confirm mode is
/// held, so that it can be reported as returned.
pub(super) const RETURN_PATIENCE: u64 = 1_000_000_000;

/// Publishes in confirm mode, and confirms, that are kept per channel until it is known which belong together.
const MAX_UNNUMBERED: usize = 4096;

impl Ledger {
    /// A publish is complete. Where its last byte was lost (`unseen`), it has no time without its confirm.
    pub(super) fn published(
        &mut self,
        number: u16,
        channel: &mut Channel,
        mut open: Open,
        unseen: bool,
        output: &mut dyn Output,
    ) {
        let complete = open.complete;
        let missed = open.start <= self.missed(channel, Flow::ToClient);
        if channel.confirms.mode == Mode::Off {
            if unseen || open.mandatory && missed {
                self.lose(open, Loss::UnpairedRequest, output);
            } else if open.mandatory {
                self.add(&mut channel.returnable, open, output);
            } else {
                channel.went_unanswered(open.operation);
                self.report_sent(number, open, complete, output);
            }
            return;
        }
        let unknown = channel.confirms.mode == Mode::Unknown;
        match channel.confirms.publish(complete, self.listens_since) {
            Place::Number(sequence, learned) => {
                if let Some(before) = learned {
                    self.number(number, channel, before, output);
                }
                channel.lost_publish |= missed || self.is_full();
                if missed {
                    return self.lose(open, Loss::UnpairedRequest, output);
                }
                open.tag = sequence;
                self.add(&mut channel.publishes, open, output);
            }
            Place::Seen(_) if unknown && unseen || missed && (!unknown || open.mandatory) => {
                self.lose(open, Loss::UnpairedRequest, output);
            }
            Place::Seen(nth) => {
                // A confirm that was missed may be its own: it can only be one without.
                open.tag = if missed { 0 } else { nth };
                if unknown && !missed {
                    channel.confirms.silent_since.get_or_insert(complete);
                }
                if !unknown && channel.unnumbered.len() >= MAX_UNNUMBERED {
                    self.lose_oldest(&mut channel.unnumbered, Loss::Evicted, output);
                }
                self.add(&mut channel.unnumbered, open, output);
            }
        }
    }

    /// It has become known that `before` publishes came before those that were seen: confirms find their publishes.
    /// All are confirmed by now.
    fn number(&mut self, number: u16, channel: &mut Channel, before: u64, output: &mut dyn Output) {
        let mut ring = Ring::default();
        while let Some(mut open) = channel.unnumbered.pop() {
            open.tag += before;
            ring.push(open);
        }
        for confirm in std::mem::take(&mut channel.confirms.log) {
            let any = self.confirm_in(number, &mut ring, &confirm, output);
            if !any && !confirm.paired {
                output.lost(Loss::UnpairedResponse, 1);
            }
        }
        self.lose_all(&mut ring, Loss::UnpairedRequest, output);
    }

    /// Ends what a confirm is of. Returns whether there is any.
    fn confirm_in(
        &mut self,
        number: u16,
        ring: &mut Ring,
        confirm: &Confirm,
        output: &mut dyn Output,
    ) -> bool {
        let error = (confirm.outcome == Outcome::Nack).then_some("nack");
        // RabbitMQ does not send tag 0; it would mean all, as for deliveries.
        let until = if confirm.tag == 0 { u64::MAX } else { confirm.tag };
        let mut any = false;
        loop {
            let open = match confirm.multiple {
                true => ring.take_until(until),
                false if any => None,
                false => ring.take(confirm.tag),
            };
            let Some(open) = self.took(open) else { return any };
            any = true;
            self.report(number, open, confirm.time, error, Some(confirm.outcome), output);
        }
    }

    /// The broker confirms publishes.
    #[expect(clippy::too_many_arguments, reason = "what a confirm consists of")]
    pub(super) fn confirm(
        &mut self,
        number: u16,
        channel: &mut Channel,
        (tag, multiple): (u64, bool),
        times: Times,
        outcome: Outcome,
        may_come: Result<(), Early>,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        let early = channel.confirms.next.is_some_and(|next| tag >= next);
        if early || (channel.known && channel.confirms.mode != Mode::On) {
            may_come?;
            self.lose_all(&mut channel.publishes, Loss::UnpairedRequest, output);
            self.lose_publishes(channel, output);
        }
        if channel.confirms.mode != Mode::On {
            // Since before what is held was published, or that would have been seen.
            (channel.confirms.mode, channel.confirms.silent_since) = (Mode::On, None);
            let unplaced = |open: &Open| open.tag == 0;
            while let Some(open) = self.took(channel.unnumbered.take_where(unplaced)) {
                self.lose(open, Loss::UnpairedRequest, output);
            }
        }
        let mut confirm = Confirm {
            tag,
            multiple,
            time: times.end,
            outcome,
            paired: false,
        };
        confirm.paired = self.confirm_in(number, &mut channel.publishes, &confirm, output);
        if channel.confirms.next.is_some() {
            if !confirm.paired {
                output.lost(Loss::UnpairedResponse, 1);
            }
            return Ok(());
        }
        channel.confirms.confirmed(tag, times.end);
        if channel.confirms.log.len() >= MAX_UNNUMBERED
            && let Some(oldest) = channel.confirms.log.pop_front()
            && !oldest.paired
        {
            output.lost(Loss::UnpairedResponse, 1);
        }
        channel.confirms.log.push_back(confirm);
        Ok(())
    }

    /// confirm.select was sent, or answered. Where the mode was not known, it is not known either what the publishes
    /// before were.
    pub(super) fn select_confirms(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        let was = channel.confirms.mode;
        if was != Mode::On {
            self.lose_all(&mut channel.unnumbered, Loss::UnpairedRequest, output);
            channel.confirms = Confirms::new(Mode::On);
            channel.confirms.next = (was == Mode::Off).then_some(1);
        }
    }

    /// It is known that a channel is without confirm mode.
    pub(super) fn without_confirms(&mut self, number: u16, channel: &mut Channel, output: &mut dyn Output) {
        channel.confirms = Confirms::new(Mode::Off);
        while let Some(open) = channel.unnumbered.pop() {
            if open.mandatory {
                channel.returnable.push(open);
            } else if let Some(open) = self.took(Some(open)) {
                let complete = open.complete;
                self.report_sent(number, open, complete, output);
            }
        }
    }

    /// Publishes that nothing was heard of for long enough, at `now`. Returns when to look again.
    pub(super) fn silence(
        &mut self,
        number: u16,
        channel: &mut Channel,
        now: u64,
        output: &mut dyn Output,
    ) -> Option<u64> {
        let since = self.listens_since;
        let mut again = None;
        if channel.confirms.mode == Mode::Unknown {
            match channel.confirms.silent_until(since) {
                Some(until) if now >= until => self.without_confirms(number, channel, output),
                until => again = until,
            }
        }
        while let Some(open) = channel.returnable.front() {
            let due = open.complete.max(since).saturating_add(RETURN_PATIENCE);
            if now < due {
                return Some(again.map_or(due, |again| again.min(due)));
            }
            self.sent_until(number, channel, open.complete, output);
        }
        again
    }

    /// The broker is done with all that was published until `time`: what is not back by now does not come back.
    pub(super) fn sent_until(
        &mut self,
        number: u16,
        channel: &mut Channel,
        time: u64,
        output: &mut dyn Output,
    ) {
        while channel
            .returnable
            .front()
            .is_some_and(|open| open.complete <= time)
        {
            if let Some(open) = self.took(channel.returnable.pop()) {
                let complete = open.complete;
                self.report_sent(number, open, complete, output);
            }
        }
    }

    /// Publishes may have been lost.
    pub(super) fn lose_publishes(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        let was_off = channel.confirms.was_off || channel.confirms.mode == Mode::Off;
        self.lose_numbers(channel, output);
        let mode = match channel.confirms.mode {
            Mode::On => Mode::On,
            Mode::Off | Mode::Unknown => Mode::Unknown,
        };
        channel.confirms = Confirms::new(mode);
        channel.confirms.was_off = was_off;
    }

    /// Confirms may have been lost.
    pub(super) fn lose_confirms(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        if channel.confirms.next.is_none() {
            let was_off = channel.confirms.was_off;
            self.lose_numbers(channel, output);
            channel.confirms = Confirms::new(channel.confirms.mode);
            channel.confirms.was_off = was_off;
        }
    }

    /// Which publish is the how many'th is not known any more.
    fn lose_numbers(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        if channel.confirms.mode == Mode::On {
            self.lose_all(&mut channel.unnumbered, Loss::UnpairedRequest, output);
        }
        channel.unnumbered.iter_mut().for_each(|open| open.tag = 0);
        self.lose_log(channel, output);
    }

    /// Confirms that wait for the numbers wait in vain.
    pub(super) fn lose_log(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        let unpaired = channel.confirms.log.drain(..).filter(|confirm| !confirm.paired);
        match unpaired.count() {
            0 => {}
            n => output.lost(Loss::UnpairedResponse, n as u64),
        }
    }
}
