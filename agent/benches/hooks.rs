//! What the hooks cost a system call: sets of hooks with empty programs, then the agent's own programs.
//! Needs root. Each figure is the median of alternating rounds, so that noise of the machine meets all alike.

use anyhow::Result;
use redwire::source::ebpf::floor::{self, Hooks};
use redwire::source::ebpf::{Judgement, Options, Processes, Source, offsets};
use redwire_common::verdict;
use redwire_protocol::connection::{ConnectionInfo, ProcessId, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::any::Any;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const CALLS: u32 = 50_000;
/// Empty programs on the agent's hooks.
const FLOOR: &str = "raw sys_enter + sys_exit";

struct Nobody;

impl Processes for Nobody {
    fn executed(&mut self, _: ProcessId, _: &str, _: &[u8]) {}
    fn forked(&mut self, _: ProcessId, _: ProcessId) {}
    fn ended(&mut self, _: ProcessId) {}
    fn judge(&mut self, _: ProcessId) -> Judgement {
        Judgement::No
    }
}

impl Observer for Nobody {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, _: &Transaction<'_>) -> SpanContext {
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 0,
        }
    }
    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, _: Loss, _: u64) {}
    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;

    type Setup = fn() -> Result<Box<dyn Any>>;
    let setups: [(&str, Setup); 8] = [
        ("bare", || Ok(Box::new(()))),
        ("raw sys_exit", || Ok(Box::new(floor::attach(Hooks::RawExit)?))),
        (FLOOR, || Ok(Box::new(floor::attach(Hooks::RawBoth)?))),
        ("17 exit tracepoints", || {
            Ok(Box::new(floor::attach(Hooks::Exits)?))
        }),
        ("17 enter + 17 exit tracepoints", || {
            Ok(Box::new(floor::attach(Hooks::Both)?))
        }),
        ("raw sys_exit + 9 enter tracepoints", || {
            Ok(Box::new(floor::attach(Hooks::RawExitAndWriteEntries)?))
        }),
        ("redwire, not selected", || Ok(Box::new(source(false)?))),
        ("redwire, selected", || Ok(Box::new(source(true)?))),
    ];
    let setups: Vec<_> = setups
        .into_iter()
        .filter(|(name, setup)| match setup() {
            Ok(_) => true,
            Err(error) => {
                println!("{name}: left out: {error:#}");
                false
            }
        })
        .collect();
    let mut samples = vec![[const { Vec::new() }; 2]; setups.len()];
    for _ in 0..ROUNDS {
        for ((_, setup), samples) in setups.iter().zip(&mut samples) {
            let mut attached = setup()?;
            let mut drain = || {
                if let Some(source) = attached.downcast_mut::<Source>() {
                    let mut connections = Connections::new(Limits::default());
                    while source.drain(10_000, &mut connections, &mut Nobody, &mut Nobody) > 0 {}
                }
            };
            samples[0].push(per_call(1, |_| {
                // SAFETY: no arguments, no effects.
                unsafe { libc::getppid() };
            }));
            let mut bytes = [b'x'; 128];
            let mut spent = Duration::ZERO;
            let batch = 1_000;
            for _ in 0..CALLS / batch {
                let begin = Instant::now();
                for _ in 0..batch {
                    client.write_all(&bytes)?;
                    server.read_exact(&mut bytes)?;
                }
                spent += begin.elapsed();
                drain();
            }
            samples[1].push(spent.as_nanos() as f64 / f64::from(CALLS) / 2.0);
        }
    }
    println!(
        "{:36} {:>16} {:>24}",
        "hooks", "getppid ns/call", "socket I/O ns/call"
    );
    let (mut bare, mut floor) = ([0.0; 2], [0.0; 2]);
    for ((name, _), samples) in setups.iter().zip(&mut samples) {
        let [other, io] = samples.each_mut().map(|samples| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        });
        if *name == "bare" {
            bare = [other, io];
        }
        let added = [other - bare[0], io - bare[1]];
        if *name == FLOOR {
            floor = added;
        }
        print!(
            "{name:36} {other:8.0} (+{:4.0}) {io:14.0} (+{:5.0})",
            added[0], added[1]
        );
        if name.starts_with("redwire") {
            print!(
                "  {:.1} and {:.1} times the floor",
                added[0] / floor[0],
                added[1] / floor[1]
            );
        }
        println!();
    }
    Ok(())
}

fn per_call(per_turn: u32, mut call: impl FnMut(u32)) -> f64 {
    let begin = Instant::now();
    for i in 0..CALLS {
        call(i);
    }
    begin.elapsed().as_nanos() as f64 / f64::from(CALLS * per_turn)
}

fn source(selected: bool) -> Result<Source> {
    let mut source = Source::open(&Options {
        hooks: None,
        btf: offsets::KERNEL_BTF.into(),
        ring_bytes: 64 << 20,
        by_environment: true,
        by_executable: false,
        ports: Vec::new(),
        follow: true,
        kernel_log: false,
    })?;
    if selected {
        source.select(ProcessId(std::process::id()), verdict::PID)?;
    }
    Ok(source)
}
