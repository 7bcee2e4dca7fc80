//! In steady state, a transaction allocates nothing.

mod common;

use common::{BEGIN, serve};
use redwire_protocol::connection::ProcessId;
use redwire_telemetry::{Config, OtlpConfig, Outputs, Pipeline, Resources, ServiceInstance};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator; the counter needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn none_in_steady_state() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let resources = Arc::new(Resources::new(
        ServiceInstance::default(),
        ServiceInstance::default(),
    ));
    resources.set(ProcessId(1), ServiceInstance::new("shop"));
    let otlp = OtlpConfig::read(Some("http://127.0.0.1:9"), &|_| None).unwrap();
    let outputs = Outputs {
        otlp: Some(otlp),
        ..Outputs::default()
    };
    // Nobody takes batches out of this queue: they are pushed out, and filled again.
    let config = Config {
        span_queue: 2048,
        ..Config::default()
    };
    let mut pipeline = Pipeline::start(config, outputs, resources, runtime.handle()).unwrap();
    let mut telemetry = pipeline.worker();
    let paths: Vec<String> = (0..100).map(|n| format!("/users/{n}/orders")).collect();
    let mut serve_many = || {
        let before = ALLOCATIONS.get();
        for path in paths.iter().cycle().take(10_000) {
            serve(&mut telemetry, Some(1), path);
        }
        ALLOCATIONS.get() - before
    };
    let first = serve_many();
    assert!(first > 20, "the counter counts: {first}");
    assert_eq!(serve_many(), 0);
    telemetry.finish(BEGIN + 1);
    runtime.block_on(pipeline.shutdown(Duration::ZERO));
}
