//! What is said of telemetry that cannot be delivered: once, then summed up.

use crate::counters::Signal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// What goes out, each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Spans of what is observed.
    Spans,
    /// Data points of what is observed.
    Points,
    /// The agent's own metrics.
    OwnMetrics,
    /// The agent's own logs.
    OwnLogs,
}

impl Delivery {
    fn as_str(self) -> &'static str {
        match self {
            Delivery::Spans => "spans",
            Delivery::Points => "points",
            Delivery::OwnMetrics => "the agent's own metrics",
            Delivery::OwnLogs => "the agent's own logs",
        }
    }
}

impl From<Signal> for Delivery {
    fn from(signal: Signal) -> Delivery {
        match signal {
            Signal::Spans => Delivery::Spans,
            Signal::Points => Delivery::Points,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Whose last attempt failed.
    failing: [bool; 4],
    /// When a line was written.
    said: Option<Instant>,
    /// Whether the last line is about a failure.
    is_told: bool,
    /// Attempts that failed, and spans and points that were given up, since the last line.
    attempts: u64,
    lost: u64,
    last: Option<String>,
}

/// Keeps account of what cannot be delivered, and tells of it: the first time at once, then in a line a minute at
/// most, and when it is over. Shared by all that deliver.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<State>);

impl Trouble {
    /// The user has been told that an endpoint does not answer.
    pub fn told(&self, problem: String) {
        let mut state = self.state();
        state.said = Some(Instant::now());
        state.is_told = true;
        state.last = Some(problem);
    }

    /// What happened last to spans or points, as a person needs it.
    pub fn last(&self) -> Option<String> {
        self.state().last.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt failed; `lost` spans or points were given up with it.
    pub(crate) fn failed(&self, what: Delivery, endpoint: &str, problem: &str, lost: usize) {
        if let Some(line) = self.on_failure(what, endpoint, problem, lost, Instant::now()) {
            tracing::warn!("{line}");
        }
    }

    /// An attempt was taken.
    pub(crate) fn delivered(&self, what: Delivery) {
        if let Some(line) = self.on_delivery(what) {
            tracing::info!("{line}");
        }
    }

    fn on_failure(
        &self,
        what: Delivery,
        endpoint: &str,
        problem: &str,
        lost: usize,
        now: Instant,
    ) -> Option<String> {
        let mut state = self.state();
        state.failing[what as usize] = true;
        state.attempts += 1;
        state.lost += lost as u64;
        let name = what.as_str();
        if matches!(what, Delivery::Spans | Delivery::Points) {
            state.last = Some(format!("{name} to {endpoint}: {problem}"));
        }
        if state
            .said
            .is_some_and(|said| now.saturating_duration_since(said) < PAUSE)
        {
            return None;
        }
        let line = if state.said.is_none() {
            let fate = match lost {
                0 => "the agent goes on trying".to_owned(),
                n => format!("{n} are lost"),
            };
            format!("cannot deliver {name} to {endpoint}: {problem}; {fate}")
        } else {
            format!(
                "cannot deliver {name} to {endpoint}: {problem}; since the last such line {} attempts failed and {} spans \
                 and points were lost",
                state.attempts, state.lost
            )
        };
        state.said = Some(now);
        state.is_told = true;
        (state.attempts, state.lost) = (0, 0);
        Some(line)
    }

    fn on_delivery(&self, what: Delivery) -> Option<String> {
        let mut state = self.state();
        state.failing[what as usize] = false;
        if !state.is_told || state.failing.contains(&true) {
            return None;
        }
        state.is_told = false;
        Some(match (state.attempts, state.lost) {
            (0, 0) => "telemetry is delivered again".to_owned(),
            (attempts, lost) => format!(
                "telemetry is delivered again; {attempts} more attempts had failed, and {lost} spans and points were lost"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn said_once_then_summed_up_and_when_it_is_over() {
        let trouble = Trouble::default();
        let begin = Instant::now();
        let fail = |what, lost, second| {
            trouble.on_failure(
                what,
                "http://c",
                "refused",
                lost,
                begin + Duration::from_secs(second),
            )
        };
        assert_eq!(trouble.on_delivery(Delivery::Spans), None, "nothing was wrong");
        let first = fail(Delivery::Spans, 0, 0).unwrap();
        assert!(first.contains("spans to http://c: refused"), "{first}");
        for second in 1..60 {
            assert_eq!(fail(Delivery::Spans, 10, second), None);
            assert_eq!(fail(Delivery::OwnLogs, 0, second), None, "of the same trouble");
        }
        assert_eq!(trouble.last().as_deref(), Some("spans to http://c: refused"));
        let sum = fail(Delivery::Points, 5, 60).unwrap();
        assert!(sum.contains("119 attempts failed and 595 spans"), "{sum}");
        for what in [Delivery::Spans, Delivery::Points] {
            assert_eq!(trouble.on_delivery(what), None, "the logs are not");
        }
        assert_eq!(
            trouble.on_delivery(Delivery::OwnLogs).as_deref(),
            Some("telemetry is delivered again")
        );
        assert_eq!(trouble.on_delivery(Delivery::Spans), None);
        assert_eq!(trouble.last().as_deref(), Some("points to http://c: refused"));
    }

    #[test]
    fn what_the_user_knows_is_not_said_again() {
        let trouble = Trouble::default();
        trouble.told("refused".to_owned());
        assert_eq!(
            trouble.on_failure(Delivery::Spans, "http://c", "refused", 0, Instant::now()),
            None
        );
        assert!(trouble.on_delivery(Delivery::Spans).is_some());
    }
}
