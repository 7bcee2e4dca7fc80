//! Settlements of deliveries: basic.ack, nack, reject and recover of the consumer.
//!
//! Whether a consumer from before the observation began acknowledges is not known, and one that does not leaves its
//! deliveries without a settlement. That it does is proved by a settlement that names the tag of one of its deliveries:
//! the broker would take no other (`PRECONDITION_FAILED`, unknown delivery tag). One with `multiple`, or a
//! basic.recover, that merely covers a tag proves nothing, and is kept until something does.

use super::channel::{Channel, Settlement};
use super::ledger::{Early, Ledger};
use super::open::{Field, Open};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;
use crate::record::amqp::Outcome;

/// Deliveries per channel that are settled if their consumer acknowledges.
const MAX_UNPROVED: usize = 1024;

impl Ledger {
    /// The consumer settles the delivery of a tag or, with `multiple`, all up to it; 0 means all there are.
    pub(super) fn settle(
        &mut self,
        number: u16,
        channel: &mut Channel,
        (tag, multiple): (u64, bool),
        settlement: Settlement,
        may_come: Result<(), Early>,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        // Tags ascend: up to the last one, none is still to come but that of the message on its way.
        let last = channel
            .content_tag()
            .map(|tag| tag.saturating_sub(1))
            .or(channel.last_tag);
        let to_come = tag == 0 || last.is_none_or(|last| tag > last);
        if to_come {
            may_come?;
        }
        if channel
            .closing
            .is_some_and(|closing| closing.by_server && settlement.time > closing.at)
        {
            // The broker does not listen any more.
            self.unmatched(channel, Flow::ToServer, settlement.time, may_come);
            return Ok(());
        }
        if to_come {
            channel.miss(Flow::ToServer, settlement.time);
        }
        let mut any = false;
        if let Some(open) = self.took(channel.deliveries.take(tag)) {
            any = true;
            if open.no_ack.is_none()
                && let Some(consumer) = open.get(Field::ConsumerTag)
            {
                self.resolve(number, channel, consumer, false, 0, output);
                if channel.consumer(consumer.as_bytes()).is_none() {
                    self.add_consumer(channel, consumer.as_bytes(), None, false, output);
                }
            }
            self.settled(number, open, settlement, output);
        }
        if multiple {
            let until = if tag == 0 { u64::MAX } else { tag };
            any |= self.settle_until(number, channel, (until, u64::MAX), settlement, output);
        }
        if !any {
            self.unmatched(channel, Flow::ToServer, settlement.time, may_come);
            output.lost(Loss::UnpairedResponse, 1);
        }
        Ok(())
    }

    /// basic.recover: all that is not acknowledged, of what was `complete` by then, goes back to its queue.
    pub(super) fn recover(
        &mut self,
        number: u16,
        channel: &mut Channel,
        complete: u64,
        time: u64,
        output: &mut dyn Output,
    ) {
        let settlement = Settlement {
            outcome: Outcome::Requeue,
            error: None,
            time,
        };
        self.settle_until(number, channel, (u64::MAX, complete), settlement, output);
    }

    /// All deliveries up to a tag that were complete by a time are settled. Returns whether there are any.
    fn settle_until(
        &mut self,
        number: u16,
        channel: &mut Channel,
        (tag, complete): (u64, u64),
        settlement: Settlement,
        output: &mut dyn Output,
    ) -> bool {
        let mut any = false;
        while channel
            .deliveries
            .front()
            .is_some_and(|open| open.complete <= complete)
            && let Some(open) = self.took(channel.deliveries.take_until(tag))
        {
            any = true;
            if open.no_ack.is_some() {
                self.settled(number, open, settlement, output);
                continue;
            }
            if channel.unproved.len() >= MAX_UNPROVED
                && let Some((oldest, _)) = channel.unproved.pop_front()
            {
                self.lose(oldest, Loss::UnpairedRequest, output);
            }
            channel.unproved.push_back((open, settlement));
        }
        any
    }

    fn settled(&mut self, number: u16, open: Open, settlement: Settlement, output: &mut dyn Output) {
        let Settlement { outcome, error, time } = settlement;
        self.report(number, open, time, error, Some(outcome), output);
    }

    /// It has become known whether the consumer of this tag acknowledges, as which it was known to nobody `since` then.
    pub(super) fn resolve(
        &mut self,
        number: u16,
        channel: &mut Channel,
        consumer: &str,
        no_ack: bool,
        since: u64,
        output: &mut dyn Output,
    ) {
        let its = |open: &Open| {
            open.no_ack.is_none() && open.start >= since && open.get(Field::ConsumerTag) == Some(consumer)
        };
        if no_ack {
            while let Some(open) = self.took(channel.deliveries.take_where(its)) {
                self.report_automatic(number, open, output);
            }
        } else {
            for open in channel.deliveries.iter_mut().filter(|open| its(open)) {
                open.no_ack = Some(false);
            }
        }
        for _ in 0..channel.unproved.len() {
            match channel.unproved.pop_front() {
                Some((open, _)) if its(&open) && no_ack => self.report_automatic(number, open, output),
                Some((open, settlement)) if its(&open) => self.settled(number, open, settlement, output),
                other => channel.unproved.extend(other),
            }
        }
    }

    /// What the consumer sent may have been lost: a consumer may not be the one of its tag that it was before.
    pub(super) fn doubt_consumers(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        while let Some(open) = self.took(channel.deliveries.take_where(|open| open.no_ack.is_none())) {
            self.lose(open, Loss::UnpairedRequest, output);
        }
        for (open, _) in channel.unproved.drain(..) {
            self.lose(open, Loss::UnpairedRequest, output);
        }
        // Where the broker answers, its answer tells.
        if self.consumes_unanswered {
            self.forget_consumers(channel);
        }
    }

    /// A delivery that is settled by being sent.
    pub(super) fn report_automatic(&mut self, number: u16, mut open: Open, output: &mut dyn Output) {
        if open.doubtful {
            // When its last byte came is not known.
            return self.lose(open, Loss::UnpairedRequest, output);
        }
        open.start = open.complete;
        let end = open.complete;
        self.report(number, open, end, None, Some(Outcome::Auto), output);
    }
}
