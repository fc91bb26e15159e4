//! CPU time of guests: what an instance uses between being let in and letting go of its thread.
//!
//! All guest code of an instance runs inside polls of its driver, and an epoch ends each poll that
//! has become long, so a poll is the unit: its time is measured and charged. Two sums come of it.
//!
//! - The *run*: time since a call has last left the guest or asked the host for something. Only one
//!   call can be in guest code at a time, and an epoch lets no other one in, so a long run is the
//!   doing of a single call, whoever waits beside it.
//! - The *share* of each call: a poll's time is divided by the calls then in the instance. For a call
//!   that is alone it is what the call has used; among others it is a fair guess, and never makes a
//!   call that waits pay for a whole busy instance.
//!
//! An instance in which either passes the limit is ended.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::engine::EPOCH;

/// Polls from this long on are measured with the thread's own clock, so that time in which another
/// process had the core is not charged. That clock costs a system call, which the microseconds of
/// an ordinary call should not pay: those are charged by the wall.
const LONG_POLL: Duration = Duration::from_millis(1);

/// CPU time of a call of a version that is on probation, where its limit is higher: a healthy call takes
/// milliseconds, and whoever waits behind one that spins should not wait long for the version before.
const ON_PROBATION: Duration = Duration::from_secs(2);

/// What an instance has used, as all who have to do with it see it.
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// What a call that has been there from the beginning would be charged, in nanoseconds.
    share: AtomicU64,
    /// Ends of runs.
    ends: AtomicU64,
}

impl Spent {
    /// The share of a call that has been in the instance from the beginning. A call's own is the
    /// difference between its end and its start.
    pub(super) fn share(&self) -> Duration {
        Duration::from_nanos(self.share.load(Ordering::Relaxed))
    }

    /// A call has left the guest, or has asked the host for something.
    pub(super) fn end_run(&self) {
        self.ends.fetch_add(1, Ordering::Relaxed);
    }

    fn charge(&self, time: Duration, calls: usize) {
        let share = time / u32::try_from(calls).unwrap_or(u32::MAX).max(1);
        let share = u64::try_from(share.as_nanos()).unwrap_or(u64::MAX);
        self.share.fetch_add(share, Ordering::Relaxed);
    }
}

/// The calls in an instance, as far as its CPU time is theirs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    /// How many there are.
    pub(super) calls: usize,
    /// [`Spent::share`] when the oldest came; `None` when there is none.
    pub(super) oldest: Option<Duration>,
}

/// The limit was passed, which was this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun(pub(super) Duration);

/// Measures the polls of one instance.
pub(super) struct Meter<'a> {
    spent: &'a Spent,
    limit: Duration,
    /// Whether its component is on probation, if it can be.
    probation: Option<&'a AtomicBool>,
    run: Duration,
    /// [`Spent::ends`] after the last poll.
    ends: u64,
    /// The last poll was long: the next one probably is.
    long: bool,
}

impl<'a> Meter<'a> {
    pub(super) fn new(spent: &'a Spent, limit: Duration) -> Self {
        Self { spent, limit, probation: None, run: Duration::ZERO, ends: 0, long: false }
    }

    /// With less time for a call while this is set.
    pub(super) fn shorter_while(self, probation: &'a AtomicBool) -> Self {
        Self { probation: Some(probation), ..self }
    }

    fn limit(&self) -> Duration {
        match self.probation {
            Some(probation) if probation.load(Ordering::Relaxed) => self.limit.min(ON_PROBATION),
            Some(_) | None => self.limit,
        }
    }

