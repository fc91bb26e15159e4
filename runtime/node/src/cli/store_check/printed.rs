//! What the component prints while a case runs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::guest::Listener;

/// Lines that are remembered: the last ones.
const MAX_LINES: usize = 40;
/// Longest of them, in characters.
const MAX_CHARS: usize = 300;

/// The last lines of both streams, of whatever instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Printed(Arc<Mutex<VecDeque<String>>>);

impl Printed {
    /// What hears them.
    pub(super) fn listener(&self) -> Listener {
        let printed = self.clone();
        Arc::new(move |stream, line| printed.add(stream, &line))
    }

    fn add(&self, stream: &str, line: &str) {
        if line.is_empty() {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        let shown: String = line.chars().take(MAX_CHARS).collect();
        lines.push_back(format!("{stream}: {shown}"));
    }

    /// All that are remembered, in their order.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// A case begins.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_remembered_and_none_of_them_is_long() {
        let printed = Printed::default();
        let hear = printed.listener();
        for number in 0..1000 {
            hear("stderr", format!("{number} {}", "ü".repeat(5000)));
        }
        hear("stdout", String::new());
        let lines = printed.lines();
        assert_eq!(lines.len(), MAX_LINES);
        assert!(lines[MAX_LINES - 1].starts_with("stderr: 999 ü"), "{lines:?}");
        assert!(lines.iter().all(|line| line.chars().count() <= MAX_CHARS + 8), "{lines:?}");
        printed.forget();
        assert_eq!(printed.lines(), Vec::<String>::new());
    }
}
