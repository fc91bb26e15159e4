//! The instances of one component: who takes which call, what happens when one is lost.
//!
//! Accounts are spread over the instances by hash, so that a call on which an instance fails costs
//! only the calls beside it. A read that was lost with its instance is tried once more, alone in a
//! fresh instance that nobody else uses: it costs nobody else anything if it was the culprit, and a
//! bystander is never lost twice. A write is given back: its caller has the transaction and decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::Label;
use postroom_core::error::StoreError;
use postroom_core::types::AccountId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::convert;
use super::host::OpenCall;
use super::instance::{Ended, Enter, Instance, Made, NotMade, Outcome, Seat, Template};
use super::manifest::Kind;

/// How often a place looks after its instance: for calls whose callers have gone, and for age.
const LOOK: Duration = Duration::from_millis(250);
/// How long a killed instance may take to let go of its thread before it is reported.
const KILL_TIME: Duration = Duration::from_secs(1);
/// Second attempts at a time, in instances of their own: bounds what a burst of losses costs.
const SECOND_ATTEMPTS: usize = 8;
/// Wait before another instance is made when making one has failed; doubles up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest such wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// Times that a call looks for another instance because the one it found has just been closed.
const MAX_MOVES: usize = 8;

/// Which function of which interface; labels of metrics and spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
}

/// The instances of one component.
pub(super) struct Pool {
    template: Arc<Template>,
    places: Vec<Place>,
    second_attempts: Semaphore,
    stop: CancellationToken,
    drains: Drains,
}

/// One place in the pool: there is always one instance in it, or one on its way.
struct Place {
    current: watch::Receiver<Option<Arc<Instance>>>,
    waiting: Arc<AtomicU64>,
}

/// What became of one attempt.
enum Attempt<R> {
    Answered(Result<R, StoreError>),
    /// Lost; whether this very call was the reason, and what it was.
    Lost {
        culprit: bool,
        why: String,
    },
    /// Not started.
    Refused(StoreError),
}

impl Pool {
    /// Makes all instances; fails when one cannot be made.
    pub(super) async fn start(template: Template) -> Result<Self, NotMade> {
        let template = Arc::new(template);
        let drains = Drains {
            template: template.clone(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
        };
        let mut pool = Self {
            second_attempts: Semaphore::new(SECOND_ATTEMPTS),
            places: Vec::new(),
            template,
            stop: CancellationToken::new(),
            drains,
        };
        for _ in 0..pool.template.limits.instances {
            let first = pool.template.make().await?;
            let (publish, current) = watch::channel(Some(first.0.clone()));
            let keeper = Keeper {
                template: pool.template.clone(),
                publish,
                stop: pool.stop.clone(),
                drains: pool.drains.clone(),
            };
            pool.drains.tasks.spawn(keeper.keep(first));
            pool.places.push(Place { current, waiting: Arc::default() });
        }
        Ok(pool)
    }

    /// A call that only reads: lost with its instance, it is tried once more.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        verb: Verb,
        call: impl Fn() -> OpenCall + Send + Sync,
        enter: impl Fn() -> Enter<R> + Send + Sync,
    ) -> Result<R, StoreError> {
        let began = Instant::now();
        let first = call();
        let span = self.span(verb, &first);
        let attempts = async {
            let why = match self.attempt(first, enter()).await {
                Attempt::Answered(result) => return result,
                Attempt::Refused(error) => return Err(error),
                Attempt::Lost { why, .. } => why,
            };
            tracing::debug!(why, "a read was lost with its instance; it is tried again");
            self.count("postroom_guest_reads_repeated_total", verb);
            match self.attempt_alone(call(), enter()).await {
                Attempt::Answered(result) => result,
                Attempt::Refused(error) => Err(error),
                Attempt::Lost { why, .. } => {
                    tracing::error!(why, "this call has killed two instances");
                    Err(StoreError::Broken(format!("{} {}: {why}", verb.kind.name(), verb.name)))
                }
            }
        };
        let result = attempts.instrument(span).await;
        self.measure(verb, began, result.as_ref().err());
        result
    }

