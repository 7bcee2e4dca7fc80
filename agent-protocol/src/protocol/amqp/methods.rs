//! What the methods of a channel do, by who sent them.

use super::channel::{CONFIRMATIONS, ContentKind, Field, Mode, Open};
use super::frames::Method;
use super::ledger::{Early, Times};
use super::matcher::Amqp;
use super::record::{Operation, Outcome};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;

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
                ledger.settle(
                    number,
                    channel,
                    (tag, multiple),
                    times,
                    Outcome::Ack,
                    None,
                    may_come,
                    output,
                )?;
            }
            Method::Nack {
                tag,
                multiple,
                requeue,
            } => {
                let outcome = if requeue { Outcome::Requeue } else { Outcome::Nack };
                ledger.settle(
                    number,
                    channel,
                    (tag, multiple),
                    times,
                    outcome,
                    Some("nack"),
                    may_come,
                    output,
                )?;
            }
            Method::Reject { tag, requeue } => {
                let outcome = if requeue {
                    Outcome::Requeue
                } else {
                    Outcome::Reject
                };
                ledger.settle(
                    number,
                    channel,
                    (tag, false),
                    times,
                    outcome,
                    Some("reject"),
                    may_come,
                    output,
                )?;
            }
            Method::Request(operation, arguments) => {
                let mut open = Open::new(operation, times.start, ledger.text());
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
                match operation {
                    Operation::QueueDeclare => {
                        channel.last_queue = named
                            .and_then(|name| std::str::from_utf8(name).ok())
                            .map(Into::into);
                    }
                    Operation::BasicConsume => {
                        if let Some(tag) = arguments.consumer_tag.filter(|tag| !tag.is_empty())
                            && !channel.add_consumer(tag, open.get(Field::Queue), arguments.no_ack)
                        {
                            output.lost(Loss::Evicted, 1);
                        }
                    }
                    Operation::BasicCancel => {
                        let consumer = arguments.consumer_tag.and_then(|tag| channel.consumer(tag));
                        let queue = consumer.and_then(|consumer| consumer.queue.as_deref());
                        let tag = arguments.consumer_tag;
                        open.set(Field::Queue, queue.map(str::as_bytes));
                        open.set(Field::ConsumerTag, tag);
                        if let (true, Some(tag)) = (arguments.no_wait, tag) {
                            channel.forget_consumer(tag);
                        }
                    }
                    Operation::BasicRecover => {
                        // All that is not acknowledged goes back to its queue.
                        while let Some(open) = ledger.took(channel.deliveries.pop()) {
                            ledger.report(number, open, times.end, None, Some(Outcome::Requeue), output);
                        }
                    }
                    Operation::ConfirmSelect if channel.confirms.mode != Mode::On => {
                        ledger.settle_held(number, &mut channel.publishes, output);
                        channel.confirms.select();
                    }
                    // A channel is in confirm mode or transactional, never both.
                    Operation::TxSelect if channel.confirms.mode == Mode::Unknown => {
                        channel.confirms.mode = Mode::Off;
                        channel
                            .publishes
                            .iter_mut()
                            .for_each(|open| open.doubtful = false);
                    }
                    _ => {}
                }
                if arguments.no_wait {
                    channel.unanswered |= 1 << operation as u32;
                    ledger.report_sent(number, open, times.end, output);
                } else if times.start <= ledger.missed(Flow::ToClient) {
                    channel.doubt = CONFIRMATIONS;
                    ledger.lose(open, Loss::UnpairedRequest, output);
                } else {
                    open.doubtful = channel.doubt > 0;
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
        if !self.channels.contains_key(&number) {
            self.may_come(Flow::ToClient, waited, times.end)?;
        }
        let Some((channel, ledger)) = self.channel(number, output) else {
            return Ok(());
        };
        match method {
            Method::Reply(operation, name) => {
                if operation == Operation::ConfirmSelect && channel.confirms.mode == Mode::Unknown {
                    ledger.settle_held(number, &mut channel.publishes, output);
                    channel.confirms.select();
                }
                let Some((mut open, trusted)) = ledger.answer(channel, operation, name, times, may_come)?
                else {
                    output.lost(Loss::UnpairedResponse, 1);
                    if operation == Operation::BasicConsume {
                        // A consumer whose request was not seen; one of its name is not it.
                        channel.forget_consumer(name.unwrap_or_default());
                    }
                    return Ok(());
                };
                match operation {
                    Operation::QueueDeclare => {
                        let server_named = open.get(Field::Queue).is_none();
                        open.set(Field::Queue, name);
                        let later = channel
                            .requests
                            .iter_mut()
                            .any(|open| open.operation == operation);
                        if server_named && trusted && !later {
                            channel.last_queue = open.get(Field::Queue).map(Into::into);
                        }
                    }
                    Operation::BasicConsume => {
                        open.set(Field::ConsumerTag, name);
                        let (tag, no_ack) = (name.unwrap_or_default(), open.no_ack == Some(true));
                        if trusted && !channel.add_consumer(tag, open.get(Field::Queue), no_ack) {
                            output.lost(Loss::Evicted, 1);
                        }
                    }
                    Operation::BasicCancel => channel.forget_consumer(name.unwrap_or_default()),
                    _ => {}
                }
                if trusted {
                    ledger.report(number, open, times.end, None, None, output);
                } else {
                    ledger.lose(open, Loss::UnpairedRequest, output);
                }
            }
            Method::GetEmpty => match ledger.answer(channel, Operation::Get, None, times, may_come)? {
                Some((open, true)) => ledger.report_got(number, open, times.end, 0, output),
                Some((open, false)) => ledger.lose(open, Loss::UnpairedRequest, output),
                None => output.lost(Loss::UnpairedResponse, 1),
            },
            Method::GetOk {
                tag,
                redelivered,
                exchange,
                routing_key,
            } => {
                // The request leaves when the message is complete.
                let request = channel
                    .requests
                    .iter_mut()
                    .find(|open| open.operation == Operation::Get);
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
                if !channel
                    .publishes
                    .iter()
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
            Method::Cancelled { consumer_tag } => channel.forget_consumer(consumer_tag),
            _ => {}
        }
        Ok(())
    }
}
