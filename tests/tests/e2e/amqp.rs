//! RabbitMQ and its clients: what the client counts is what the agent counts, live and from a capture.

use crate::capturing;
use crate::database::run;
use crate::scene::{Scene, nowhere};
use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::rabbitmq::{PASSWORD, RabbitMq};
use redwire_tests::service::selected_as;
use redwire_tests::tcpdump::Tcpdump;
use redwire_tests::{Totals, add, tools, transactions};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// In the body of every message of the Python client.
const SECRET: &str = "planted-secret-7be2a9";

/// Messages of the load: each is published and delivered.
const MESSAGES: u64 = 50_000;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("amqp::shapes".to_owned(), shapes),
        capturing("amqp::broker".to_owned(), at_the_broker),
        capturing("amqp::header_0_9".to_owned(), header),
        capturing("amqp::load".to_owned(), load),
        capturing("amqp::libraries".to_owned(), libraries),
        capturing("amqp::attach::pika".to_owned(), |test| {
            attach(test, Language::Python)
        }),
        capturing("amqp::attach::amqp091".to_owned(), |test| {
            attach(test, Language::Go)
        }),
        capturing("amqp::attach::broker".to_owned(), attach_at_the_broker),
    ]
}

fn pika(broker: &RabbitMq, size: &str) -> Command {
    let mut command = program(Language::Python, "amqp_shapes");
    command.args([&broker.port().to_string(), PASSWORD, size]);
    command
}

/// Spans of a service as the clients count: "operation outcome error".
fn operations(telemetry: &Telemetry, service: &str) -> Totals {
    let mut operations = Totals::new();
    for span in telemetry.spans.iter().filter(|span| span.service == service) {
        let of = |key: &str| span.attributes.get(key).map_or("-", String::as_str);
        let [operation, outcome, error] = [
            "messaging.operation.name",
            "redwire.messaging.outcome",
            "error.type",
        ]
        .map(of);
        *operations
            .entry(format!("{operation} {outcome} {error}"))
            .or_default() += 1;
    }
    operations
}

/// Number of operations whose name begins like this.
fn of(operations: &Totals, prefix: &str) -> u64 {
    operations
        .iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(_, count)| count)
        .sum()
}

fn equal(telemetry: &Telemetry, service: &str, expected: &Totals) -> Result<()> {
    let found = operations(telemetry, service);
    let differ = |from: &Totals, other: &Totals| -> Vec<String> {
        let differ = from
            .iter()
            .filter(|&(name, count)| other.get(name) != Some(count));
        differ.map(|(name, count)| format!("{name}: {count}")).collect()
    };
    ensure!(
        found == *expected,
        "{service}:\n  expected {:?}\n  found    {:?}\n  losses   {:?}",
        differ(expected, &found),
        differ(&found, expected),
        telemetry.losses(),
    );
    Ok(())
}

/// Neither a message's body nor the password is in what was written.
fn no_secrets(folder: &Path) -> Result<()> {
    nowhere(folder, SECRET)?;
    nowhere(folder, PASSWORD)
}

/// How many methods of each class and number tshark finds, sent by the client or by the broker.
fn tshark(capture: &Path, port: u16) -> Result<BTreeMap<(bool, u16, u16), u64>> {
    let mut command = Command::new(tools::find("tshark").context("tshark is not installed")?);
    command.args([
        "-n",
        "-d",
        &format!("tcp.port=={port},amqp"),
        "-T",
        "fields",
        "-E",
        "aggregator=,",
    ]);
    command.args(["-e", "tcp.dstport", "-e", "amqp.method.class"]);
    command.args(["-e", "amqp.method.method", "-r"]);
    let output = command.arg(capture).output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut methods = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut fields = line.split('\t');
        let (Some(to), Some(classes), Some(numbers)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        for (class, number) in classes.split(',').zip(numbers.split(',')) {
            if !class.is_empty() {
                let by_client = to.parse() == Ok(port);
                *methods
                    .entry((by_client, class.parse()?, number.parse()?))
                    .or_default() += 1;
            }
        }
    }
    Ok(methods)
}

