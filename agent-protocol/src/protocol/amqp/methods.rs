//! What the methods of a channel do, by who sent them.

use super::channel::{ContentKind, Settlement};
use super::confirm_mode::Mode;
use super::frames::Method;
use super::ledger::{Early, Times};
use super::matcher::Amqp;
use super::open::{Field, Open};
use super::ring::Ring;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;
use crate::record::amqp::{Operation, Outcome};

impl Amqp {
    pub(super) fn client_sent(
        &mut self,
        number: u16,
        method: Method<'_>,
        times: Times,
        waited: bool,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        let may_come = self.may_come(Flow::ToServer, waited, times.end);
        let Some((channel, ledger)) = self.channel(number, output) else {
            return Ok(());
        };
        match method {
            Method::Publish {
                exchange,
                routing_key,
                mandatory,
            } => {
                let mut open = Open::new(Operation::Publish, times.start, ledger.text());
                open.set(Field::Exchange, Some(exchange));
                open.set(Field::RoutingKey, Some(routing_key));
                open.mandatory = mandatory;
                ledger.begin(channel, Flow::ToServer, open, ContentKind::Publish, output);
            }
            Method::Ack { tag, multiple } => {
                let settlement = Settlement {
                    outcome: Outcome::Ack,
                    error: None,
                    time: times.end,
                };
                ledger.settle(number, channel, (tag, multiple), settlement, may_come, output)?;
            }
            Method::Nack {
                tag,
                multiple,
                requeue,
            } => {
                let settlement = Settlement {
                    outcome: if requeue { Outcome::Requeue } else { Outcome::Nack },
                    error: Some("nack"),
                    time: times.end,
                };
                ledger.settle(number, channel, (tag, multiple), settlement, may_come, output)?;
            }
            Method::Reject { tag, requeue } => {
                let settlement = Settlement {
                    outcome: if requeue {
                        Outcome::Requeue
                    } else {
                        Outcome::Reject
                    },
                    error: Some("reject"),
                    time: times.end,
                };
                ledger.settle(number, channel, (tag, false), settlement, may_come, output)?;
            }
            Method::Request(operation, arguments) => {
                let mut open = Open::new(operation, times.start, ledger.text());
                open.complete = times.end;
                open.set(Field::Exchange, arguments.exchange);
                open.set(Field::RoutingKey, arguments.routing_key);
                let last = channel.last_queue.as_deref().map(str::as_bytes);
                let named = arguments.queue.filter(|queue| !queue.is_empty());
                let declares = operation == Operation::QueueDeclare;
                let queue = match arguments.queue {
                    Some(_) if declares => named,
                    Some(_) => named.or(last),
                    None => None,
                };
                open.set(Field::Queue, queue);
                open.set(
                    Field::ConsumerTag,
                    arguments.consumer_tag.filter(|tag| !tag.is_empty()),
                );
                open.no_ack = Some(arguments.no_ack);
                open.temporary = arguments.temporary;
                match operation {
                    Operation::QueueDeclare => {
                        channel.last_queue = named
                            .and_then(|name| std::str::from_utf8(name).ok())
                            .map(Into::into);
                    }
                    Operation::BasicConsume => {
                        if let Some(tag) = arguments.consumer_tag.filter(|tag| !tag.is_empty()) {
                            let queue = open.get(Field::Queue);
                            ledger.add_consumer(channel, tag, queue, arguments.no_ack, output);
                        }
                    }
                    Operation::BasicCancel => {
                        let consumer = arguments.consumer_tag.and_then(|tag| channel.consumer(tag));
                        let queue = consumer.and_then(|consumer| consumer.queue.as_deref());
                        let tag = arguments.consumer_tag;
                        open.set(Field::Queue, queue.map(str::as_bytes));
                        open.set(Field::ConsumerTag, tag);
                        if let (true, Some(tag)) = (arguments.no_wait, tag) {
                            ledger.forget_consumer(channel, tag);
                        }
                    }
                    Operation::BasicRecover if arguments.requeue => {
                        // All that is not acknowledged goes back to its queue.
                        may_come?;
                        ledger.recover(number, channel, times.end, times.end, output);
                    }
                    Operation::ConfirmSelect => ledger.select_confirms(channel, output),
                    _ => {}
                }
                if arguments.no_wait {
                    ledger.declared(&open, output);
                    ledger.consumes_unanswered |=
                        matches!(operation, Operation::BasicConsume | Operation::BasicCancel);
                    channel.went_unanswered(operation);
                    ledger.report_sent(number, open, times.end, output);
                } else if times.start <= ledger.missed(channel, Flow::ToClient) {
                    ledger.doubt(channel, output);
                    ledger.lose(open, Loss::UnpairedRequest, output);
                } else {
                    channel.asked();
                    open.doubtful = channel.doubt > 0;
                    open.requeue = arguments.requeue;
                    channel.pipelined |= channel.requests.len() > 0;
                    ledger.add(&mut channel.requests, open, output);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn server_sent(
        &mut self,
        number: u16,
        method: Method<'_>,
        times: Times,
        waited: bool,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        let may_come = self.may_come(Flow::ToClient, waited, times.end);
        let abreast = self.is_abreast(times.end);
        if !self.channels.contains_key(&number) {
            self.may_come(Flow::ToClient, waited, times.end)?;
        }
        let Some((channel, ledger)) = self.channel(number, output) else {
            return Ok(());
        };
        match method {
            Method::Reply(operation, name) => {
                match operation {
                    // What asked for it was lost: what was published before is in confirm mode, or not.
                    Operation::ConfirmSelect if channel.confirms.mode == Mode::Unknown => {
                        ledger.select_confirms(channel, output);
                    }
                    // A channel is in confirm mode or transactional, never both.
                    Operation::TxSelect | Operation::TxCommit | Operation::TxRollback
                        if channel.confirms.mode == Mode::Unknown && abreast =>
                    {
                        ledger.without_confirms(number, channel, output);
                    }
                    _ => {}
                }
                let Some(mut open) = ledger.answer(channel, operation, name, times, may_come, output)? else {
                    match operation {
                        // A consumer whose request was not seen; one of its name is not it.
                        Operation::BasicConsume => ledger.forget_consumer(channel, name.unwrap_or_default()),
                        Operation::BasicRecover => {
                            ledger.lose_all(&mut channel.deliveries, Loss::UnpairedRequest, output);
                        }
                        _ => {}
                    }
                    return Ok(());
                };
                match operation {
                    Operation::QueueDeclare => {
                        let server_named = open.get(Field::Queue).is_none();
                        open.set(Field::Queue, name);
                        if !open.doubtful {
                            ledger.declared(&open, output);
                        }
                        let later = channel.requests.iter().any(|open| open.operation == operation);
                        if server_named && !open.doubtful && !later {
                            channel.last_queue = open.get(Field::Queue).map(Into::into);
                        }
                    }
                    Operation::BasicConsume => {
                        open.set(Field::ConsumerTag, name);
                        if !open.doubtful {
                            let (tag, no_ack) = (name.unwrap_or_default(), open.no_ack == Some(true));
                            ledger.add_consumer(channel, tag, open.get(Field::Queue), no_ack, output);
                        }
                    }
                    Operation::BasicCancel => ledger.forget_consumer(channel, name.unwrap_or_default()),
                    Operation::QueueDelete => ledger.deleted(&open),
                    // What crossed the request on its way went back, too.
                    Operation::BasicRecover if open.doubtful => {
                        ledger.lose_all(&mut channel.deliveries, Loss::UnpairedRequest, output);
                    }
                    Operation::BasicRecover if open.requeue => {
                        ledger.recover(number, channel, open.complete, open.complete, output);
                        ledger.recover(number, channel, u64::MAX, times.end, output);
                    }
                    _ => {}
                }
                ledger.answered(number, channel, open, times.end, None, output);
            }
            Method::GetEmpty => {
                if let Some(open) = ledger.answer(channel, Operation::Get, None, times, may_come, output)? {
                    ledger.answered(number, channel, open, times.end, Some(0), output);
                }
            }
            Method::GetOk {
                tag,
                redelivered,
                exchange,
                routing_key,
            } => {
                // The request leaves when the message is complete.
                let request = channel
                    .requests
                    .iter()
                    .find(|open| open.operation == Operation::Get && open.start <= times.start);
                if request.is_none() && channel.known {
                    may_come?;
                }
                let mut open = Open::new(Operation::Deliver, times.start, ledger.text());
                open.no_ack = None;
                open.set(Field::Exchange, Some(exchange));
                open.set(Field::RoutingKey, Some(routing_key));
                if let Some(request) = request.filter(|request| !request.doubtful) {
                    open.set(Field::Queue, request.get(Field::Queue).map(str::as_bytes));
                    open.no_ack = request.no_ack;
                }
                open.tag = tag;
                open.redelivered = Some(redelivered);
                channel.last_tag = Some(tag);
                ledger.begin(channel, Flow::ToClient, open, ContentKind::Got, output);
            }
            Method::Deliver {
                consumer_tag,
                tag,
                redelivered,
                exchange,
                routing_key,
            } => {
                let consumer = channel.consumer(consumer_tag);
                if consumer.is_none() && channel.known {
                    may_come?;
                }
                let mut open = Open::new(Operation::Deliver, times.start, ledger.text());
                open.set(Field::Exchange, Some(exchange));
                open.set(Field::RoutingKey, Some(routing_key));
                open.set(
                    Field::Queue,
                    consumer
                        .and_then(|consumer| consumer.queue.as_deref())
                        .map(str::as_bytes),
                );
                open.set(Field::ConsumerTag, Some(consumer_tag));
                open.no_ack = consumer.map(|consumer| consumer.no_ack);
                open.tag = tag;
                open.redelivered = Some(redelivered);
                channel.last_tag = Some(tag);
                ledger.begin(channel, Flow::ToClient, open, ContentKind::Deliver, output);
            }
            Method::Return {
                code,
                exchange,
                routing_key,
            } => {
                let rings = [&channel.publishes, &channel.unnumbered, &channel.returnable];
                if !rings
                    .into_iter()
                    .flat_map(Ring::iter)
                    .any(|open| open.may_be(exchange, routing_key))
                {
                    may_come?;
                }
                let mut open = Open::new(Operation::Publish, times.start, ledger.text());
                open.set(Field::Exchange, Some(exchange));
                open.set(Field::RoutingKey, Some(routing_key));
                ledger.begin(channel, Flow::ToClient, open, ContentKind::Return(code), output);
            }
            Method::Ack { tag, multiple } => {
                ledger.confirm(
                    number,
                    channel,
                    (tag, multiple),
                    times,
                    Outcome::Ack,
                    may_come,
                    output,
                )?;
            }
            Method::Nack { tag, multiple, .. } => {
                ledger.confirm(
                    number,
                    channel,
                    (tag, multiple),
                    times,
                    Outcome::Nack,
                    may_come,
                    output,
                )?;
            }
            Method::Cancelled { consumer_tag } => ledger.forget_consumer(channel, consumer_tag),
            _ => {}
        }
        Ok(())
    }
}
