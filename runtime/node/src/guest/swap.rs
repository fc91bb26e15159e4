//! One store of the configuration, whose component can be replaced while calls run.
//!
//! A call goes to the generation that serves as it begins, and finishes there. A switch is one
//! pointer; the generation before it gets its drain time ([`Limits`](super::Limits)) for the calls that it
//! has, then these are *fenced*: their futures end, which closes every handle that they hold, so that
//! whatever the guest does later reaches nothing. A fenced read is made again on the generation that
//! serves; a fenced write is `Unavailable`. As no guest commits anything, a late commit of an old
//! generation cannot exist.
//!
//! Two generations at most. While the newer one is *tentative* the other is kept at hand, with its
//! instances, and the first answer that is the newer one's own fault switches back before that answer
//! is given: the call is made again on the one before, after what it has written so far was taken out of
//! its transaction. So nobody above sees the fault.

mod calls;
mod count;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postroom_core::deploy::evidence::Evidence;
use postroom_core::error::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::count::Counts;
use super::component::StoreComponent;
use super::manifest::{Kind, Medium};
use super::pool::Verb;
use crate::storage::Txn;

/// Times that a call is made whose generation went: a switch follows another only when that is settled, so
/// more than one repeat is a coincidence.
const MAX_CALLS: usize = 3;

/// Why a component does not take over, by what is to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// There would be three generations: one is on probation, or has calls yet. Try again.
    #[error("another switch is not settled yet")]
    Unsettled,
    /// It cannot do what the store is used for.
    #[error("{0}")]
    Unfit(String),
}

/// A component while calls go to it.
struct Generation {
    component: Arc<StoreComponent>,
    /// Whether the generation before it may come back.
    tentative: bool,
    /// Calls in it; waits for the last one.
    calls: TaskTracker,
    /// Calls in the component, in whichever of its generations: it may serve, stand by and serve again.
    of_component: TaskTracker,
    fence: CancellationToken,
    counts: Arc<Counts>,
}

/// A generation, for operators.
pub struct GenerationInfo {
    /// What it runs.
    pub component: Arc<StoreComponent>,
    /// Whether new calls go to it.
    pub serves: bool,
    /// Whether it is on probation.
    pub tentative: bool,
    /// Calls in it.
    pub calls: u64,
}

struct Slots {
    serving: Arc<Generation>,
    /// Kept at hand while the serving one is tentative.
    previous: Option<Arc<Generation>>,
    /// Why the last tentative generation went by itself.
    trip: Option<String>,
}

/// A store whose component can be replaced. Implements the traits of stores and hooks by its
/// generations.
pub struct SwappableStore {
    name: String,
    kinds: Vec<Kind>,
    hooks: bool,
    slots: Mutex<Slots>,
    /// Generations that go.
    draining: TaskTracker,
    tripped: watch::Sender<Option<String>>,
}

/// A call's place in a generation: the generation does not end while it is held, or fences it.
struct Place {
    generation: Arc<Generation>,
    _tokens: [TaskTrackerToken; 2],
}

/// What became of a call in a generation.
enum Ran<T> {
    Answered(Result<T, StoreError>),
    /// The generation's time was over.
    Fenced,
    /// The answer was a fault of a tentative generation, and the one before it serves again.
    Tripped,
}