/// Everything that AMQP has, seen at the client and in a capture.
fn shapes(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let broker = RabbitMq::start(&folder, &[])?;
    let tcpdump = Tcpdump::start(&folder, broker.port())?;
    scene.start_agent(&[])?;
    let mut counts = run(&mut pika(&broker, "400000"))?;
    let telemetry = scene.finish()?;
    let capture = tcpdump.finish()?;
    let [acks, nacks, rejects] = ["ack", "nack", "reject"]
        .map(|name| counts.remove(&format!("method basic.{name}")).unwrap_or_default());
    exceptions(&telemetry, "client", &mut counts)?;
    equal(&telemetry, "client", &counts)?;
    metrics(&telemetry, "client", &counts)?;
    names_and_kinds(&telemetry, "client")?;
    traced(&telemetry, "client")?;

    let (status, lines, said) = transactions::replay(&capture)?;
    ensure!(status == Some(0), "replay ended with {status:?}: {said}");
    transactions::same(&telemetry, "client", &lines)?;
    let methods = tshark(&capture, broker.port())?;
    let seen = |by_client: bool, class: u16, method: u16| {
        let seen = methods.get(&(by_client, class, method));
        seen.copied().unwrap_or_default()
    };
    let got_to_acknowledge = of(&counts, "get - ") - seen(false, 60, 72);
    for (by_client, class, method, expected) in [
        (true, 50, 10, of(&counts, "queue.declare ")),
        (true, 60, 20, of(&counts, "basic.consume ")),
        (true, 60, 30, of(&counts, "basic.cancel ")),
        (true, 60, 40, of(&counts, "publish ")),
        (
            false,
            60,
            50,
            of(&counts, "publish ack 312") + of(&counts, "publish - 312"),
        ),
        (false, 60, 60, of(&counts, "deliver ") - got_to_acknowledge),
        (true, 60, 70, of(&counts, "get ")),
        (false, 60, 71, of(&counts, "get auto ") + got_to_acknowledge),
        (true, 60, 80, acks),
        (true, 60, 120, nacks),
        (true, 60, 90, rejects),
        // The client waits for each.
        (false, 60, 80, of(&counts, "publish ack ")),
        (true, 60, 110, of(&counts, "basic.recover ")),
        (true, 85, 10, of(&counts, "confirm.select ")),
        (true, 90, 20, of(&counts, "tx.commit ")),
    ] {
        let seen = seen(by_client, class, method);
        ensure!(
            seen == expected && expected > 0,
            "tshark sees {seen} of {class}.{method} (by the client: {by_client}), the client made {expected}"
        );
    }
    std::fs::write(folder.join("replay.jsonl"), format!("{lines:?}"))?;
    no_secrets(&folder)
}

/// Exceptions that are those of no operation are counted by code, and leave `counts`.
fn exceptions(telemetry: &Telemetry, service: &str, counts: &mut Totals) -> Result<()> {
    let exceptions: Totals = counts
        .iter()
        .filter_map(|(name, count)| Some((name.strip_prefix("exception ")?.to_owned(), *count)))
        .collect();
    counts.retain(|name, _| !name.starts_with("exception "));
    let found = telemetry.metric_totals(service, "redwire.messaging.exceptions", &["error.type"]);
    ensure!(
        !exceptions.is_empty() && found == exceptions,
        "exceptions of {service}: {found:?} instead of {exceptions:?}"
    );
    Ok(())
}

