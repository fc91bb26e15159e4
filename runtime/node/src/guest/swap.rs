//! One store of the configuration, whose component can be replaced while calls run.
//!
//! A call goes to the generation that serves as it begins, and finishes there. A switch is one
//! pointer; the generation before it gets its drain time ([`Limits`](super::Limits)) for the calls that it
//! has, then these are *fenced*: their futures end, which closes every handle that they hold, so that
//! whatever the guest does later reaches nothing. A fenced read is made again on the generation that
//! serves; a fenced write is `Unavailable`, but on probation, where it is made again too. As no guest
//! commits anything, a late commit of an old generation cannot exist.
//!
//! Two generations at most. While the newer one is *tentative* the other is kept at hand, with its
//! instances. What the newer one fails at is asked of the other, after what was written so far was taken
//! out of the transaction: nobody above sees the fault. Where the other can do it, or does not say so in
//! a moment (`run` says how long), the fault is the newer one's own, and it goes back before that call is
//! answered. Where the other fails too, it is the call that is bad, as it was before the switch. Where the
//! newer one was only not available, and the other was, that is a failure in the evidence. What the other is
//! asked so counts for neither: its own record is of the time in which it served.

mod calls;
mod count;
mod proof;
mod run;

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postroom_core::deploy::evidence::{Evidence, Wear, Wears};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::count::Counts;
use super::api::CallInfo;
use super::component::StoreComponent;
use super::journal::Journal;
use super::manifest::{Kind, Medium};
use super::round::{Telling, Told};

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
    /// Counts the components that have served here, from 1.
    number: u64,
    component: Arc<StoreComponent>,
    /// Whether the generation before it may come back.
    tentative: bool,
    /// Calls in it; waits for the last one.
    calls: TaskTracker,
    /// Calls in the component, in whichever of its generations: it may serve, stand by and serve again.
    of_component: TaskTracker,
    fence: CancellationToken,
    counts: Arc<Counts>,
    /// What its component had cost in instances as the generation began.
    wear: Wear,
    /// Writes of messages that could be looked at.
    proofs: AtomicU64,
    /// Whether its journal was told of a call that both versions fail at: there may be thousands.
    shared_told: AtomicBool,
}

/// A generation, for operators.
pub struct GenerationInfo {
    /// Counts the components that have served in this store since the node started, from 1.
    pub number: u64,
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
    /// Generations that there have been.
    count: u64,
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
    telling: Telling,
}

impl SwappableStore {
    /// A store that is used for these kinds of record, and as a hook or not.
    pub fn new(
        name: impl Into<String>,
        component: Arc<StoreComponent>,
        kinds: Vec<Kind>,
        hooks: bool,
    ) -> Self {
        let name = name.into();
        component.pen.serves_as(1);
        component.pen.event("serves");
        let serving = Arc::new(Generation::new(1, component, false, Arc::default()));
        let slots = Slots { serving, previous: None, trip: None, count: 1 };
        let telling = Telling::new(&name);
        measure(&name, &slots);
        Self {
            name,
            kinds,
            hooks,
            slots: Mutex::new(slots),
            draining: TaskTracker::new(),
            tripped: watch::Sender::new(None),
            telling,
        }
    }

    /// Says in which schema rows are written from now on, in calls that have not begun yet.
    pub fn tell(&self, told: Told) {
        self.telling.tell(told);
    }

    /// What it was told last.
    pub fn told(&self) -> Told {
        self.telling.told()
    }

    /// Notified when what it was told may be out of date.
    pub fn outdated(&self) -> Arc<Notify> {
        self.telling.outdated()
    }