impl SwappableStore {
    /// A store that is used for these kinds of record, and as a hook or not.
    pub fn new(
        name: impl Into<String>,
        component: Arc<StoreComponent>,
        kinds: Vec<Kind>,
        hooks: bool,
    ) -> Self {
        let serving = Generation::new(component, false, Arc::new(Counts::default()));
        let slots = Slots { serving: Arc::new(serving), previous: None, trip: None };
        Self {
            name: name.into(),
            kinds,
            hooks,
            slots: Mutex::new(slots),
            draining: TaskTracker::new(),
            tripped: watch::Sender::new(None),
        }
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The component that new calls go to.
    pub fn serving(&self) -> Arc<StoreComponent> {
        self.lock().serving.component.clone()
    }

    /// Whether what serves is on probation.
    pub fn is_tentative(&self) -> bool {
        self.lock().serving.tentative
    }

    /// The generations that are there, the serving one first.
    pub fn generations(&self) -> Vec<GenerationInfo> {
        let slots = self.lock();
        let info = |generation: &Arc<Generation>, serves| GenerationInfo {
            component: generation.component.clone(),
            serves,
            tentative: generation.tentative,
            calls: generation.calls.len() as u64,
        };
        let previous = slots.previous.iter().map(|previous| info(previous, false));
        std::iter::once(info(&slots.serving, true)).chain(previous).collect()
    }

    /// Lets another component serve. Tentative: the one before it is kept at hand until
    /// [`make_permanent`](Self::make_permanent) or [`roll_back`](Self::roll_back).
    pub fn switch(&self, to: Arc<StoreComponent>, tentative: bool) -> Result<(), SwitchError> {
        self.fits(&to)?;
        let mut slots = self.lock();
        if slots.previous.is_some() || !self.draining.is_empty() {
            return Err(SwitchError::Unsettled);
        }
        slots.trip = None;
        let next = Arc::new(Generation::new(to, tentative, Arc::default()));
        let old = std::mem::replace(&mut slots.serving, next);
        if tentative {
            // It goes on as a generation of its own when it is needed again.
            slots.previous = Some(Arc::new(old.again()));
        }
        drop(slots);
        self.tripped.send_replace(None);
        self.count("switched");
        self.finish(old, !tentative);
        Ok(())
    }

    /// Keeps what serves; nothing happens when it is kept already.
    pub fn make_permanent(&self) {
        let mut slots = self.lock();
        let Some(previous) = slots.previous.take() else { return };
        let kept = slots.serving.permanent();
        let old = std::mem::replace(&mut slots.serving, Arc::new(kept));
        drop(slots);
        self.count("permanent");
        // Calls stay where they are: it is the same component.
        drop(old);
        self.finish(previous, true);
    }

    /// Lets the generation before serve again; nothing happens when none is kept.
    pub fn roll_back(&self, why: String) {
        let mut slots = self.lock();
        if self.go_back(&mut slots).is_some() {
            drop(slots);
            let (store, why) = (&*self.name, why.as_str());
            tracing::warn!(store, why, "the store component before serves again");
        }
    }

    /// What has been seen while the serving one is tentative.
    pub fn evidence(&self) -> Evidence {
        let slots = self.lock();
        let baseline = slots.previous.as_ref().map(|previous| previous.counts.told());
        let tentative = slots.serving.tentative.then(|| slots.serving.counts.told());
        Evidence {
            tentative: tentative.unwrap_or_default(),
            baseline: baseline.unwrap_or_default(),
            trip: slots.trip.clone(),
        }
    }

    /// Why the last tentative generation went by itself, as soon as it has.
    pub fn tripped(&self) -> watch::Receiver<Option<String>> {
        self.tripped.subscribe()
    }

    /// Takes no more calls; returns when those under way have finished or their time is over.
    pub async fn close(&self) {
        let (serving, previous) = {
            let mut slots = self.lock();
            (slots.serving.clone(), slots.previous.take())
        };
        if let Some(previous) = previous {
            previous.component.close().await;
        }
        serving.component.close().await;
        self.draining.close();
        self.draining.wait().await;
    }

    fn fits(&self, to: &StoreComponent) -> Result<(), SwitchError> {
        if let Some(missing) = self.kinds.iter().find(|kind| !to.keeps(**kind)) {
            let text = format!("it keeps no {}, which this store is used for", missing.name());
            return Err(SwitchError::Unfit(text));
        }
        if self.hooks && !to.has_hooks() {
            return Err(SwitchError::Unfit("it has no hooks, which this store is used for".into()));
        }
        match medium(to) == medium(&self.serving()) {
            true => Ok(()),
            false => Err(SwitchError::Unfit(
                "its records live elsewhere than those of the version before".into(),
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // Nothing that holds it leaves it half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: &'static str) {
        let labels = [("component", self.name.clone()), ("outcome", outcome.to_owned())];
        metrics::counter!("postroom_store_switches_total", &labels).increment(1);
    }

    /// The pointer goes back; the generation that went, if there was one to go back to.
    fn go_back(&self, slots: &mut Slots) -> Option<()> {
        let previous = slots.previous.take()?;
        let gone = std::mem::replace(&mut slots.serving, previous);
        self.count("rolled back");
        self.finish(gone, true);
        Some(())
    }

    /// Lets a generation finish its calls, fences what is left, and drops its instances if nobody
    /// needs them any more.
    fn finish(&self, generation: Arc<Generation>, close: bool) {
        generation.calls.close();
        self.draining.spawn(async move {
            let time = generation.component.drain_time();
            if tokio::time::timeout(time, generation.calls.wait()).await.is_err() {
                let (component, calls) = (generation.component.name(), generation.calls.len());
                tracing::warn!(component, calls, "calls of an old generation are fenced");
                generation.fence.cancel();
                generation.calls.wait().await;
            }
            if close {
                generation.of_component.close();
                generation.of_component.wait().await;
                generation.component.close().await;
            }
        });
    }

    /// A place in the generation that serves.
    fn enter(&self) -> Place {
        let slots = self.lock();
        // Under the lock: a generation is closed for good only after it has stopped to serve.
        let serving = &slots.serving;
        let tokens = [serving.calls.token(), serving.of_component.token()];
        Place { generation: serving.clone(), _tokens: tokens }
    }

    /// Whether a call is to be made again because of its answer. One that is a tentative generation's own
    /// fault ends that generation.
    fn trips(&self, generation: &Arc<Generation>, verb: Verb, error: &StoreError) -> bool {
        match error {
            _ if !generation.tentative => return false,
            StoreError::Broken(_) => {}
            // Lost beside another call, which is what is held against it, or too many were lost; or storage is
            // away, and still is.
            StoreError::Unavailable(_) | StoreError::Busy(_) => return true,
            _ => return false,
        }
        let slots = self.lock();
        match Arc::ptr_eq(&slots.serving, generation) {
            true => self.trip_now(slots, format!("{verb}: {error}")),
            // Somebody else's call was first.
            false => true,
        }
    }

    /// Switches back because of what was seen of this component, if it serves and is tentative.
    pub fn trip(&self, component: &Arc<StoreComponent>, why: String) {
        let slots = self.lock();
        if slots.serving.tentative && Arc::ptr_eq(&slots.serving.component, component) {
            self.trip_now(slots, why);
        }
    }

    /// Whether there was one to go back to.
    fn trip_now(&self, mut slots: MutexGuard<'_, Slots>, why: String) -> bool {
        if self.go_back(&mut slots).is_none() {
            return false;
        }
        slots.trip = Some(why.clone());
        drop(slots);
        let store = &*self.name;
        tracing::warn!(store, why, "a version on probation failed: the one before serves again");
        self.tripped.send_replace(Some(why));
        true
    }

    async fn run<T>(
        &self,
        place: Place,
        verb: Verb,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Ran<T> {
        let began = Instant::now();
        let generation = place.generation.clone();
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            () = generation.fence.cancelled() => return Ran::Fenced,
        };
        generation.counts.note(verb, began.elapsed(), answer.as_ref().err());
        match answer {
            Err(error) if self.trips(&generation, verb, &error) => Ran::Tripped,
            answer => Ran::Answered(answer),
        }
    }

    /// A call that only reads.
    async fn read<T, F>(
        &self,
        verb: Verb,
        call: impl Fn(Arc<StoreComponent>) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        for _ in 0..MAX_CALLS {
            let place = self.enter();
            let component = place.generation.component.clone();
            match self.run(place, verb, call(component)).await {
                Ran::Answered(answer) => return answer,
                Ran::Fenced | Ran::Tripped => {}
            }
        }
        Err(changing())
    }

    /// A call that writes to a transaction, as often as a version on probation makes it come to nothing:
    /// what that one has written is taken out again before.
    async fn write<T, A, F>(
        &self,
        verb: Verb,
        txn: &Txn,
        arguments: A,
        call: impl Fn(Arc<StoreComponent>, A) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        A: Clone + Send,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut place = self.enter();
        let mark = txn.mark();
        for _ in 1..MAX_CALLS {
            // Nothing else comes again: its arguments need not be there twice.
            if !place.generation.tentative {
                break;
            }
            let component = place.generation.component.clone();
            match self.run(place, verb, call(component, arguments.clone())).await {
                Ran::Answered(answer) => return answer,
                Ran::Fenced | Ran::Tripped => txn.rewind(mark),
            }
            place = self.enter();
        }
        let component = place.generation.component.clone();
        match self.run(place, verb, call(component, arguments)).await {
            Ran::Answered(answer) => answer,
            Ran::Fenced | Ran::Tripped => Err(changing()),
        }
    }

    /// A call that is made once, whatever becomes of it.
    async fn once<T, F>(
        &self,
        verb: Verb,
        call: impl FnOnce(Arc<StoreComponent>) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let place = self.enter();
        let component = place.generation.component.clone();
        match self.run(place, verb, call(component)).await {
            Ran::Answered(answer) => answer,
            Ran::Fenced | Ran::Tripped => Err(changing()),
        }
    }
}

fn changing() -> StoreError {
    StoreError::Unavailable("the store component was replaced while the call ran".to_owned())
}

fn medium(component: &StoreComponent) -> Medium {
    let manifest = component.inspection().manifest.as_ref();
    manifest.map_or(Medium::Host, |manifest| manifest.medium)
}

impl Generation {
    fn new(component: Arc<StoreComponent>, tentative: bool, counts: Arc<Counts>) -> Self {
        let (calls, fence) = (TaskTracker::new(), CancellationToken::new());
        Self { component, tentative, calls, of_component: TaskTracker::new(), fence, counts }
    }

    /// The same component with a fence of its own, for when it serves again.
    fn again(&self) -> Self {
        let again = Self::new(self.component.clone(), false, self.counts.clone());
        Self { of_component: self.of_component.clone(), ..again }
    }

    /// The same, no longer tentative: calls that run go on.
    fn permanent(&self) -> Self {
        Self {
            component: self.component.clone(),
            tentative: false,
            calls: self.calls.clone(),
            of_component: self.of_component.clone(),
            fence: self.fence.clone(),
            counts: self.counts.clone(),
        }
    }
}
