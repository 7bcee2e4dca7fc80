//! After a loss, and on a connection joined in the middle: where frames begin, and what is still known.

use super::channel::Channel;
use super::frames::{self, Chain};
use super::matcher::Amqp;
use super::open::Open;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::{Flow, Input};

impl Amqp {
    /// Finds a place where frames begin. `Err` is how many bytes are none, for now.
    pub(super) fn resync(&mut self, flow: Flow, input: &Input<'_>) -> Result<usize, usize> {
        let mut at = 0;
        loop {
            if input.chunk_starts_at(at) {
                match frames::chain(&input.bytes[at..], self.frame_max) {
                    Chain::Maybe => return Err(at),
                    Chain::Yes(found) if found == flow => return Ok(at),
                    Chain::Either => return Ok(at),
                    _ => {}
                }
            }
            match input.next_chunk(at + 1) {
                Some(next) => at = next,
                None => return Err(input.bytes.len()),
            }
        }
    }

    /// Frames of `flow` are known again, from `input` on.
    pub(super) fn resynced(&mut self, flow: Flow, time: u64, output: &mut dyn Output) {
        let other = &self.sides[flow.opposite() as usize];
        let other_lost = other.lost;
        let other_missed = self.ledger.missed_of_all(flow.opposite());
        let side = &mut self.sides[flow as usize];
        side.lost = false;
        if side.gap {
            self.ledger.miss(flow, time);
        }
        let missed = self.ledger.missed_of_all(flow);
        let overlap = side.gap && (other_lost || (other_missed > 0 && other_missed >= side.gap_begin));
        let gap = std::mem::take(&mut side.gap);
        let ledger = &mut self.ledger;
        if overlap {
            // A channel may have been closed and opened anew.
            for channel in self.channels.values_mut() {
                ledger.forget(channel, Loss::UnpairedRequest, output);
                let opened = channel.opened;
                *channel = Channel::new(false);
                channel.opened = opened;
            }
            for flow in [Flow::ToServer, Flow::ToClient] {
                ledger.miss(flow, self.sides[flow as usize].last);
            }
            return;
        }
        for channel in self.channels.values_mut() {
            match flow {
                Flow::ToServer => {
                    ledger.lose_until(&mut channel.deliveries, missed, output);
                }
                Flow::ToClient => {
                    if ledger.lose_until(&mut channel.requests, missed, output) {
                        ledger.doubt(channel, output);
                    }
                    ledger.lose_until(&mut channel.publishes, missed, output);
                    // They may have been returned before the broker was heard.
                    let unheard = missed.max(time);
                    ledger.lose_until(&mut channel.returnable, unheard, output);
                    let returnable = |open: &Open| open.mandatory && open.start <= unheard;
                    while let Some(open) = ledger.took(channel.unnumbered.take_where(returnable)) {
                        ledger.lose(open, Loss::UnpairedRequest, output);
                    }
                    if gap
                        || channel
                            .unnumbered
                            .front()
                            .is_some_and(|open| open.start <= unheard)
                    {
                        ledger.lose_confirms(channel, output);
                    }
                }
            }
        }
    }

    /// Bytes of `flow` are missing.
    pub(super) fn lose_track(&mut self, flow: Flow, output: &mut dyn Output) {
        let side = &mut self.sides[flow as usize];
        if !side.gap {
            (side.gap, side.gap_begin) = (true, side.last);
        }
        (side.lost, side.body) = (true, None);
        let ledger = &mut self.ledger;
        for channel in self.channels.values_mut() {
            channel.known = false;
            if let Some(content) = channel.content[flow as usize].take() {
                ledger.lose(content.open, Loss::UnpairedRequest, output);
            }
            match flow {
                Flow::ToServer => {
                    ledger.lose_publishes(channel, output);
                    ledger.doubt(channel, output);
                    ledger.doubt_consumers(channel, output);
                    channel.last_queue = None;
                }
                Flow::ToClient => {
                    ledger.lose_confirms(channel, output);
                    if channel.doubt > 0 {
                        ledger.doubt(channel, output);
                    }
                }
            }
        }
        if flow == Flow::ToClient && ledger.listens_since == u64::MAX {
            ledger.listens_since = self.sides[flow as usize].last;
        }
    }
}
