//! Random conversations: however they are cut up, joined or lost in part, nothing false is reported.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

struct Consumer {
    tag: String,
    queue: String,
    no_ack: bool,
}

struct Unacked {
    tag: u64,
    key: String,
    start: u64,
    queue: String,
}

struct Unconfirmed {
    sequence: u64,
    key: String,
    start: u64,
    unroutable: bool,
}

/// A channel of the generator.
#[derive(Default)]
struct Peer {
    confirm: bool,
    transactional: bool,
    sequence: u64,
    unconfirmed: VecDeque<Unconfirmed>,
    tag: u64,
    unacked: VecDeque<Unacked>,
    consumers: Vec<Consumer>,
}

struct Generator {
    random: Random,
    s: Session,
    peers: HashMap<u16, Peer>,
    key: usize,
}

/// A session of `steps` random steps over a few channels.
fn random_session(seed: u64, steps: usize) -> Session {
    let mut generator = Generator {
        random: Random::new(seed),
        s: Session::new(),
        peers: HashMap::new(),
        key: 0,
    };
    (0..steps).for_each(|_| generator.step());
    generator.finish()
}

impl Generator {
    fn one_in(&mut self, n: u64) -> bool {
        self.random.below(n) == 0
    }

    fn name(&mut self) -> String {
        self.key += 1;
        format!("k{}", self.key)
    }

    fn body(&mut self) -> Vec<u8> {
        vec![b'b'; [0, 1, 40, 999, 1000, 2500][self.random.below(6) as usize]]
    }

    fn call(&mut self, channel: u16, request: Vec<u8>, reply: Vec<u8>, operation: &str, queue: &str) {
        let start = self.s.client(request);
        if self.one_in(4) {
            // The broker is busy with others.
            self.s.server(frame(8, 0, &[]));
        }
        let end = self.s.server(reply);
        self.s
            .expect(line(operation, channel, "", 0, start, end, "", "", queue));
    }

    fn step(&mut self) {
        let channel = 1 + self.random.below(4) as u16;
        let Some(mut peer) = self.peers.remove(&channel) else {
            self.s.open_channel(channel);
            let mut peer = Peer::default();
            if self.one_in(2) {
                self.s.confirm_select(channel);
                peer.confirm = true;
            }
            self.consume(channel, &mut peer);
            self.peers.insert(channel, peer);
            return;
        };
        let open = match self.random.below(24) {
            0..=4 => self.publish(channel, &mut peer),
            5..=6 if !peer.unconfirmed.is_empty() => self.confirm(channel, &mut peer),
            7..=9 if !peer.consumers.is_empty() => self.deliver(channel, &mut peer),
            10..=12 if !peer.unacked.is_empty() => self.settle(channel, &mut peer),
            13 => self.declare(channel),
            14 => self.get(channel, &mut peer),
            15 if peer.consumers.len() < 3 => self.consume(channel, &mut peer),
            16 if !peer.consumers.is_empty() => self.cancel(channel, &mut peer),
            17 if !peer.confirm => self.transact(channel, &mut peer),
            18 if self.one_in(3) => self.recover(channel, &mut peer),
            19 if self.one_in(3) => self.close(channel, &mut peer),
            20 if self.one_in(4) => {
                self.peers.insert(channel, peer);
                return self.block();
            }
            _ => {
                self.peers.insert(channel, peer);
                return self.pause();
            }
        };
        if open {
            self.peers.insert(channel, peer);
        }
    }

    fn publish(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let (name, body) = (self.name(), self.body());
        let mandatory = self.one_in(4);
        let unroutable = mandatory && self.one_in(2);
        let at = self.s.client(publish(channel, &name, mandatory, &body, &name));
        if unroutable {
            self.s.server(returned(channel, &name, &body, &name));
        }
        if peer.confirm {
            peer.sequence += 1;
            peer.unconfirmed.push_back(Unconfirmed {
                sequence: peer.sequence,
                key: name,
                start: at,
                unroutable,
            });
        } else {
            let error = if unroutable { "312" } else { "" };
            self.s
                .expect(line("publish", channel, &name, 0, at, at, error, "", ""));
        }
        true
    }