    /// Drives a future in which a guest runs, until it is done or the limit is passed. Whatever the
    /// guest was doing then goes on no more, provided that its `wasmtime::Store` is dropped.
    pub(super) async fn within<T>(
        mut self,
        work: impl Future<Output = T>,
        inside: impl Fn() -> Inside,
    ) -> Result<T, Overrun> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            let before = inside();
            let stopwatch = Stopwatch::start(self.long);
            let polled = work.as_mut().poll(cx);
            let time = stopwatch.stop();
            self.long = time >= LONG_POLL;
            match polled {
                Poll::Ready(done) => Poll::Ready(Ok(done)),
                Poll::Pending if self.passed(time, before, inside()) => {
                    Poll::Ready(Err(Overrun(self.limit())))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Charges a poll; whether the limit is passed.
    fn passed(&mut self, time: Duration, before: Inside, after: Inside) -> bool {
        // Those that left during the poll had their part in it, as those that came.
        self.spent.charge(time, before.calls.max(after.calls));
        let ends = self.spent.ends.load(Ordering::Relaxed);
        match std::mem::replace(&mut self.ends, ends) == ends {
            true => self.run += time,
            false => self.run = Duration::ZERO,
        }
        let share = after.oldest.map(|since| self.spent.share().saturating_sub(since));
        self.run.max(share.unwrap_or_default()) > self.limit()
    }
}

/// Measures one poll. A poll stays on its thread.
struct Stopwatch {
    wall: Instant,
    thread: Option<Duration>,
}

impl Stopwatch {
    fn start(long: bool) -> Self {
        Self { wall: Instant::now(), thread: long.then(thread_time) }
    }

    fn stop(self) -> Duration {
        match self.thread {
            Some(start) => thread_time().saturating_sub(start),
            // A poll that nobody expected to be long: an epoch has ended it, and what is above was
            // another process's.
            None => self.wall.elapsed().min(EPOCH),
        }
    }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    fn inside(calls: usize, oldest_ms: u64) -> Inside {
        Inside { calls, oldest: Some(Duration::from_millis(oldest_ms)) }
    }

    /// Polls of 10 ms until the limit is passed, at most 1,000.
    fn polls(mut each: impl FnMut(&Spent, &mut Meter<'_>) -> bool) -> usize {
        let spent = Spent::default();
        let mut meter = Meter::new(&spent, LIMIT);
        (1..=1_000).find(|_| each(&spent, &mut meter)).unwrap_or(usize::MAX)
    }

    /// Keeps this thread's core busy.
    fn work(time: Duration) {
        let began = thread_time();
        while thread_time() - began < time {
            std::hint::black_box(0);
        }
    }

    #[test]
    fn a_call_that_runs_on_and_on_passes_the_limit_however_many_wait_beside_it() {
        for calls in [1, 256] {
            let run = polls(|_, meter| meter.passed(EPOCH, inside(calls, 0), inside(calls, 0)));
            assert_eq!(run, 11, "{calls} calls");
        }
    }

    #[test]
    fn on_probation_a_call_has_less_time_and_never_more() {
        let (spent, probation) = (Spent::default(), AtomicBool::new(true));
        let limit = |usual| Meter::new(&spent, usual).shorter_while(&probation).limit();
        assert_eq!(limit(Duration::from_secs(10)), ON_PROBATION);
        assert_eq!(limit(LIMIT), LIMIT);
        probation.store(false, Ordering::Relaxed);
        assert_eq!(limit(Duration::from_secs(10)), Duration::from_secs(10));
    }

    #[test]
    fn a_call_that_asks_the_host_between_its_polls_pays_by_its_share() {
        let turns = |calls| {
            polls(|spent, meter| {
                spent.end_run();
                meter.passed(EPOCH, inside(calls, 0), inside(calls, 0))
            })
        };
        assert_eq!(turns(1), 11);
        assert_eq!(turns(10), 101);
    }

    #[test]
    fn a_busy_instance_of_short_calls_never_passes_the_limit() {
        let busy = polls(|spent, meter| {
            spent.end_run();
            let now = u64::try_from(spent.share().as_millis()).unwrap();
            meter.passed(EPOCH, inside(1, now), inside(1, now))
        });
        assert_eq!(busy, usize::MAX);
    }

    #[test]
    fn time_in_which_others_had_the_core_is_not_charged() {
        let stopwatch = Stopwatch::start(true);
        let other = std::thread::spawn(|| work(Duration::from_millis(20)));
        other.join().unwrap();
        let charged = stopwatch.stop();
        assert!(charged < Duration::from_millis(10), "{charged:?}");
    }

    #[test]
    fn what_the_thread_has_worked_is_charged() {
        let stopwatch = Stopwatch::start(true);
        work(Duration::from_millis(5));
        assert!(stopwatch.stop() >= Duration::from_millis(5));
    }
}