/// The metrics count as the client does, by operation, outcome and error.
fn metrics(telemetry: &Telemetry, service: &str, counts: &Totals) -> Result<()> {
    const NAMES: &[&str] = &[
        "messaging.operation.name",
        "redwire.messaging.outcome",
        "error.type",
    ];
    let select = |which: &dyn Fn(&str) -> bool| -> Totals {
        let chosen = counts.iter().filter(|(name, _)| which(name));
        let named = chosen.map(|(name, count)| {
            let parts: Vec<&str> = name.split(' ').filter(|&part| part != "-").collect();
            (parts.join(" "), *count)
        });
        named.collect()
    };
    let delivered = |name: &str| name.starts_with("deliver ");
    for (metric, expected) in [
        ("messaging.process.duration", select(&delivered)),
        (
            "messaging.client.operation.duration",
            select(&|name| !delivered(name)),
        ),
        (
            "messaging.client.sent.messages",
            select(&|name| name.starts_with("publish ")),
        ),
        (
            "messaging.client.consumed.messages",
            select(&|name| delivered(name) || name.starts_with("get auto ")),
        ),
    ] {
        let found = telemetry.metric_totals(service, metric, NAMES);
        ensure!(
            found == expected,
            "{metric} of {service}:\n  expected {expected:?}\n  found    {found:?}"
        );
    }
    Ok(())
}

/// The conventions' name and kind of each span.
fn names_and_kinds(telemetry: &Telemetry, service: &str) -> Result<()> {
    for span in telemetry.spans.iter().filter(|span| span.service == service) {
        let of = |key: &str| span.attributes.get(key).map(String::as_str);
        let operation = of("messaging.operation.name").unwrap_or_default();
        let (kind, operation_type) = match operation {
            "publish" => (Kind::Producer, Some("send")),
            "deliver" => (Kind::Consumer, Some("process")),
            "get" => (Kind::Consumer, Some("receive")),
            _ => (Kind::Client, None),
        };
        let temporary = of("messaging.destination.temporary") == Some("true");
        let generated = of("redwire.messaging.queue").is_some_and(|queue| queue.starts_with("amq.gen-"));
        ensure!(!generated || temporary, "{span:?}");
        let named = of("messaging.destination.name").filter(|_| !temporary);
        let name = match of("messaging.destination.template").or(named) {
            Some(destination) => format!("{operation} {destination}"),
            None => operation.to_owned(),
        };
        let empty = of("messaging.batch.message_count") == Some("0");
        let of_get = operation == "get";
        ensure!(
            span.kind == kind as i32
                && of("messaging.operation.type") == operation_type
                && of("messaging.system") == Some("rabbitmq")
                && span.name == name
                && of_get == of("messaging.batch.message_count").is_some()
                && !(empty && of("redwire.messaging.queue") != Some("empty")),
            "{span:?}"
        );
    }
    Ok(())
}

/// A client of AMQP 0-9.
fn header(test: &str) -> Result<()> {
    let scene = Scene::without_agent(test, Transport::Grpc)?;
    let broker = RabbitMq::start(scene.folder(), &[])?;
    let mut scene = scene;
    scene.start_agent(&[])?;
    let mut client = program(Language::Python, "amqp_header");
    let counts = run(client.args([&broker.port().to_string(), PASSWORD]))?;
    let telemetry = scene.finish()?;
    equal(&telemetry, "client", &counts)
}