    fn confirm(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let (nack, multiple) = (self.one_in(5), self.one_in(2));
        let at = self.random.below(peer.unconfirmed.len() as u64) as usize;
        let sequence = peer.unconfirmed[at].sequence;
        let number = if nack { 120 } else { 80 };
        let end = self.s.server(settle(channel, number, sequence, multiple.into()));
        let done: Vec<_> = if multiple {
            peer.unconfirmed.drain(..=at).collect()
        } else {
            peer.unconfirmed.remove(at).into_iter().collect()
        };
        for Unconfirmed {
            key,
            start,
            unroutable,
            ..
        } in done
        {
            let error = match (unroutable, nack) {
                (true, _) => "312",
                (_, true) => "nack",
                _ => "",
            };
            let outcome = if nack { "nack" } else { "ack" };
            self.s
                .expect(line("publish", channel, &key, 0, start, end, error, outcome, ""));
        }
        true
    }

    fn deliver(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let (key, body) = (self.name(), self.body());
        peer.tag += 1;
        let tag = peer.tag;
        let consumer = &peer.consumers[self.random.below(peer.consumers.len() as u64) as usize];
        let start = self.s.server(deliver(channel, &consumer.tag, tag, &key, &body));
        let queue = consumer.queue.clone();
        if consumer.no_ack {
            self.s.expect(line(
                "deliver", channel, &key, tag, start, start, "", "auto", &queue,
            ));
        } else {
            peer.unacked.push_back(Unacked {
                tag,
                key,
                start,
                queue,
            });
        }
        true
    }

    fn settle(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let at = self.random.below(peer.unacked.len() as u64) as usize;
        let multiple = self.one_in(3);
        let (number, bits, error, outcome) = match self.random.below(4) {
            0 => (120, 0, "nack", "nack"),
            1 => (120, 2, "nack", "requeue"),
            2 if !multiple => (90, 1, "reject", "requeue"),
            _ => (80, 0, "", "ack"),
        };
        let bits = bits | u8::from(multiple);
        let end = self.s.client(settle(channel, number, peer.unacked[at].tag, bits));
        let done: Vec<_> = if multiple {
            peer.unacked.drain(..=at).collect()
        } else {
            peer.unacked.remove(at).into_iter().collect()
        };
        self.settled(channel, done, end, error, outcome);
        true
    }

    fn settled(&mut self, channel: u16, done: Vec<Unacked>, end: u64, error: &str, outcome: &str) {
        for Unacked {
            tag,
            key,
            start,
            queue,
        } in done
        {
            self.s.expect(line(
                "deliver", channel, &key, tag, start, end, error, outcome, &queue,
            ));
        }
    }

    fn declare(&mut self, channel: u16) -> bool {
        let name = self.name();
        let request = method(channel, 50, 10, &[&[0, 0], &short(&name), &[1], &[0; 4]]);
        let reply = method(channel, 50, 11, &[&short(&name), &[0; 8]]);
        self.call(channel, request, reply, "queue.declare", &name);
        true
    }

    fn get(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let (queue, body, no_ack) = (self.name(), self.body(), self.one_in(3));
        let start = self.s.client(method(
            channel,
            60,
            70,
            &[&[0, 0], &short(&queue), &[no_ack.into()]],
        ));
        if self.one_in(2) {
            let end = self.s.server(method(channel, 60, 72, &[&[0]]));
            self.s
                .expect(line("get", channel, "", 0, start, end, "", "", &queue));
            return true;
        }
        peer.tag += 1;
        let end = self.s.server(got(channel, peer.tag, &queue, &body));
        let outcome = if no_ack { "auto" } else { "" };
        self.s
            .expect(line("get", channel, "", 0, start, end, "", outcome, &queue));
        if !no_ack {
            peer.unacked.push_back(Unacked {
                tag: peer.tag,
                key: queue.clone(),
                start: end,
                queue,
            });
        }
        true
    }