    fn as_told(&self, info: CallInfo) -> CallInfo {
        CallInfo { schema: self.telling.told().schema, ..info }
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its components have printed here, and what happened to them.
    pub fn journal(&self) -> Arc<Journal> {
        self.serving().pen.journal().clone()
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
            number: generation.number,
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
        self.fits(&to).inspect_err(|_| self.count("refused"))?;
        let mut slots = self.lock();
        // One that was given up meanwhile has to be made anew.
        if slots.previous.is_some() || !self.draining.is_empty() || to.is_closed() {
            self.count("refused");
            return Err(SwitchError::Unsettled);
        }
        slots.trip = None;
        slots.count += 1;
        to.set_probation(tentative);
        to.pen.serves_as(slots.count);
        to.pen.event(if tentative { "serves, on probation" } else { "serves" });
        let next = Arc::new(Generation::new(slots.count, to, tentative, Arc::default()));
        // Under the lock: a trip comes after it.
        self.tripped.send_replace(None);
        let old = std::mem::replace(&mut slots.serving, next);
        if tentative {
            // It goes on as a generation of its own when it is needed again.
            slots.previous = Some(Arc::new(old.again()));
        }
        measure(&self.name, &slots);
        drop(slots);
        self.count("switched");
        self.finish(old, !tentative);
        Ok(())
    }

    /// Keeps what serves; nothing happens when it is kept already.
    pub fn make_permanent(&self) {
        let mut slots = self.lock();
        let Some(previous) = slots.previous.take() else { return };
        let kept = slots.serving.permanent();
        kept.component.set_probation(false);
        let old = std::mem::replace(&mut slots.serving, Arc::new(kept));
        drop(slots);
        self.count("permanent");
        self.serving().pen.event("is permanent");
        // Calls stay where they are: it is the same component.
        drop(old);
        self.finish(previous, true);
    }

    /// Lets the generation before serve again; nothing happens when none is kept.
    pub fn roll_back(&self, why: String) {
        let mut slots = self.lock();
        let gone = slots.serving.component.clone();
        if self.go_back(&mut slots).is_some() {
            gone.pen.event(&format!("is rolled back: {why}"));
            slots.serving.component.pen.event("serves again");
            drop(slots);
            self.count("rolled back");
            let (store, why) = (&*self.name, why.as_str());
            tracing::warn!(store, why, "the store component before serves again");
        }
    }

    /// What has been seen while the serving one is tentative.
    pub fn evidence(&self) -> Evidence {
        let slots = self.lock();
        let (serving, previous) = (&slots.serving, slots.previous.as_ref());
        let baseline = previous.map(|previous| previous.counts.told());
        let tentative = serving.tentative.then(|| serving.counts.told());
        let wear = previous.filter(|_| serving.tentative).map(|previous| {
            let (before, now) = (previous.wear, previous.component.wear());
            let meanwhile = Wear { lost: now.lost - before.lost, worn: now.worn - before.worn };
            Wears { tentative: serving.component.wear(), meanwhile, before }
        });
        Evidence {
            tentative: tentative.unwrap_or_default(),
            baseline: baseline.unwrap_or_default(),
            wear: wear.unwrap_or_default(),
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
            return Err(SwitchError::Unfit(missing.lacked()));
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
        measure(&self.name, slots);
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
                let seconds = time.as_secs_f32();
                let text = format!("{calls} calls are fenced: they did not end within {seconds} s");
                generation.component.pen.event(&text);
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

    /// Switches back because of what was seen of this component, if it serves and is tentative.
    pub fn trip(&self, component: &Arc<StoreComponent>, why: String) {
        let slots = self.lock();
        if slots.serving.tentative && Arc::ptr_eq(&slots.serving.component, component) {
            self.trip_now(slots, why);
        }
    }

    /// Switches back, if there is something to go back to.
    fn trip_now(&self, mut slots: MutexGuard<'_, Slots>, why: String) {
        let gone = slots.serving.component.clone();
        if self.go_back(&mut slots).is_none() {
            return;
        }
        gone.pen.event(&format!("failed on probation: {why}"));
        slots.serving.component.pen.event("serves again");
        slots.trip = Some(why.clone());
        // Under the lock: the next switch clears it.
        self.tripped.send_replace(Some(why.clone()));
        drop(slots);
        self.count("tripped");
        let store = &*self.name;
        tracing::warn!(store, why, "a version on probation failed: the one before serves again");
    }
}

fn measure(store: &str, slots: &Slots) {
    let number = slots.serving.number as f64;
    metrics::gauge!("postroom_store_generation", "component" => store.to_owned()).set(number);
}

fn medium(component: &StoreComponent) -> Medium {
    let manifest = component.inspection().manifest.as_ref();
    manifest.map_or(Medium::Host, |manifest| manifest.medium)
}

impl Generation {
    fn new(
        number: u64,
        component: Arc<StoreComponent>,
        tentative: bool,
        counts: Arc<Counts>,
    ) -> Self {
        let (calls, fence) = (TaskTracker::new(), CancellationToken::new());
        let (of_component, wear) = (TaskTracker::new(), component.wear());
        Self {
            number,
            component,
            tentative,
            calls,
            of_component,
            fence,
            counts,
            wear,
            proofs: AtomicU64::new(0),
            shared_told: AtomicBool::new(false),
        }
    }

    /// The same component with a fence of its own, for when it serves again.
    fn again(&self) -> Self {
        let again = Self::new(self.number, self.component.clone(), false, self.counts.clone());
        Self { of_component: self.of_component.clone(), ..again }
    }

    /// The same, no longer tentative: calls that run go on.
    fn permanent(&self) -> Self {
        Self {
            number: self.number,
            component: self.component.clone(),
            tentative: false,
            calls: self.calls.clone(),
            of_component: self.of_component.clone(),
            fence: self.fence.clone(),
            counts: self.counts.clone(),
            wear: self.wear,
            proofs: AtomicU64::new(0),
            shared_told: AtomicBool::new(false),
        }
    }
}