/// The message with all that is looked at: its spans say it, and continue the trace of its producer.
fn traced(telemetry: &Telemetry, service: &str) -> Result<()> {
    let common = [
        ("messaging.system", "rabbitmq"),
        ("messaging.rabbitmq.destination.routing_key", "traced.new"),
        ("messaging.message.id", "message-1"),
        ("messaging.message.conversation_id", "talk-1"),
        ("messaging.message.body.size", "5000"),
        ("redwire.messaging.exchange", "orders"),
        ("redwire.messaging.outcome", "ack"),
    ];
    let published = [
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "orders:traced.new"),
    ];
    let delivered = [
        ("messaging.operation.name", "deliver"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders:traced.new:traced"),
        ("messaging.rabbitmq.message.delivery_tag", "1"),
        ("redwire.messaging.queue", "traced"),
        ("redwire.messaging.consumer_tag", "traced-reader"),
        ("redwire.messaging.redelivered", "false"),
    ];
    for (kind, name, own) in [
        (Kind::Producer, "publish orders:traced.new", &published[..]),
        (Kind::Consumer, "deliver orders:traced.new:traced", &delivered),
    ] {
        let found: Vec<_> = telemetry
            .spans(service, kind)
            .filter(|span| span.name == name)
            .collect();
        let [span] = found[..] else {
            bail!("{} spans are called {name}", found.len())
        };
        let expected: BTreeMap<&str, &str> = common.iter().chain(own).copied().collect();
        let said = span
            .attributes
            .iter()
            .filter(|(key, _)| key.contains("messaging."))
            .map(|(key, value)| (key.as_str(), value.as_str()));
        let said: BTreeMap<&str, &str> = said.collect();
        ensure!(said == expected, "{name}: {said:?} instead of {expected:?}");
        let (trace, producer) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        ensure!(
            span.trace_id == trace && span.parent_span_id == producer,
            "{span:?}"
        );
        let links = match kind {
            Kind::Consumer => vec![(trace.to_owned(), producer.to_owned())],
            _ => Vec::new(),
        };
        ensure!(span.links == links, "{span:?}");
        // From the delivery to the acknowledgement the consumer takes its time.
        let took = Duration::from_nanos(span.end - span.start);
        let slept = Duration::from_millis(20);
        ensure!(
            (kind == Kind::Consumer) == (took >= slept),
            "{name} took {took:?}"
        );
    }
    let to_default = telemetry
        .spans(service, Kind::Producer)
        .filter(|span| span.name == "publish amq.default");
    ensure!(to_default.count() == 1, "no message to the default exchange");
    Ok(())
}

/// Everything that AMQP has, seen at both ends.
fn at_the_broker(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let broker = RabbitMq::start(&folder, &selected_as("broker"))?;
    scene.start_agent(&[])?;
    let mut counts = run(&mut pika(&broker, "400000"))?;
    counts.retain(|name, _| !name.starts_with("method "));
    let telemetry = scene.finish()?;
    exceptions(&telemetry, "broker", &mut counts)?;
    for service in ["client", "broker"] {
        equal(&telemetry, service, &counts)?;
        metrics(&telemetry, service, &counts)?;
        names_and_kinds(&telemetry, service)?;
        traced(&telemetry, service)?;
    }
    no_secrets(&folder)
}

/// The other usual libraries, at both ends.
fn libraries(test: &str) -> Result<()> {
    const MESSAGES: &str = "5000";
    let mut scene = Scene::without_agent(test, Transport::Http)?;
    let folder = scene.folder().to_owned();
    let broker = RabbitMq::start(&folder, &selected_as("broker"))?;
    scene.start_agent(&[])?;
    let mut all = Totals::new();
    for (language, name) in [(Language::Python, "amqp_aio"), (Language::Go, "amqp")] {
        let mut program = program(language, name);
        program.args([&broker.port().to_string(), PASSWORD, MESSAGES]);
        add(&mut all, &run(&mut program)?);
    }
    let telemetry = scene.finish()?;
    equal(&telemetry, "client", &all)?;
    equal(&telemetry, "broker", &all)?;
    no_secrets(&folder)
}