    fn consume(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let (no_ack, no_wait, named) = (self.one_in(3), self.one_in(4), self.one_in(2));
        let (queue, tag) = (self.name(), self.name());
        let bits = u8::from(no_ack) << 1 | u8::from(no_wait) << 3;
        let asked = if named || no_wait { &*tag } else { "" };
        let arguments: [&[u8]; 5] = [&[0, 0], &short(&queue), &short(asked), &[bits], &[0; 4]];
        let request = method(channel, 60, 20, &arguments);
        if no_wait {
            let at = self.s.client(request);
            self.s
                .expect(line("basic.consume", channel, "", 0, at, at, "", "", &queue));
        } else {
            let reply = method(channel, 60, 21, &[&short(&tag)]);
            self.call(channel, request, reply, "basic.consume", &queue);
        }
        peer.consumers.push(Consumer { tag, queue, no_ack });
        true
    }

    /// By the client, with or without a reply, or by the broker.
    fn cancel(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let at = self.random.below(peer.consumers.len() as u64) as usize;
        let Consumer { tag, queue, .. } = peer.consumers.remove(at);
        match self.random.below(3) {
            0 => {
                let at = self.s.client(method(channel, 60, 30, &[&short(&tag), &[1]]));
                self.s
                    .expect(line("basic.cancel", channel, "", 0, at, at, "", "", &queue));
            }
            1 => {
                let request = method(channel, 60, 30, &[&short(&tag), &[0]]);
                let reply = method(channel, 60, 31, &[&short(&tag)]);
                self.call(channel, request, reply, "basic.cancel", &queue);
            }
            _ => {
                self.s.server(method(channel, 60, 30, &[&short(&tag), &[1]]));
            }
        }
        true
    }

    fn transact(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let (number, operation) = match self.random.below(2) {
            _ if !peer.transactional => (10, "tx.select"),
            0 => (20, "tx.commit"),
            _ => (30, "tx.rollback"),
        };
        peer.transactional = true;
        let request = method(channel, 90, number, &[]);
        self.call(
            channel,
            request,
            method(channel, 90, number + 1, &[]),
            operation,
            "",
        );
        true
    }

    fn recover(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let start = self.s.client(method(channel, 60, 110, &[&[1]]));
        let done = peer.unacked.drain(..).collect();
        self.settled(channel, done, start, "", "requeue");
        let end = self.s.server(method(channel, 60, 111, &[]));
        self.s
            .expect(line("basic.recover", channel, "", 0, start, end, "", "", ""));
        true
    }

    fn close(&mut self, channel: u16, peer: &mut Peer) -> bool {
        let by_server = self.one_in(2);
        let mut declared = None;
        let (code, cause) = match self.random.below(3) {
            _ if !by_server => (200, (0, 0)),
            0 => {
                let name = self.name();
                let arguments: [&[u8]; 4] = [&[0, 0], &short(&name), &[1], &[0; 4]];
                declared = Some((self.s.client(method(channel, 50, 10, &arguments)), name));
                (404, (50, 10))
            }
            1 if peer.confirm => (404, (60, 40)),
            _ => (406, (0, 0)),
        };
        let flow = if by_server { Flow::ToClient } else { Flow::ToServer };
        let closed = self.s.write(flow, close(channel, 20, code, cause));
        self.s.write(flow.opposite(), method(channel, 20, 41, &[]));
        if let Some((start, name)) = declared {
            self.s.expect(line(
                "queue.declare",
                channel,
                "",
                0,
                start,
                closed,
                "404",
                "",
                &name,
            ));
        }
        let done = peer.unacked.drain(..).collect();
        self.settled(channel, done, closed, "connection_closed", "");
        for (nth, publish) in peer.unconfirmed.drain(..).enumerate() {
            let error = match (publish.unroutable, nth) {
                (true, _) => "312",
                (_, 0) if cause == (60, 40) => "404",
                _ => "connection_closed",
            };
            let Unconfirmed { key, start, .. } = publish;
            self.s
                .expect(line("publish", channel, &key, 0, start, closed, error, "", ""));
        }
        false
    }

    /// The broker takes no publishes for longer than it may take to confirm, and says so.
    fn block(&mut self) {
        self.s.server(method(0, 10, 60, &[&short("low on memory")]));
        for _ in 0..3 {
            self.s.time += 2500 * MS;
            self.s.server(frame(8, 0, &[]));
        }
        self.s.server(method(0, 10, 61, &[]));
    }

