//! What a transaction of AMQP carries.

/// What was asked for: content methods by the verb of the conventions, the others by class and method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the AMQP 0-9-1 methods")]
pub enum Operation {
    /// basic.publish.
    Publish,
    /// basic.deliver, and the message of basic.get-ok without automatic acknowledgement.
    Deliver,
    /// basic.get.
    Get,
    ExchangeDeclare,
    ExchangeDelete,
    ExchangeBind,
    ExchangeUnbind,
    QueueDeclare,
    QueueBind,
    QueuePurge,
    QueueDelete,
    QueueUnbind,
    BasicQos,
    BasicConsume,
    BasicCancel,
    BasicRecover,
    ConfirmSelect,
    TxSelect,
    TxCommit,
    TxRollback,
}

impl Operation {
    /// The name, as in `messaging.operation.name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Publish => "publish",
            Operation::Deliver => "deliver",
            Operation::Get => "get",
            Operation::ExchangeDeclare => "exchange.declare",
            Operation::ExchangeDelete => "exchange.delete",
            Operation::ExchangeBind => "exchange.bind",
            Operation::ExchangeUnbind => "exchange.unbind",
            Operation::QueueDeclare => "queue.declare",
            Operation::QueueBind => "queue.bind",
            Operation::QueuePurge => "queue.purge",
            Operation::QueueDelete => "queue.delete",
            Operation::QueueUnbind => "queue.unbind",
            Operation::BasicQos => "basic.qos",
            Operation::BasicConsume => "basic.consume",
            Operation::BasicCancel => "basic.cancel",
            Operation::BasicRecover => "basic.recover",
            Operation::ConfirmSelect => "confirm.select",
            Operation::TxSelect => "tx.select",
            Operation::TxCommit => "tx.commit",
            Operation::TxRollback => "tx.rollback",
        }
    }
}

/// How a message was settled: `redwire.messaging.outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// basic.ack, of a delivery by the consumer or of a publish by the broker (confirm).
    Ack,
    /// basic.nack without requeue, or from the broker.
    Nack,
    /// basic.reject without requeue.
    Reject,
    /// basic.nack or basic.reject with requeue, or basic.recover.
    Requeue,
    /// Settled by being sent, to a consumer that asked for `no-ack`.
    Auto,
}

impl Outcome {
    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ack => "ack",
            Outcome::Nack => "nack",
            Outcome::Reject => "reject",
            Outcome::Requeue => "requeue",
            Outcome::Auto => "auto",
        }
    }
}

/// What is known of an operation on the broker. Unknown things are absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// What was asked for.
    pub operation: Operation,
    /// The channel it went over.
    pub channel: u16,
    /// Exchange; empty for the default exchange.
    pub exchange: Option<&'a str>,
    /// Routing key.
    pub routing_key: Option<&'a str>,
    /// Queue: of a delivery, the one its consumer reads.
    pub queue: Option<&'a str>,
    /// Consumer tag.
    pub consumer_tag: Option<&'a str>,
    /// Property message-id.
    pub message_id: Option<&'a str>,
    /// Property correlation-id.
    pub correlation_id: Option<&'a str>,
    /// W3C `tracestate` among the message's headers.
    pub tracestate: Option<&'a str>,
    /// Bytes of the message's body.
    pub body_size: Option<u64>,
    /// Delivery tag of a delivery.
    pub delivery_tag: Option<u64>,
    /// Whether a delivery is one anew.
    pub redelivered: Option<bool>,
    /// How it was settled.
    pub outcome: Option<Outcome>,
    /// Messages that basic.get brought: 1 or 0.
    pub message_count: Option<u64>,
    /// The queue, or the one that the default exchange's routing key names, was seen to be declared as exclusive or
    /// auto-delete on this connection.
    pub temporary: bool,
}
