//! A bounded queue between a thread that must not wait and tasks that may take long.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use tokio::sync::Notify;

/// What happens to a full queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The oldest go, counted: the observed world does not wait.
    #[default]
    DropOldest,
    /// The producer waits: a file does. It must not be a thread of the runtime then.
    Wait,
}

struct State<T> {
    items: VecDeque<(usize, T)>,
    weight: usize,
    closed: bool,
}

/// Items with weights (spans of a batch, points of a request).
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Notify,
    room: Condvar,
    capacity: usize,
    when_full: WhenFull,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize, when_full: WhenFull) -> Queue<T> {
        let state = State {
            items: VecDeque::new(),
            weight: 0,
            closed: false,
        };
        Queue {
            state: Mutex::new(state),
            ready: Notify::new(),
            room: Condvar::new(),
            capacity,
            when_full,
        }
    }

    /// Adds an item. Those that go for it are handed to `gone`; returns their weight. A single one that is heavier
    /// than the capacity has its place.
    pub(crate) fn push(&self, item: T, weight: usize, mut gone: impl FnMut(T)) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |state: &mut State<T>| {
            state.weight + weight > self.capacity && !state.items.is_empty() && !state.closed
        };
        if self.when_full == WhenFull::Wait {
            state = self
                .room
                .wait_while(state, is_full)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return weight;
        }
        let mut dropped = 0;
        while is_full(&mut state) {
            if let Some((weight, item)) = state.items.pop_front() {
                state.weight -= weight;
                dropped += weight;
                gone(item);
            }
        }
        state.weight += weight;
        state.items.push_back((weight, item));
        drop(state);
        self.ready.notify_one();
        dropped
    }

    /// The next item, with its weight; `None` when there will be none any more.
    pub(crate) async fn pop(&self) -> Option<(usize, T)> {
        loop {
            let ready = self.ready.notified();
            {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((weight, item)) = state.items.pop_front() {
                    state.weight -= weight;
                    self.room.notify_all();
                    return Some((weight, item));
                }
                if state.closed {
                    // Whoever else waits here is to see it, too.
                    self.ready.notify_one();
                    return None;
                }
            }
            ready.await;
        }
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.room.notify_all();
        self.ready.notify_one();
    }

    /// Weight of what is left, which is dropped.
    pub(crate) fn clear(&self) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.items.clear();
        std::mem::take(&mut state.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test]
    async fn the_oldest_go_first() {
        let queue = Queue::new(10, WhenFull::DropOldest);
        assert_eq!(queue.push('a', 4, drop), 0);
        assert_eq!(queue.push('b', 4, drop), 0);
        assert_eq!(queue.push('c', 4, drop), 4);
        assert_eq!(queue.push('d', 100, drop), 8);
        assert_eq!(queue.pop().await, Some((100, 'd')));
        queue.push('e', 1, drop);
        queue.close();
        assert_eq!(queue.push('f', 3, drop), 3);
        assert_eq!(queue.pop().await, Some((1, 'e')));
        assert_eq!(queue.pop().await, None);
        assert_eq!(queue.pop().await, None);
    }

    #[tokio::test]
    async fn a_producer_that_waits_loses_nothing() {
        let queue = Arc::new(Queue::new(2, WhenFull::Wait));
        let producer = {
            let queue = queue.clone();
            std::thread::spawn(move || {
                let dropped: usize = (0..100).map(|n| queue.push(n, 1, drop)).sum();
                queue.close();
                dropped
            })
        };
        let mut seen = Vec::new();
        while let Some((_, n)) = queue.pop().await {
            seen.push(n);
            tokio::time::sleep(Duration::from_micros(10)).await;
        }
        assert_eq!(producer.join().unwrap(), 0);
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
