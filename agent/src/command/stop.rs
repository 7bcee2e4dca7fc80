//! That the agent is asked to end.

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Listens to SIGINT, SIGTERM and SIGHUP, from before anything is loaded. The second one ends the agent at once.
pub(super) struct Stop(watch::Receiver<Option<&'static str>>);

impl Stop {
    /// `at_once` is what has to be done before the agent ends at once.
    ///
    /// # Errors
    /// Where signals cannot be listened to.
    pub(super) fn listen(runtime: &Handle, at_once: impl FnOnce() + Send + 'static) -> Result<Stop> {
        let _within = runtime.enter();
        let listen = |kind, name| signal(kind).with_context(|| format!("listening to {name}"));
        let mut interrupt = listen(SignalKind::interrupt(), "SIGINT")?;
        let mut terminate = listen(SignalKind::terminate(), "SIGTERM")?;
        let mut hangup = match is_ignored(SignalKind::hangup()) {
            true => None,
            false => Some(listen(SignalKind::hangup(), "SIGHUP")?),
        };
        let (sender, receiver) = watch::channel(None);
        runtime.spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => (SignalKind::interrupt(), "SIGINT"),
                    _ = terminate.recv() => (SignalKind::terminate(), "SIGTERM"),
                    () = some(&mut hangup) => (SignalKind::hangup(), "SIGHUP"),
                }
            };
            let (_, name) = next().await;
            sender.send_replace(Some(name));
            let (kind, name) = next().await;
            at_once();
            eprintln!("redwire: {name} again: ended at once, what was not exported is lost");
            std::process::exit(128 + kind.as_raw_value());
        });
        Ok(Stop(receiver))
    }

    /// The signal that came, if one did.
    pub(super) fn requested(&self) -> Option<&'static str> {
        *self.0.borrow()
    }

    /// Waits for a signal; its name.
    pub(super) async fn wait(&mut self) -> &'static str {
        match self.0.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or_default(),
            // The task that listens is gone with the runtime.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn some(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether whoever started this process had it ignore a signal: nohup(1) does, and is to be obeyed.
fn is_ignored(kind: SignalKind) -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign >> (kind.as_raw_value() - 1) & 1 == 1)
}
