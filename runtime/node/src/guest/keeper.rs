//! Keeps the places of a pool filled: looks after an instance, replaces one that is lost or has
//! served long enough, and lets the old one go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::instance::{Instance, Made, NotMade, Template};

/// How often a place looks after its instance: for calls whose callers have gone, and for age.
const LOOK: Duration = Duration::from_millis(250);
/// How long a killed instance may take to let go of its thread before it is reported.
const KILL_TIME: Duration = Duration::from_secs(1);
/// Wait before another instance is made when making one has failed; doubles up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest such wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Keeps one place filled.
pub(super) struct Keeper {
    pub(super) template: Arc<Template>,
    pub(super) publish: watch::Sender<Option<Arc<Instance>>>,
    pub(super) stop: CancellationToken,
    pub(super) drains: Drains,
}

/// Why an instance leaves its place.
enum Leaves {
    /// Its driver has ended.
    Ended,
    /// It has served long enough; why.
    Retires(&'static str),
    /// The pool is closed.
    Stops,
}

impl Keeper {
    /// Until the pool is closed.
    pub(super) async fn keep(self, first: Made) {
        let mut made = first;
        loop {
            let leaves = self.watch_over(&made.0, &mut made.1).await;
            let next = match leaves {
                Leaves::Ended => {
                    self.report(&made.0);
                    None
                }
                // The next one is made first: nobody waits for a planned change.
                Leaves::Retires(reason) => {
                    let labels =
                        [("component", self.template.name.to_string()), ("reason", reason.into())];
                    metrics::counter!("postroom_guest_instances_retired_total", &labels)
                        .increment(1);
                    self.successor().await
                }
                Leaves::Stops => None,
            };
            self.publish.send_replace(next.as_ref().map(|next| next.0.clone()));
            self.drains.drain(made);
            made = match next {
                Some(next) => next,
                None if self.stop.is_cancelled() => return,
                None => {
                    let Some(next) = self.next().await else { return };
                    self.publish.send_replace(Some(next.0.clone()));
                    next
                }
            };
        }
    }

    async fn watch_over(&self, instance: &Instance, driver: &mut JoinHandle<()>) -> Leaves {
        let limits = &self.template.limits;
        // Up to an eighth earlier: instances of one start must not all retire at once.
        let jitter = 1.0 - f64::from(instance.number as u32 % 64) / 512.0;
        let age = Duration::from_secs(limits.retire_s).mul_f64(jitter);
        let calls = (limits.retire_calls as f64 * jitter) as u64;
        let mut look = tokio::time::interval(LOOK);
        loop {
            // Cancel-safe: a join handle and an interval keep their state outside.
            tokio::select! {
                _ = &mut *driver => return Leaves::Ended,
                () = self.stop.cancelled() => return Leaves::Stops,
                () = instance.worn.cancelled() => {
                    self.template.health.worn();
                    return Leaves::Retires("worn");
                }
                _ = look.tick() => {}
            }
            self.template.quarantine.tidy(Instant::now());
            self.end_overdue(instance);
            if limits.retire_s > 0 && instance.born.elapsed() >= age {
                return Leaves::Retires("age");
            }
            if limits.retire_calls > 0 && instance.taken() >= calls.max(1) {
                return Leaves::Retires("calls");
            }
        }
    }

    /// Callers keep their own deadlines; this is for calls whose callers have gone.
    fn end_overdue(&self, instance: &Instance) {
        let limits = &self.template.limits;
        let Some(oldest) = instance.oldest() else { return };
        if oldest.time > limits.call_time() + LOOK && !instance.is_killed() {
            let why = format!("no answer within {} ms", limits.call_ms);
            let (suspect, alone) = (oldest.suspect.as_slice(), instance.running() == 1);
            self.template.overdue(suspect, alone, &why);
            instance.kill(why);
        }
    }

    /// A new instance beside the one that retires; `None`: the pool is closed, or there is no room
    /// for both. Then the old one has to go first: it would serve for ever otherwise.
    async fn successor(&self) -> Option<Made> {
        match self.template.make().await {
            Ok(made) => Some(made),
            Err(NotMade::NoRoom) => None,
            // As long as no other can be made the old one is better than none.
            Err(_) => self.next().await,
        }
    }

    /// A new instance, however long it takes to make one; `None`: the pool is closed.
    async fn next(&self) -> Option<Made> {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.template.make().await {
                Ok(made) => return Some(made),
                Err(error) => {
                    let component = &*self.template.name;
                    tracing::error!(component, %error, "no new store instance; trying again");
                    self.template.pen.event(&format!("no new instance: {error}; trying again"));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
            }
        }
    }

    /// Tells of an instance whose driver could not do so itself.
    fn report(&self, instance: &Instance) {
        if instance.ended().is_some() {
            return;
        }
        let component = &*self.template.name;
        let (number, served) = (instance.number, instance.taken());
        let (reason, why) = ("panic", "the host failed in one of its functions");
        tracing::warn!(component, number, served, reason, why, "a store instance was lost");
        let pen = &self.template.pen;
        pen.event(&format!("instance {number} was lost after {served} calls, {reason}: {why}"));
        let labels = [("component", component.to_owned()), ("reason", reason.to_owned())];
        metrics::counter!("postroom_guest_instances_lost_total", &labels).increment(1);
    }
}

/// Lets instances go.
#[derive(Clone)]
pub(super) struct Drains {
    pub(super) template: Arc<Template>,
    pub(super) tasks: TaskTracker,
    /// Where the pool lives: an instance may be let go by whoever drops a call.
    pub(super) runtime: Handle,
}

impl Drains {
    /// Lets an instance finish its calls, then drops it; with a hard limit.
    pub(super) fn drain(&self, (instance, mut driver): Made) {
        instance.close();
        if driver.is_finished() {
            return;
        }
        let template = self.template.clone();
        let drained = async move {
            if tokio::time::timeout(template.limits.drain_time(), &mut driver).await.is_ok() {
                return;
            }
            instance.kill("its calls did not finish in time".to_owned());
            if tokio::time::timeout(KILL_TIME, &mut driver).await.is_err() {
                let component = &*template.name;
                tracing::error!(component, number = instance.number, "an instance does not let go");
                driver.abort();
            }
        };
        self.tasks.spawn_on(drained, &self.runtime);
    }
}
