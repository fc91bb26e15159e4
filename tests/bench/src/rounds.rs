//! Sides measured in turns: A B A B. What slows the machine down for a while meets all of them.

use std::time::{Duration, Instant};

use crate::report::progress;

/// How long and how often each figure is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of one side in one round.
    pub time: Duration,
    /// Rounds.
    pub rounds: usize,
}

impl Pace {
    /// Measures each side in each round; what came of it, by side.
    pub fn interleave<S, T>(
        self,
        what: &str,
        sides: &mut [S],
        mut measure: impl FnMut(&mut S) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<Vec<T>>> {
        let mut taken: Vec<Vec<T>> = sides.iter().map(|_| Vec::new()).collect();
        for round in 1..=self.rounds {
            progress(format_args!("{what}: round {round} of {}", self.rounds));
            for (side, taken) in sides.iter_mut().zip(&mut taken) {
                taken.push(measure(side)?);
            }
        }
        Ok(taken)
    }
}

/// Lets clients repeat their operation for a time, at least once, each on a thread of its own. They stay as they
/// are: connected.
pub fn together<C: Send>(
    clients: &mut [C],
    time: Duration,
    operation: impl Fn(&mut C) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<Load> {
    let start = Instant::now();
    let done = each(clients, |client| {
        let mut done = 0;
        loop {
            operation(client)?;
            done += 1;
            if start.elapsed() >= time {
                return Ok(done);
            }
        }
    })?;
    let operations = done.into_iter().sum::<u64>() as f64;
    Ok(Load { operations, seconds: start.elapsed().as_secs_f64() })
}

/// Lets clients do their work once, each on a thread of its own.
pub fn each<C: Send, T: Send>(
    clients: &mut [C],
    work: impl Fn(&mut C) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            clients.iter_mut().map(|client| scope.spawn(move || work(client))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).collect()
    })
}

/// What clients have done together.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// So often.
    pub operations: f64,
    /// In this time.
    pub seconds: f64,
}

impl Load {
    /// Operations a second.
    pub fn per_second(self) -> f64 {
        self.operations / self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns() {
        let pace = Pace { time: Duration::ZERO, rounds: 2 };
        let mut order = Vec::new();
        let taken = pace.interleave("test", &mut ['a', 'b'], |side| {
            order.push(*side);
            Ok(order.len())
        });
        assert_eq!(taken.unwrap(), [[1, 3], [2, 4]]);
        assert_eq!(order, ['a', 'b', 'a', 'b']);
    }

    #[test]
    fn an_error_of_one_client_is_everybodys() {
        let mut clients = [0, 1];
        let load = together(&mut clients, Duration::ZERO, |client| {
            anyhow::ensure!(*client == 0, "no");
            Ok(())
        });
        assert!(load.is_err());
        let load = together(&mut clients, Duration::ZERO, |_| Ok(())).unwrap();
        assert_eq!(load.operations, 2.0);
    }
}