/// As many operations as a client makes, against its own count and the broker's.
fn load(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let broker = RabbitMq::start(&folder, &[])?;
    scene.start_agent(&[])?;
    let mut node = program(Language::Node, "amqp");
    node.args([&broker.port().to_string(), PASSWORD, &MESSAGES.to_string()]);
    let counts = run(&mut node)?;
    let telemetry = scene.finish()?;
    equal(&telemetry, "client", &counts)?;

    // The broker publishes its statistics from time to time.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let statistics = broker.statistics()?;
        let own = [
            statistics.publish,
            statistics.confirm,
            statistics.deliver,
            statistics.ack,
        ];
        let expected = ["publish", "publish ack", "deliver", "deliver ack"].map(|name| of(&counts, name));
        if own == expected {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the broker counts {statistics:?}, the client {counts:?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    no_secrets(&folder)
}

/// Runs the client that has a connection with much under way, and starts the agent meanwhile: while publishes of the
/// client lie unread in the broker's socket. What the client counted.
fn in_the_middle(scene: &mut Scene, broker: &RabbitMq, command: &mut Command) -> Result<Totals> {
    let arguments = [&broker.port().to_string(), PASSWORD];
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("a client without input")?;
    let mut output = BufReader::new(child.stdout.take().context("a client without output")?);
    let mut said = |word: &str| {
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.trim_end() == word, "the client says {line:?}");
        Ok(())
    };
    said("open")?;
    broker.pause()?;
    input.write_all(b"publish\n")?;
    said("ready")?;
    scene.start_agent(&[])?;
    broker.resume();
    input.write_all(b"go\n")?;
    let mut counts = String::new();
    output.read_to_string(&mut counts)?;
    ensure!(child.wait()?.success(), "the client failed");
    serde_json::from_str(&counts).context("a client's counts")
}

/// The agent comes when consumers, deliveries and publishes are under way: what is new is counted exactly, and of what
/// is older nothing but that it could be paired with nothing.
fn attach(test: &str, language: Language) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let broker = RabbitMq::start(&folder, &[])?;
    let mut client = program(language, "amqp_middle");
    let mut counts = in_the_middle(&mut scene, &broker, client.envs(selected_as("client")))?;
    let telemetry = scene.finish()?;
    let confirmed = counts.remove("confirmed");
    let [settled, in_flight, unknown] =
        ["settled", "in flight", "unknown"].map(|name| counts.remove(name).unwrap_or_default());
    // One method can confirm several.
    let confirmed = confirmed.map_or(1..=in_flight, |confirmed| confirmed..=confirmed);
    equal(&telemetry, "client", &counts)?;
    let losses = telemetry.losses();
    let lost = |reason: &str| losses.get(reason).copied().unwrap_or_default();
    ensure!(
        confirmed.contains(&lost("unpaired_response").saturating_sub(settled))
            && lost("unpaired_request") == unknown,
        "{losses:?}; the client settled {settled} and had {confirmed:?} confirmed of what is older, {unknown} are \
         unknown"
    );
    // Which queue a consumer from before reads, nothing tells.
    for span in telemetry.spans("client", Kind::Consumer) {
        let of = |key: &str| span.attributes.get(key).map(String::as_str);
        let (queue, tag) = (
            of("redwire.messaging.queue"),
            of("redwire.messaging.consumer_tag"),
        );
        ensure!(tag.is_none() || queue.is_none(), "{span:?}");
    }
    no_secrets(&folder)
}

/// The same at the other end. It reads of the client's publishes when the agent is there; but as long as the broker was
/// not heard, what it confirmed of them may have been missed.
fn attach_at_the_broker(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let broker = RabbitMq::start(&folder, &selected_as("broker"))?;
    let mut client = program(Language::Python, "amqp_middle");
    let mut counts = in_the_middle(&mut scene, &broker, &mut client)?;
    let telemetry = scene.finish()?;
    let [settled, confirmed, in_flight, unknown] =
        ["settled", "confirmed", "in flight", "unknown"].map(|name| counts.remove(name).unwrap_or_default());
    let losses = telemetry.losses();
    let lost = |reason: &str| losses.get(reason).copied().unwrap_or_default();
    // A heartbeat of the broker may have come first.
    let heard = lost("unpaired_request") == unknown;
    if heard {
        *counts.entry("publish ack -".to_owned()).or_default() += in_flight;
    }
    equal(&telemetry, "broker", &counts)?;
    let expected = if heard {
        (unknown, settled)
    } else {
        (unknown + in_flight, settled + confirmed)
    };
    ensure!(
        (lost("unpaired_request"), lost("unpaired_response")) == expected,
        "{losses:?}; requests and responses expected {expected:?}"
    );
    no_secrets(&folder)
}