    /// A call that writes: what is lost is given back. Nothing of it is kept either way unless the
    /// caller commits its transaction, which it must not do after an error.
    pub(super) async fn write<R: Send + 'static>(
        &self,
        verb: Verb,
        call: OpenCall,
        enter: Enter<R>,
    ) -> Result<R, StoreError> {
        let began = Instant::now();
        let span = self.span(verb, &call);
        let result = match self.attempt(call, enter).instrument(span).await {
            Attempt::Answered(result) => result,
            Attempt::Refused(error) => Err(error),
            Attempt::Lost { culprit: true, why } => {
                Err(StoreError::Broken(format!("{} {}: {why}", verb.kind.name(), verb.name)))
            }
            Attempt::Lost { culprit: false, why } => {
                let why = format!("the call was lost with its store instance ({why})");
                Err(StoreError::Unavailable(why))
            }
        };
        self.measure(verb, began, result.as_ref().err());
        result
    }

    /// Ends all instances; running calls get the drain time.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        self.drains.tasks.close();
        self.drains.tasks.wait().await;
    }

    /// Live instances and calls in them.
    pub(super) fn load(&self) -> (usize, usize) {
        let live = self.places.iter().filter_map(|place| place.current.borrow().clone());
        live.fold((0, 0), |(count, calls), instance| (count + 1, calls + instance.running()))
    }

    async fn attempt<R: Send + 'static>(&self, call: OpenCall, enter: Enter<R>) -> Attempt<R> {
        let place = &self.places[self.place_of(&call)];
        let call = Arc::new(call);
        let (instance, seat) = match self.admit(place, call.handles()).await {
            Ok(admitted) => admitted,
            Err(error) => return Attempt::Refused(error),
        };
        self.run(&instance, call, enter, seat).await
    }

    /// Runs a call in an instance of its own.
    async fn attempt_alone<R: Send + 'static>(
        &self,
        call: OpenCall,
        enter: Enter<R>,
    ) -> Attempt<R> {
        let making = async {
            // Nobody closes it: there is always a turn in the end.
            let turn = self.second_attempts.acquire().await.ok();
            self.template.make().await.map(|made| (turn, made))
        };
        // One wait for both, so that two attempts end within `Limits::answer_time`.
        let made = tokio::time::timeout(self.template.limits.queue_time(), making).await;
        let (_turn, made) = match made {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => {
                let why = format!("no store instance: {error}");
                return Attempt::Refused(StoreError::Unavailable(why));
            }
            Err(_) => {
                let why = "too many second attempts".to_owned();
                return Attempt::Refused(StoreError::Busy(why));
            }
        };
        let instance = made.0.clone();
        // Nobody else looks after it, and the caller may go away at any time.
        let _alone = Alone { drains: self.drains.clone(), made: Some(made) };
        let seat = instance.seat(call.handles()).await;
        let seat = seat.expect("a fresh instance has free places and handles");
        self.run(&instance, Arc::new(call), enter, seat).await
    }

    /// A free place in an instance that takes calls, or a typed refusal.
    async fn admit(
        &self,
        place: &Place,
        handles: u32,
    ) -> Result<(Arc<Instance>, Seat), StoreError> {
        let limits = &self.template.limits;
        if handles > limits.handles {
            let most = limits.handles;
            return Err(StoreError::Limit(format!(
                "{handles} handles in one call, at most {most}"
            )));
        }
        let _waiting = Waiting::enter(&place.waiting, limits.queue)?;
        let busy = || StoreError::Busy(format!("store component {}", self.template.name));
        let found = async {
            let mut current = place.current.clone();
            for _ in 0..MAX_MOVES {
                let open =
                    |slot: &Option<Arc<Instance>>| slot.as_ref().is_some_and(|i| i.is_open());
                let Ok(instance) = current.wait_for(open).await.map(|slot| slot.clone()) else {
                    break;
                };
                let Some(instance) = instance else { continue };
                let Some(seat) = instance.seat(handles).await else { continue };
                if instance.is_open() {
                    return Ok((instance, seat));
                }
            }
            Err(busy())
        };
        tokio::time::timeout(limits.queue_time(), found).await.unwrap_or_else(|_| Err(busy()))
    }

    async fn run<R: Send + 'static>(
        &self,
        instance: &Arc<Instance>,
        call: Arc<OpenCall>,
        enter: Enter<R>,
        seat: Seat,
    ) -> Attempt<R> {
        // Only this caller's future may keep the handles open: when it is dropped, they close.
        let guard = Abandon { call: Arc::downgrade(&call) };
        let Some(answer) = instance.start(call, enter, seat) else {
            let why = "the store instance has just been closed".to_owned();
            return Attempt::Lost { culprit: false, why };
        };
        let limit = self.template.limits.call_time();
        let outcome = tokio::time::timeout(limit, answer).await;
        drop(guard);
        match outcome {
            Ok(Ok(Outcome::Answered(answer))) => Attempt::Answered(answer.map_err(convert::error)),
            Ok(Ok(Outcome::Failed(why))) => Attempt::Lost { culprit: true, why },
            Ok(Err(closed)) => lost(instance, closed),
            Err(_) => {
                let why = format!("no answer within {} ms", limit.as_millis());
                instance.kill(why.clone());
                Attempt::Lost { culprit: true, why }
            }
        }
    }

    /// The place of an account. The directory has no account: its calls go round.
    fn place_of(&self, call: &OpenCall) -> usize {
        let AccountId(account) = call.info.account;
        let spread = if account == [0; 16] { call.info.transaction.0 } else { account };
        let digest = blake3::hash(&spread);
        let bits = digest.as_bytes()[..8].try_into().map_or(0, u64::from_le_bytes);
        // The remainder is below the number of places, which fits.
        (bits % self.places.len() as u64) as usize
    }

    fn span(&self, verb: Verb, call: &OpenCall) -> tracing::Span {
        tracing::debug_span!(
            "guest_call",
            component = &*self.template.name,
            kind = verb.kind.name(),
            verb = verb.name,
            transaction = %call.info.transaction,
            account = %call.info.account,
        )
    }

    fn measure(&self, verb: Verb, began: Instant, error: Option<&StoreError>) {
        let outcome = match error {
            None => "ok",
            Some(StoreError::Busy(_)) => "busy",
            Some(StoreError::Broken(_)) => "broken",
            Some(StoreError::Unavailable(_)) => "unavailable",
            Some(_) => "refused",
        };
        let mut labels = self.labels(verb);
        metrics::histogram!("postroom_guest_call_seconds", labels.clone()).record(began.elapsed());
        labels.push(Label::from_static_parts("outcome", outcome));
        metrics::counter!("postroom_guest_calls_total", labels).increment(1);
    }

    fn count(&self, name: &'static str, verb: Verb) {
        metrics::counter!(name, self.labels(verb)).increment(1);
    }

    /// Without copying a text: this is on the way of every call.
    fn labels(&self, verb: Verb) -> Vec<Label> {
        vec![
            Label::new("component", self.template.name.clone()),
            Label::from_static_parts("kind", verb.kind.name()),
            Label::from_static_parts("verb", verb.name),
        ]
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The reply slot was closed: the instance has ended under the call.
fn lost<R>(instance: &Instance, _closed: oneshot::error::RecvError) -> Attempt<R> {
    let (culprit, why) = match instance.ended() {
        Some(Ended::Trapped { why, running }) => (*running == 1, why.clone()),
        Some(Ended::Killed(why)) => (false, why.clone()),
        Some(Ended::Closed) | None => (false, "its driver ended".to_owned()),
    };
    Attempt::Lost { culprit, why }
}

/// Counts who waits for one place.
struct Waiting(Arc<AtomicU64>);

impl Waiting {
    fn enter(count: &Arc<AtomicU64>, most: u32) -> Result<Self, StoreError> {
        let waiting = Self(count.clone());
        if count.fetch_add(1, Ordering::Relaxed) >= u64::from(most).max(1) {
            return Err(StoreError::Busy("the store component's queue is full".to_owned()));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes a call's handles when its caller stops waiting.
struct Abandon {
    call: std::sync::Weak<OpenCall>,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(call) = self.call.upgrade() {
            call.abandon();
        }
    }
}

/// An instance that is there for one call: let go however the call ends, also when nobody waits for
/// it any more.
struct Alone {
    drains: Drains,
    made: Option<Made>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some(made) = self.made.take() {
            self.drains.drain(made);
        }
    }
}

/// Keeps one place filled.
struct Keeper {
    template: Arc<Template>,
    publish: watch::Sender<Option<Arc<Instance>>>,
    stop: CancellationToken,
    drains: Drains,
}

/// Why an instance leaves its place.
enum Leaves {
    /// Its driver has ended.
    Ended,
    /// It has served long enough.
    Retires,
    /// The pool is closed.
    Stops,
}

impl Keeper {
    async fn keep(self, first: Made) {
        let mut made = first;
        loop {
            let leaves = self.watch_over(&made.0, &mut made.1).await;
            let next = match leaves {
                Leaves::Ended => {
                    self.report(&made.0);
                    None
                }
                // The next one is made first: nobody waits for a planned change.
                Leaves::Retires => self.successor().await,
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
                _ = look.tick() => {}
            }
            // Callers keep their own deadlines; this is for calls whose callers have gone.
            if instance.oldest().is_some_and(|oldest| oldest > limits.call_time() + LOOK) {
                instance.kill(format!("no answer within {} ms", limits.call_ms));
            }
            let old = limits.retire_s > 0 && instance.born.elapsed() >= age;
            if old || (limits.retire_calls > 0 && instance.taken() >= calls.max(1)) {
                return Leaves::Retires;
            }
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
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
            }
        }
    }

    fn report(&self, instance: &Instance) {
        let (reason, why) = match instance.ended() {
            Some(Ended::Trapped { why, .. }) => ("trap", why.as_str()),
            Some(Ended::Killed(why)) => ("deadline", why.as_str()),
            Some(Ended::Closed) => return,
            None => ("panic", "the host failed in one of its functions"),
        };
        let component = &*self.template.name;
        let (number, served) = (instance.number, instance.taken());
        tracing::warn!(component, number, served, reason, why, "a store instance was lost");
        let labels = [("component", component.to_owned()), ("reason", reason.to_owned())];
        metrics::counter!("postroom_guest_instances_lost_total", &labels).increment(1);
    }
}

/// Lets instances go.
#[derive(Clone)]
struct Drains {
    template: Arc<Template>,
    tasks: TaskTracker,
    /// Where the pool lives: an instance may be let go by whoever drops a call.
    runtime: Handle,
}

impl Drains {
    /// Lets an instance finish its calls, then drops it; with a hard limit.
    fn drain(&self, (instance, mut driver): Made) {
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
