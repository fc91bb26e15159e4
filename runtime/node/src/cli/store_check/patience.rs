//! How long a check goes on with a store that fails by letting it wait.

use std::time::Duration;

use postroom_kit::run::{Outcome, Ran};

/// Longest that a case may take: a slow language needs some ten seconds for the largest.
pub(super) const CASE_TIME: Duration = Duration::from_secs(120);

/// What is left of it. A case that fails at once costs nothing; one in which a call is not answered
/// costs what the host waits for it, half a minute.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    lost: Duration,
}

/// Why a case has no outcome that was given up.
pub(super) fn too_long() -> String {
    format!("it was not at its end after {} seconds", CASE_TIME.as_secs())
}

impl Patience {
    /// So many seconds.
    pub(super) fn of(seconds: u64) -> Self {
        Self { most: Duration::from_secs(seconds), lost: Duration::ZERO }
    }

    /// A case has taken so long.
    pub(super) fn took(&mut self, ran: &Ran, time: Duration) {
        match ran.outcome {
            Outcome::Failed(_) | Outcome::NotRun(_) => self.lost += time,
            Outcome::Passed | Outcome::NotApplicable(_) => {}
        }
    }

    /// Whether nothing more is to be asked.
    pub(super) fn is_over(&self) -> bool {
        self.lost > self.most
    }

    /// Why a case is not run.
    pub(super) fn why(&self) -> String {
        let most = self.most.as_secs();
        format!("failed cases have taken more than {most} seconds together (--patience)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postroom_kit::cases::Level;
    use postroom_kit::run::plan;

    #[test]
    fn failures_that_take_long_end_a_run_and_nothing_else_does() {
        let case = plan(Level::Answers)[0];
        let mut patience = Patience::of(60);
        patience.took(&case.too_early(), Duration::from_secs(600));
        for _ in 0..1000 {
            patience.took(&case.not_started("it traps".to_owned()), Duration::from_millis(5));
        }
        patience.took(&case.not_started("it never answers".to_owned()), Duration::from_secs(30));
        assert!(!patience.is_over(), "{patience:?}");
        patience.took(&case.not_run(too_long()), Duration::from_secs(30));
        assert!(patience.is_over(), "{patience:?}");
        assert!(patience.why().contains("60 seconds"), "{}", patience.why());
    }
}
