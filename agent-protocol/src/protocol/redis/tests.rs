//! Expected values come from the generator of the traffic, which knows what it does, and from the specification.

use crate::loss::Loss;
use crate::protocol::testing::{Ending, Random, Seen, View, Write, run, run_whole};
use crate::protocol::{Detection, Flow};
use crate::record::{Record, redis::CacheResult};
use crate::transaction::Transaction;
use proptest::prelude::*;
use std::collections::HashMap;

const MS: u64 = 1_000_000;

fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

fn words(text: &str) -> Vec<u8> {
    command(&text.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn read(transaction: &Transaction<'_>) -> String {
    let Record::Redis(record) = &transaction.record else {
        panic!("not Redis")
    };
    let mut line = format!(
        "{}({}) {}-{}",
        record.operation.unwrap_or("?"),
        record.arguments,
        transaction.start / MS,
        transaction.end / MS
    );
    if let Some(error) = transaction.error {
        line += &format!(" error={error}");
    }
    if let Some(code) = record.status_code {
        line += &format!(" code={code}");
    }
    if let Some(n) = record.batch_size {
        line += &format!(" batch={n}");
    }
    if let Some(CacheResult { hits, misses }) = record.cache {
        line += &format!(" {hits}/{misses}");
    }
    if let Some(n) = record.namespace.filter(|&n| n > 0) {
        line += &format!(" db={n}");
    }
    line
}

/// Writes at 1 ms, 2 ms and so on: those that begin with `>` from the client.
fn talk(writes: &[(char, &[u8])]) -> Vec<Write> {
    let flow = |who: char| {
        if who == '>' {
            Flow::ToServer
        } else {
            Flow::ToClient
        }
    };
    let times = (1..).map(|n| n * MS);
    writes
        .iter()
        .zip(times)
        .map(|((who, bytes), time)| Write {
            flow: flow(*who),
            time,
            bytes: bytes.to_vec(),
        })
        .collect()
}

fn whole(writes: &[(char, &[u8])]) -> Vec<String> {
    let mut seen = run_whole(&talk(writes), Ending::Abandoned, read);
    assert_eq!(seen.losses, [0; Loss::ALL.len()], "{:?}", seen.transactions);
    seen.transactions.retain(|_| true);
    seen.transactions
}

#[test]
fn commands_and_replies_of_every_type() {
    let seen = whole(&[
        ('>', &words("hello 3")),
        ('<', b"%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n"),
        ('>', &[words("get a"), words("get b"), words("mget a b c")].concat()),
        ('<', b"$5\r\nhello\r\n_\r\n*3\r\n$1\r\na\r\n_\r\n$-1\r\n"),
        ('>', b"PING\r\n\r\nset  'a b' \"c\\\"d\"\r\n"),
        ('<', b"+PONG\r\n+OK\r\n"),
        ('>', &words("zscore z m")),
        ('<', b"|1\r\n+ttl\r\n:3600\r\n,1.5\r\n"),
        ('>', &words("config get maxmemory")),
        ('<', b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n~1\r\n*2\r\n#t\r\n(3492890328409238509324850943850943825024385\r\n"),
        ('>', &words("lrange l 0 9")),
        ('<', b"*?\r\n$?\r\n;4\r\nabcd\r\n;0\r\n=7\r\ntxt:abc\r\n.\r\n"),
        ('>', &words("eval secret 0")),
        ('<', b"!21\r\nSYNTAX invalid syntax\r\n"),
        ('>', &words("incr a")),
        ('<', b"-WRONGTYPE Operation against a key\r\n"),
        ('>', &words("incr a")),
        ('<', b"-my secret\r\n"),
    ]);
    assert_eq!(
        seen,
        [
            "HELLO(1) 1-2",
            "GET(1) 3-4 1/0",
            "GET(1) 3-4 0/1",
            "MGET(3) 3-4 1/2",
            "PING(0) 5-6",
            "SET(2) 5-6",
            "ZSCORE(2) 7-8 1/0",
            "CONFIG GET(1) 9-10",
            "LRANGE(3) 11-12",
            "EVAL(2) 13-14 error=SYNTAX code=SYNTAX",
            "INCR(1) 15-16 error=WRONGTYPE code=WRONGTYPE",
            "INCR(1) 17-18 error=_OTHER",
        ]
    );
}

#[test]
fn what_reads_find() {
    let seen = whole(&[
        ('>', &words("exists a b c")),
        ('<', b":2\r\n"),
        ('>', &words("hgetall h")),
        ('<', b"*0\r\n"),
        ('>', &words("smembers s")),
        ('<', b"~1\r\n$1\r\na\r\n"),
        ('>', &words("sismember s a")),
        ('<', b":0\r\n"),
        ('>', &words("get h")),
        ('<', b"-WRONGTYPE x\r\n"),
    ]);
    assert_eq!(
        seen,
        [
            "EXISTS(3) 1-2 2/1",
            "HGETALL(1) 3-4 0/1",
            "SMEMBERS(1) 5-6 1/0",
            "SISMEMBER(2) 7-8 0/1",
            "GET(1) 9-10 error=WRONGTYPE code=WRONGTYPE"
        ]
    );
}

#[test]
fn transactions_and_databases() {
    let seen = whole(&[
        ('>', &words("select 3")),
        ('<', b"+OK\r\n"),
        ('>', &words("multi")),
        ('<', b"+OK\r\n"),
        ('>', &words("get a")),
        ('<', b"+QUEUED\r\n"),
        ('>', &words("incr a")),
        ('<', b"+QUEUED\r\n"),
        ('>', &words("exec")),
        ('<', b"*2\r\n$-1\r\n-WRONGTYPE no integer\r\n"),
        (
            '>',
            &[words("multi"), words("set a b"), words("bad"), words("exec")].concat(),
        ),
        (
            '<',
            b"+OK\r\n+QUEUED\r\n-ERR unknown command\r\n-EXECABORT Transaction discarded\r\n",
        ),
        (
            '>',
            &[words("multi"), words("set a b"), words("discard")].concat(),
        ),
        ('<', b"+OK\r\n+QUEUED\r\n+OK\r\n"),
        (
            '>',
            &[
                words("watch a"),
                words("multi"),
                words("select 5"),
                words("exec"),
                words("ping"),
            ]
            .concat(),
        ),
        ('<', b"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n+PONG\r\n"),
        ('>', &words("reset")),
        ('<', b"+RESET\r\n"),
        ('>', &words("ping")),
        ('<', b"+PONG\r\n"),
    ]);
    assert_eq!(
        seen,
        [
            "SELECT(1) 1-2",
            "MULTI(0) 3-4 db=3",
            "GET(1) 5-6 0/1 db=3",
            "INCR(1) 7-8 error=WRONGTYPE code=WRONGTYPE db=3",
            "EXEC(0) 9-10 batch=2 db=3",
            "MULTI(0) 11-12 db=3",
            "BAD(0) 11-12 error=ERR code=ERR db=3",
            "SET(2) 11-12 db=3",
            "EXEC(0) 11-12 error=EXECABORT code=EXECABORT batch=1 db=3",
            "MULTI(0) 13-14 db=3",
            "SET(2) 13-14 db=3",
            "DISCARD(0) 13-14 db=3",
            "WATCH(1) 15-16 db=3",
            "MULTI(0) 15-16 db=3",
            "SELECT(1) 15-16 db=3",
            "EXEC(0) 15-16 batch=1 db=5",
            "PING(0) 15-16 db=5",
            "RESET(0) 17-18 db=5",
            "PING(0) 19-20",
        ]
    );
}

#[test]
fn subscriptions() {
    let message = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n";
    let seen = whole(&[
        ('>', &words("subscribe a b")),
        ('<', b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"),
        ('<', message),
        ('<', b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n"),
        ('<', message),
        ('>', &words("ping")),
        ('<', message),
        ('<', b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
        ('>', &words("psubscribe p*")),
        ('<', b"*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:3\r\n"),
        (
            '<',
            b"*4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$2\r\npa\r\n$1\r\nx\r\n",
        ),
        ('>', &words("unsubscribe")),
        (
            '<',
            b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n",
        ),
        ('>', &words("punsubscribe")),
        ('<', b"*3\r\n$12\r\npunsubscribe\r\n$2\r\np*\r\n:0\r\n"),
        ('>', &words("unsubscribe")),
        ('<', b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"),
        ('>', &words("get a")),
        ('<', b"$1\r\nx\r\n"),
    ]);
    assert_eq!(
        seen,
        [
            "SUBSCRIBE(2) 1-4",
            "PING(0) 6-8",
            "PSUBSCRIBE(1) 9-10",
            "UNSUBSCRIBE(0) 12-13",
            "PUNSUBSCRIBE(0) 14-15",
            "UNSUBSCRIBE(0) 16-17",
            "GET(1) 18-19 1/0"
        ]
    );
    let seen = whole(&[
        ('>', &words("hello 3")),
        ('<', b"%1\r\n+proto\r\n:3\r\n"),
        ('>', &[words("subscribe a"), words("get x")].concat()),
        (
            '<',
            b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n_\r\n",
        ),
        ('<', b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nm\r\n"),
    ]);
    assert_eq!(seen, ["HELLO(1) 1-2", "SUBSCRIBE(1) 3-4", "GET(1) 3-4 0/1"]);
}

#[test]
fn commands_without_a_reply() {
    let seen = whole(&[
        (
            '>',
            &[words("client reply skip"), words("set a b"), words("get a")].concat(),
        ),
        ('<', b"$1\r\nb\r\n"),
        (
            '>',
            &[
                words("client reply off"),
                words("set a b"),
                words("client reply on"),
                words("ping"),
            ]
            .concat(),
        ),
        ('<', b"+OK\r\n+PONG\r\n"),
    ]);
    assert_eq!(
        seen,
        [
            "CLIENT REPLY(1) 1-1",
            "SET(2) 1-1",
            "GET(1) 1-2 1/0",
            "CLIENT REPLY(1) 3-3",
            "SET(2) 3-3",
            "CLIENT REPLY(1) 3-4",
            "PING(0) 3-4"
        ]
    );
}

#[test]
fn monitor_and_replication() {
    let seen = whole(&[
        ('>', &words("monitor")),
        (
            '<',
            b"+OK\r\n+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n",
        ),
        ('<', b"+1339518087.877697 [0 127.0.0.1:60866] \"dbsize\"\r\n"),
        ('>', &words("reset")),
        ('<', b"+RESET\r\n"),
    ]);
    assert_eq!(seen, ["MONITOR(0) 1-2", "RESET(0) 4-5"]);
    let writes = talk(&[
        ('>', &words("ping")),
        ('<', b"+PONG\r\n"),
        ('>', &words("psync ? -1")),
        ('<', b"+FULLRESYNC 8de1 1\r\n$9\r\n"),
        ('>', &words("replconf ack 1")),
    ]);
    let seen = run_whole(&writes, Ending::Abandoned, read);
    assert_eq!(seen.transactions, ["PING(0) 1-2"]);
    assert_eq!(seen.lost(Loss::Unreportable), 1);
}

#[test]
fn what_is_malformed_has_no_name() {
    let writes = talk(&[
        ('>', b"PING\r\nset \"a b\r\n"),
        ('<', b"+PONG\r\n-ERR Protocol error: unbalanced quotes\r\n"),
    ]);
    let seen = run_whole(&writes, Ending::Closed(9 * MS), read);
    assert_eq!(seen.transactions, ["PING(0) 1-2", "?(0) 1-2 error=ERR code=ERR"]);
    let writes = talk(&[
        ('>', &[&words("ping")[..], b"*2\r\n$4\r\nECHO\r\n:1\r\n"].concat()),
        ('<', b"+PONG\r\n-ERR Protocol\r\n"),
    ]);
    let seen = run_whole(&writes, Ending::Closed(9 * MS), read);
    assert_eq!(seen.transactions, ["PING(0) 1-2", "?(0) 1-2 error=ERR code=ERR"]);
}

#[test]
fn a_connection_closed_before_the_reply() {
    let writes = talk(&[
        ('>', &[words("blpop a 0"), words("get a")].concat()),
        ('<', b"*2\r\n$1\r\n"),
    ]);
    let seen = run_whole(&writes, Ending::Closed(9 * MS), read);
    assert_eq!(
        seen.transactions,
        [
            "BLPOP(2) 1-9 error=connection_closed",
            "GET(1) 1-9 error=connection_closed"
        ]
    );
    assert_eq!(
        run_whole(&writes, Ending::Abandoned, read).lost(Loss::Unfinished),
        2
    );
}

#[test]
fn a_deep_pipeline_is_whole() {
    let n = 20_000;
    let mut writes = Vec::new();
    for at in 0..n {
        writes.push(('>', words(&format!("set key{at} value"))));
    }
    writes.push(('<', b"+OK\r\n".repeat(n)));
    let writes: Vec<_> = writes.iter().map(|(who, bytes)| (*who, &bytes[..])).collect();
    assert_eq!(whole(&writes).len(), n);
}

#[test]
fn a_long_string_is_not_needed() {
    let value = vec![b'v'; 100_000];
    let writes = talk(&[
        ('>', &command(&[b"set", b"a", &value])),
        ('<', b"+OK\r\n"),
        ('>', &words("get a")),
        ('<', &bulk(&value)),
    ]);
    // Of each long write, what lies between the first and the last kilobyte is lost.
    let mut left = 0;
    let mut cut = |n: usize| {
        left = n;
        if n > 100_000 {
            1000
        } else if n > 1000 {
            n - 1000
        } else {
            n
        }
    };
    let mut chunk = 0;
    let mut lost = || {
        chunk += 1;
        chunk == 2 || chunk == 7
    };
    let view = View {
        cut: &mut cut,
        lost: &mut lost,
        fresh: true,
        ending: Ending::Abandoned,
    };
    let seen = run(&writes, view, read);
    assert_eq!(seen.transactions, ["SET(2) 1-2", "GET(1) 3-4 1/0"]);
    assert_eq!(seen.lost(Loss::Gap), 0);
}

#[test]
fn detection() {
    let detect = super::detect;
    assert_eq!(
        detect(b"*1\r\n$4\r\nPING\r\n", true),
        Detection::Yes(Flow::ToServer)
    );
    assert_eq!(
        detect(b"*2\r\n$12\r\nMODULE.THING\r\n$3\r", true),
        Detection::Yes(Flow::ToServer)
    );
    assert_eq!(detect(b"*2\r\n$12\r\nMODULE.THING\r\n$3\r", false), Detection::No);
    assert_eq!(detect(b"*1\r\n$4\r\nPI", true), Detection::Maybe);
    assert_eq!(detect(b"*", true), Detection::Maybe);
    assert_eq!(detect(b"PING\r\n", true), Detection::Yes(Flow::ToServer));
    assert_eq!(detect(b"PIN", true), Detection::Maybe);
    assert_eq!(detect(b"PING\r\n", false), Detection::No);
    assert_eq!(
        detect(&[words("get a"), words("set b c")].concat(), false),
        Detection::Yes(Flow::ToServer)
    );
    assert_eq!(
        detect(b"*3\r\n$7\r\nmessage\r\n$1\r\n", false),
        Detection::Yes(Flow::ToClient)
    );
    for foreign in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"get key\r\n",
        b"* OK IMAP4rev1 ready\r\n",
        b"+OK POP3\r\n",
        b"EHLO example\r\n",
        b"*2\r\n$5\r\nalpha\r\n$4\r\nbeta\r\n",
        b"$5\r\nhello\r\n",
    ] {
        assert_eq!(
            detect(foreign, false),
            Detection::No,
            "{}",
            foreign.escape_ascii()
        );
    }
    // Memcached has it too: the answer decides.
    assert_eq!(detect(b"get key\r\n", true), Detection::Maybe);
    let answered = super::frames::confirm_inline;
    for (answer, detection) in [
        (&b"$-1\r\n"[..], Detection::Yes(Flow::ToClient)),
        (
            b"-NOAUTH Authentication required.\r\n",
            Detection::Yes(Flow::ToClient),
        ),
        (b"$1", Detection::Maybe),
        (b"END\r\n", Detection::No),
        (b"VALUE key 0 1\r\n", Detection::No),
        (b"<html>\r\n", Detection::No),
        (b"+OK\n", Detection::No),
    ] {
        assert_eq!(
            answered(b"get key\r\n", answer),
            Some(detection),
            "{}",
            answer.escape_ascii()
        );
    }
    assert_eq!(answered(b"+OK POP3\r\n", b"+OK\r\n"), None);
    for foreign in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"* OK IMAP4\r\n",
        b"*2\r\n$3\r\nVXK\r\n$3\r\nVXK\r\n",
        b"CONNECT {}\r\nPING\r\n",
        b"DELETE / HTTP/1.1\r\n",
    ] {
        assert_eq!(detect(foreign, true), Detection::No, "{}", foreign.escape_ascii());
    }
}

/// A session of `steps` random steps, with what is expected of it: a client that pipelines, or one that waits.
fn random_session(seed: u64, steps: usize, pipelines: bool) -> (Vec<Write>, Vec<String>) {
    let mut random = Random::new(seed);
    let (mut writes, mut expected) = (Vec::new(), Vec::new());
    let mut time = 1000;
    let mut n = 0;
    for _ in 0..steps {
        let depth = if pipelines { 1 + random.below(6) } else { 1 };
        let mut open = Vec::new();
        for _ in 0..depth {
            n += 1;
            time += 1 + random.below(20);
            let (name, extra) = match random.below(4) {
                0 => ("SET".to_owned(), vec![b'v'; random.below(3000) as usize]),
                1 => ("LRANGE".to_owned(), b"0".to_vec()),
                2 => ("GET".to_owned(), Vec::new()),
                _ => ("INCRBY".to_owned(), b"7".to_vec()),
            };
            let key = format!("key{n}");
            let mut words = vec![name.as_bytes(), key.as_bytes()];
            if !extra.is_empty() {
                words.push(&extra);
            }
            writes.push(Write {
                flow: Flow::ToServer,
                time: time * MS,
                bytes: command(&words),
            });
            open.push((name.clone(), words.len() - 1, time, n));
        }
        for (name, arguments, start, n) in open {
            time += 1 + random.below(20);
            // Errors are numbered, so that each is seen to belong to its own command.
            let (bytes, suffix) = match (random.below(4), name.as_str()) {
                (0, _) => (
                    format!("-E{n} text\r\n").into_bytes(),
                    format!(" error=E{n} code=E{n}"),
                ),
                (1, "GET") => (b"$-1\r\n".to_vec(), " 0/1".to_owned()),
                (_, "GET") => (bulk(&vec![b'\n'; random.below(3000) as usize]), " 1/0".to_owned()),
                (_, "LRANGE") => (b"*2\r\n*1\r\n:1\r\n$4\r\n*1\r\n\r\n".to_vec(), String::new()),
                (_, "SET") => (b"+OK\r\n".to_vec(), String::new()),
                _ => (b":1234\r\n".to_vec(), String::new()),
            };
            writes.push(Write {
                flow: Flow::ToClient,
                time: time * MS,
                bytes,
            });
            expected.push(format!("{name}({arguments}) {start}-{time}{suffix}"));
        }
    }
    (writes, expected)
}

fn cutter(mut random: Random, largest: u64) -> impl FnMut(usize) -> usize {
    move |_| 1 + random.below(largest) as usize
}

fn check_nothing_false(expected: &[String], seen: &Seen<String>, closed: u64) {
    let mut left: HashMap<&str, usize> = HashMap::new();
    expected
        .iter()
        .for_each(|line| *left.entry(line).or_default() += 1);
    let end = format!("-{} error=connection_closed", closed / MS);
    for line in &seen.transactions {
        if line.ends_with(&end) {
            panic!("all was answered: {line}");
        }
        match left.get_mut(line.as_str()) {
            Some(n @ 1..) => *n -= 1,
            _ => panic!("false: {line}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunking_does_not_matter(seed: u64, largest in 1u64..4000, pipelines: bool) {
        let (writes, expected) = random_session(seed, 60, pipelines);
        let mut cut = cutter(Random::new(seed), largest);
        let view = View { cut: &mut cut, lost: &mut || false, fresh: true, ending: Ending::Abandoned };
        let seen = run(&writes, view, read);
        prop_assert_eq!(seen.transactions, expected);
        prop_assert_eq!(seen.losses, [0; Loss::ALL.len()]);
    }

    #[test]
    fn holes_make_nothing_false(seed: u64, largest in 20u64..4000, share in 2u64..60, pipelines: bool) {
        let (writes, expected) = random_session(seed, 150, pipelines);
        let end = writes.last().map_or(0, |write| write.time) + MS;
        let mut random = Random::new(seed ^ 1);
        let view = View {
            cut: &mut cutter(Random::new(seed), largest),
            lost: &mut || random.below(share) == 0,
            fresh: true,
            ending: Ending::Closed(end),
        };
        check_nothing_false(&expected, &run(&writes, view, read), end);
    }

    #[test]
    fn joined_in_the_middle_nothing_is_false(
        seed: u64, largest in 20u64..4000, from in 0usize..200, pipelines: bool
    ) {
        let (mut writes, expected) = random_session(seed, 150, pipelines);
        let end = writes.last().map_or(0, |write| write.time) + MS;
        writes.drain(..from.min(writes.len()));
        let view = View {
            cut: &mut cutter(Random::new(seed), largest),
            lost: &mut || false,
            fresh: false,
            ending: Ending::Closed(end),
        };
        check_nothing_false(&expected, &run(&writes, view, read), end);
    }
}

/// A client that ends with QUIT and has read `+OK` and the server's FIN was answered everything.
#[test]
fn after_quit_the_order_is_proved() {
    let writes = talk(&[
        ('>', &words("get a")),
        ('<', b"$1\r\n1\r\n"),
        ('>', &words("get b")),
        ('<', b"$1\r\n2\r\n"),
        ('>', &words("quit")),
        ('<', b"+OK\r\n"),
    ]);
    let seen = |ending| {
        let view = View {
            cut: &mut |n| n,
            lost: &mut || false,
            fresh: false,
            ending,
        };
        run(&writes, view, read).transactions
    };
    // The first reply may be that of an older command.
    assert_eq!(seen(Ending::Finished(9 * MS)), ["GET(1) 3-4 1/0", "QUIT(0) 5-6"]);
    assert!(seen(Ending::Closed(9 * MS)).is_empty());
}

/// As [`random_session`], with a client that has `window` commands in flight and sends the next one for each reply.
fn sliding_session(seed: u64, steps: usize, window: usize) -> (Vec<Write>, Vec<String>) {
    let (waiting, _) = random_session(seed, steps, false);
    let (mut commands, mut replies): (Vec<Write>, Vec<Write>) = waiting
        .into_iter()
        .rev()
        .partition(|write| write.flow == Flow::ToServer);
    let mut writes = Vec::new();
    for turn in 0.. {
        if (turn < window || turn % 2 == window % 2)
            && let Some(command) = commands.pop()
        {
            writes.push(command);
        } else if let Some(reply) = replies.pop() {
            writes.push(reply);
        } else if commands.is_empty() {
            break;
        }
    }
    for (time, write) in (1000..).zip(&mut writes) {
        write.time = time * MS;
    }
    let seen = run_whole(&writes, Ending::Abandoned, read);
    (writes, seen.transactions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A client that leaves, or is killed, before its last replies came, and a server that is.
    #[test]
    fn a_close_at_any_place_makes_nothing_false(
        seed: u64,
        window in 1usize..4,
        joined in 1usize..32,
        length in 1usize..32,
        share in prop_oneof![Just(u64::MAX), 2u64..20],
    ) {
        let (writes, expected) = sliding_session(seed, 40, window);
        let writes = &writes[joined..(joined + length).min(writes.len())];
        let end = writes.last().map_or(0, |write| write.time) + MS;
        let mut random = Random::new(seed ^ 1);
        let view = View {
            cut: &mut |n| n,
            lost: &mut || random.below(share) == 0,
            fresh: false,
            ending: Ending::Closed(end),
        };
        for line in run(writes, view, read).transactions {
            prop_assert!(expected.contains(&line), "false: {}", line);
        }
    }
}

#[test]
fn after_joining_what_is_new_is_right() {
    let (mut writes, expected) = random_session(7, 40, false);
    let joined = writes
        .iter()
        .take(21)
        .filter(|write| write.flow == Flow::ToClient)
        .count();
    writes.drain(..21);
    let view = View {
        cut: &mut |n| n,
        lost: &mut || false,
        fresh: false,
        ending: Ending::Closed(writes.last().map_or(0, |write| write.time) + MS),
    };
    let seen = run(&writes, view, read);
    assert!(
        seen.transactions.len() >= expected.len() - joined - 3,
        "{}",
        seen.transactions.len()
    );
    assert!(expected.ends_with(&seen.transactions));
}

#[test]
fn the_only_exchange_after_joining_is_not_proved() {
    // The reply may be that of an older command, and the connection closed before the next one.
    let writes = talk(&[('>', &words("GET a")), ('<', b"$1\r\n1\r\n")]);
    let view = View {
        cut: &mut |n| n,
        lost: &mut || false,
        fresh: false,
        ending: Ending::Closed(9 * MS),
    };
    let seen = run(&writes, view, read);
    assert!(seen.transactions.is_empty(), "{:?}", seen.transactions);
    assert_eq!(seen.losses[Loss::UnpairedRequest as usize], 1);
}
