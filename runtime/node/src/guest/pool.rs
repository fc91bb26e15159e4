//! The instances of one component: who takes which call, what happens when one is lost.
//!
//! Accounts are spread over the instances by hash, so that a call on which an instance fails costs
//! only the calls beside it. A read that was lost with its instance is tried once more, alone in a
//! fresh instance that nobody else uses: it costs nobody else anything if it was the culprit, and a
//! bystander is never lost twice. A write is given back: its caller has the transaction and decides;
//! if it comes again it is alone too. What is lost a second time is refused for a while (see
//! `quarantine`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metrics::Label;
use postroom_core::deploy::evidence::Wear;
use postroom_core::error::StoreError;
use postroom_core::types::AccountId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::convert;
use super::host::OpenCall;
use super::instance::{Ended, Enter, Instance, Made, NotMade, Outcome, Seat, Template};
use super::keeper::{Drains, Keeper};
use super::quarantine::{Operation, Quarantined, Standing, Suspect};

/// Second attempts at a time, in instances of their own: bounds what a burst of losses costs.
const SECOND_ATTEMPTS: usize = 8;
/// Times that a call looks for another instance because the one it found has just been closed.
const MAX_MOVES: usize = 8;

/// Which function of which interface; labels of metrics and spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Verb {
    pub(super) interface: &'static str,
    pub(super) name: &'static str,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.interface, self.name)
    }
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
    /// Lost; whether this very call was the reason, whether nobody was beside it, and what it was.
    Lost {
        culprit: bool,
        alone: bool,
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
        let (span, suspect) = (self.span(verb, &first), suspect(verb, &first));
        let attempts = async {
            let why = match self.attempt(suspect, first, enter()).await {
                Attempt::Answered(result) => return result,
                Attempt::Refused(error) => return Err(error),
                Attempt::Lost { alone: true, why, .. } => return Err(broken(verb, &why)),
                Attempt::Lost { alone: false, why, .. } => why,
            };
            tracing::debug!(why, "a read was lost with its instance; it is tried again");
            self.count("postroom_guest_reads_repeated_total", verb);
            match self.attempt_alone(suspect, call(), enter()).await {
                Attempt::Answered(result) => result,
                Attempt::Refused(error) => Err(error),
                Attempt::Lost { why, .. } => Err(broken(verb, &why)),
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
        let (span, suspect) = (self.span(verb, &call), suspect(verb, &call));
        let result = match self.attempt(suspect, call, enter).instrument(span).await {
            Attempt::Answered(result) => result,
            Attempt::Refused(error) => Err(error),
            Attempt::Lost { culprit: true, why, .. } => Err(broken(verb, &why)),
            Attempt::Lost { culprit: false, why, .. } => {
                let why = format!("the call was lost with its store instance ({why})");
                Err(StoreError::Unavailable(why))
            }
        };
        self.measure(verb, began, result.as_ref().err());
        result
    }

    /// Operations that are refused at the moment.
    pub(super) fn quarantined(&self) -> Vec<Quarantined> {
        self.template.quarantine.shown(Instant::now())
    }

    /// It goes on probation, or has passed it.
    pub(super) fn set_probation(&self, is_on: bool) {
        self.template.health.probation().store(is_on, Ordering::Relaxed);
    }

    /// Instances that went before their time.
    pub(super) fn wear(&self) -> Wear {
        self.template.health.told()
    }

    /// How long running calls get when their instance goes.
    pub(super) fn drain_time(&self) -> std::time::Duration {
        self.template.limits.drain_time()
    }

    /// Whether it takes no more calls.
    pub(super) fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
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

    /// Handles that all guests have.
    pub(super) fn handles(&self) -> usize {
        let live = self.places.iter().filter_map(|place| place.current.borrow().clone());
        live.map(|instance| instance.held.load(Ordering::Relaxed)).sum()
    }

    /// One attempt, among others or (a suspect) alone.
    async fn attempt<R: Send + 'static>(
        &self,
        suspect: Suspect,
        call: OpenCall,
        enter: Enter<R>,
    ) -> Attempt<R> {
        let standing = || self.template.quarantine.standing(&suspect.operation, Instant::now());
        match standing() {
            Standing::Free => {}
            Standing::Alone => return self.attempt_alone(suspect, call, enter).await,
            Standing::Refused(error) => return Attempt::Refused(error),
        }
        let place = &self.places[self.place_of(&call)];
        let (instance, seat) = match self.admit(place, call.handles()).await {
            Ok(admitted) => admitted,
            Err(error) => return Attempt::Refused(error),
        };
        // It may have waited for a place, in company of calls of the same operation.
        if standing() != Standing::Free {
            drop(seat);
            return self.attempt_alone(suspect, call, enter).await;
        }
        let call = Arc::new(call);
        self.run(&instance, suspect, call, enter, seat).await
    }

    /// Runs a call in an instance of its own.
    async fn attempt_alone<R: Send + 'static>(
        &self,
        suspect: Suspect,
        call: OpenCall,
        enter: Enter<R>,
    ) -> Attempt<R> {
        // One wait for both, so that two attempts end within `Limits::answer_time`.
        let wait = self.template.limits.queue_time();
        let (_turn, made) = match tokio::time::timeout(wait, self.make_alone(&suspect)).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Attempt::Refused(error),
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
        match self.run(&instance, suspect, Arc::new(call), enter, seat).await {
            Attempt::Lost { culprit, why, .. } => Attempt::Lost { culprit, alone: true, why },
            Attempt::Refused(error) => Attempt::Refused(error),
            Attempt::Answered(result) => {
                self.template.quarantine.cleared(&suspect.operation);
                Attempt::Answered(result)
            }
        }
    }

    /// A turn and an instance for a call that is to be alone.
    async fn make_alone(
        &self,
        suspect: &Suspect,
    ) -> Result<(SemaphorePermit<'_>, Made), StoreError> {
        let turn = self.second_attempts.acquire().await;
        let turn = turn.expect("nobody closes it: there is always a turn in the end");
        // Others of the same operation may have shown by now what it does.
        let now = Instant::now();
        if let Standing::Refused(error) = self.template.quarantine.standing(&suspect.operation, now)
        {
            return Err(error);
        }
        let made = self.template.make().await;
        let made =
            made.map_err(|error| StoreError::Unavailable(format!("no store instance: {error}")))?;
        Ok((turn, made))
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
        suspect: Suspect,
        call: Arc<OpenCall>,
        enter: Enter<R>,
        seat: Seat,
    ) -> Attempt<R> {
        // Only this caller's future may keep the handles open: when it is dropped, they close.
        let guard = Abandon { call: Arc::downgrade(&call) };
        let Some(answer) = instance.start(suspect, call, enter, seat) else {
            let why = "the store instance has just been closed".to_owned();
            return Attempt::Lost { culprit: false, alone: false, why };
        };
        let limit = self.template.limits.call_time();
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Outcome::Answered(answer))) => Attempt::Answered(answer.map_err(convert::error)),
            Ok(Ok(Outcome::Failed(why))) => Attempt::Lost { culprit: true, alone: false, why },
            Ok(Err(closed)) => lost(instance, &suspect.operation, closed),
            Err(_) => {
                let why = format!("no answer within {} ms", limit.as_millis());
                let alone = instance.running() == 1;
                // Where it was the host that did not answer, the guest is not to blame.
                if !guard.waits_for_host() {
                    self.template.overdue(&[suspect], alone, &why);
                }
                instance.kill(why.clone());
                // Among others it may be one that was held up.
                Attempt::Lost { culprit: alone, alone: false, why }
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
            kind = verb.interface,
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
            Label::from_static_parts("kind", verb.interface),
            Label::from_static_parts("verb", verb.name),
        ]
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A call, as one that an instance may be lost with.
fn suspect(verb: Verb, call: &OpenCall) -> Suspect {
    Suspect { operation: call.operation(verb), transaction: call.info.transaction }
}

/// The store component has failed at this call.
fn broken(verb: Verb, why: &str) -> StoreError {
    StoreError::Broken(format!("{verb}: {why}"))
}

/// The reply slot was closed: the instance has ended under the call.
fn lost<R>(
    instance: &Instance,
    operation: &Operation,
    _closed: oneshot::error::RecvError,
) -> Attempt<R> {
    let (culprit, why) = match instance.ended() {
        Some(Ended::Lost { why, culprit, .. }) => (*culprit == Some(*operation), why.clone()),
        Some(Ended::Closed) | None => (false, "its driver ended".to_owned()),
    };
    Attempt::Lost { culprit, alone: false, why }
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

impl Abandon {
    fn waits_for_host(&self) -> bool {
        self.call.upgrade().is_some_and(|call| call.waits_for_host())
    }
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
