//! The terminal that the table is drawn on.

use redwire_telemetry::Screen;
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// What the terminal was like before.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// As long as it lives, what is typed is not shown: it would stand in the table. Ctrl-C still interrupts.
pub struct Quiet(());

impl Quiet {
    /// From now on. Without effect in the background, where the kernel would stop this process for it (SIGTTOU,
    /// termios(3)).
    pub fn begin() -> Quiet {
        if let Some(before) = is_foreground().then(|| tcgetattr(io::stdout()).ok()).flatten() {
            let mut quiet = before.clone();
            quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
            if tcsetattr(io::stdout(), OptionalActions::Now, &quiet).is_ok() {
                *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
            }
        }
        Quiet(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal what it was before [`Quiet::begin`]; for an end without destructors.
pub fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before.filter(|_| is_foreground()) {
        // It may be gone.
        let _ = tcsetattr(io::stdout(), OptionalActions::Now, &before);
    }
}

fn is_foreground() -> bool {
    tcgetpgrp(io::stdout()).is_ok_and(|group| group == getpgrp())
}

/// Writes lines to standard error, above the table where one is drawn on the same terminal.
pub struct Lines(pub Option<Arc<Screen>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let write = || io::stderr().write_all(bytes);
        match &self.0 {
            Some(screen) => screen.above(write),
            None => write(),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