    fn pause(&mut self) {
        // The broker is not one that leaves publishes unconfirmed for seconds.
        let prompt = self.peers.values().any(|peer| !peer.unconfirmed.is_empty());
        let choices = if prompt { 2 } else { 5 };
        self.s.time += [0, 5, 300, 2500, 6000][self.random.below(choices) as usize] * MS;
        let flow = if self.one_in(2) {
            Flow::ToServer
        } else {
            Flow::ToClient
        };
        self.s.write(flow, frame(8, 0, &[]));
    }

    fn finish(mut self) -> Session {
        // What was to come back has come.
        self.s.time += 1500 * MS;
        self.s.server(frame(8, 0, &[]));
        let end = self.s.time + MS;
        for (channel, peer) in self.peers {
            for Unacked {
                tag,
                key,
                start,
                queue,
            } in peer.unacked
            {
                let error = "connection_closed";
                self.s
                    .cut_off
                    .push(line("deliver", channel, &key, tag, start, end, error, "", &queue));
            }
            for Unconfirmed {
                key,
                start,
                unroutable,
                ..
            } in peer.unconfirmed
            {
                let error = if unroutable { "312" } else { "connection_closed" };
                self.s
                    .cut_off
                    .push(line("publish", channel, &key, 0, start, end, error, "", ""));
            }
        }
        self.s
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn chunking_does_not_matter(seed: u64, largest in 1u64..3000, closed: bool) {
        let mut session = random_session(seed, 150);
        let ending = if closed {
            session.expected.append(&mut session.cut_off);
            Ending::Closed(session.time + MS)
        } else {
            Ending::Abandoned
        };
        let whole = session.check(ending);
        let mut cut = cutter(Random::new(seed), largest);
        let view = View { cut: &mut cut, lost: &mut || false, fresh: true, ending };
        let mut cut = run(&session.writes, view, read);
        cut.transactions.sort();
        assert_same(&cut.transactions, &whole.transactions);
        prop_assert_eq!(cut.losses, whole.losses);
        // What is reported and what is counted is all there is, but for exceptions without a cause.
        prop_assert_eq!(whole.lost(Loss::UnpairedRequest), 0);
        prop_assert_eq!(whole.lost(Loss::UnpairedResponse), 0);
        prop_assert_eq!(whole.lost(Loss::Refused), 0);
        prop_assert_eq!(whole.lost(Loss::Evicted), 0);
        prop_assert_eq!(whole.lost(Loss::Unfinished), if closed { 0 } else { session.cut_off.len() as u64 });
    }

    #[test]
    fn holes_make_nothing_false(seed: u64, largest in 20u64..3000, share in 2u64..60) {
        let session = random_session(seed, 300);
        let mut random = Random::new(seed ^ 1);
        let view = View {
            cut: &mut cutter(Random::new(seed), largest),
            lost: &mut || random.below(share) == 0,
            fresh: true,
            ending: Ending::Closed(session.time + MS),
        };
        check_nothing_false(&session, &run(&session.writes, view, read));
    }

    /// Broken bytes are refused and counted; every transaction ends when it began or later (`run` checks it).
    #[test]
    fn broken_bytes_do_no_harm(seed: u64, largest in 20u64..3000, share in 1u64..20, fresh: bool) {
        let mut session = random_session(seed, 200);
        let mut random = Random::new(seed ^ 2);
        for write in &mut session.writes {
            if random.below(share) == 0 {
                let at = random.below(write.bytes.len() as u64) as usize;
                write.bytes[at] ^= 1 << random.below(8);
            }
        }
        let ending = Ending::Closed(session.time + MS);
        let view = View { cut: &mut cutter(Random::new(seed), largest), lost: &mut || false, fresh, ending };
        run(&session.writes, view, read);
    }

    #[test]
    fn joined_in_the_middle_nothing_is_false(
        seed: u64,
        largest in 20u64..3000,
        from in 0usize..300,
        share in 0u64..60,
    ) {
        let mut session = random_session(seed, 300);
        session.writes.drain(..from.min(session.writes.len()));
        let mut random = Random::new(seed ^ 1);
        let view = View {
            cut: &mut cutter(Random::new(seed), largest),
            lost: &mut || share > 1 && random.below(share) == 0,
            fresh: false,
            ending: if share % 2 == 0 { Ending::Closed(session.time + MS) } else { Ending::Abandoned },
        };
        check_nothing_false(&session, &run(&session.writes, view, read));
    }
}
