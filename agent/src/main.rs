//! tmp
use redwire::source::ebpf::*;
use redwire_protocol::stream::*;
use redwire_protocol::connection::*;
use redwire_protocol::output::*;
struct P;
impl Processes for P {
    fn executed(&mut self, p: ProcessId, n: &str, e: &[u8]) { println!("exec {p:?} {n} env {}", e.len()); }
    fn forked(&mut self, a: ProcessId, b: ProcessId) { println!("fork {a:?} {b:?}"); }
    fn ended(&mut self, a: ProcessId) { println!("end {a:?}"); }
    fn judge(&mut self, _: ProcessId) -> bool { false }
}
struct O;
impl Observer for O {
    fn transaction(&mut self, c: &ConnectionInfo, s: Side, t: &redwire_protocol::transaction::Transaction<'_>) -> redwire_protocol::trace_context::SpanContext { println!("{:?} {s:?} {t:?}", c.local); redwire_protocol::trace_context::SpanContext { trace_id: [1;16], span_id: [1;8], flags: 0 } }
    fn lost(&mut self, c: &ConnectionInfo, p: Option<&'static str>, l: redwire_protocol::loss::Loss, n: u64) { println!("lost {:?} {:?} {:?} {p:?} {l:?} {n}", c.local, c.remote, c.opener); }
    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}
fn main() -> anyhow::Result<()> {
    let mut s = Source::load(&Options { btf: offsets::KERNEL_BTF.into(), ring_bytes: 8<<20, by_environment: true, by_executable: false, ports: vec![], follow: true, kernel_log: false })?;
    s.attach()?;
    println!("attached");
    let mut c = Connections::new(Limits::default());
    let t = std::time::Instant::now();
    while t.elapsed().as_secs() < 10 { s.wait(std::time::Duration::from_millis(20)); s.drain(10000, &mut c, &mut O, &mut P); let now = s.now(); c.tick(now, &mut O); }
    println!("{:?} {}", s.counters(), c.len());
    println!("{}", std::fs::read_to_string("/proc/self/status")?.lines().filter(|l| l.starts_with("VmRSS")||l.starts_with("VmHWM")).collect::<Vec<_>>().join(" "));
    Ok(())
}
