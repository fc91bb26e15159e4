//! One call while generations come and go: where it runs, when it is made again, and whose fault it is
//! that it failed.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postroom_core::error::StoreError;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Generation, SwappableStore};
use crate::guest::component::StoreComponent;
use crate::guest::pool::Verb;
use crate::storage::Txn;

/// Times that a call is made: twice on a tentative version that has lost it with its instance, on the one
/// before it, and there alone. A switch follows another only when that is settled, so more would be a
/// coincidence.
const MAX_CALLS: usize = 4;
/// How long the version before may take to show that it does what a tentative one has failed at. A
/// healthy one takes milliseconds; while it is awaited the next calls still go to the tentative one, so
/// it is short.
const PROOF_TIME: Duration = Duration::from_secs(1);

/// A call's place in a generation: the generation does not end while it is held, or fences it.
pub(super) struct Place {
    pub(super) generation: Arc<Generation>,
    /// Whether the generation only stands by, and is asked what the serving one has failed at.
    stands_by: bool,
    _tokens: [TaskTrackerToken; 2],
}

/// What became of a call in a generation.
enum Ran<T> {
    Answered(Result<T, StoreError>),
    /// Nothing came of it: the generation's time was over, or it was a tentative one's and need not be
    /// believed. The call has a place elsewhere.
    Again(Place),
    /// A tentative generation has failed; the one before it has a place for the call, to show whose fault
    /// it is.
    Suspect(Suspicion),
}

/// Who is asked next when a tentative generation was not available to a call.
#[derive(Clone, Copy)]
enum Next {
    /// The same one: a write that was lost with its instance is alone there the next time, which shows
    /// whether it was the reason.
    Same,
    /// The one before: a read has been alone already, and a write that was needs no third chance.
    Before,
}

/// A tentative generation that has failed at a call, or was not available to it.
struct Suspicion {
    generation: Arc<Generation>,
    /// What it was asked, and how long it took.
    call: (Verb, Duration),
    /// What is held against it when it is proved; none: that it was not available, which counts as one failure.
    why: Option<String>,
    /// In the generation before.
    before: Place,
}

impl SwappableStore {
    /// A place in the generation that serves.
    fn enter(&self) -> Place {
        // Under the lock: a generation is closed for good only after it has stopped to serve.
        Place::in_generation(&self.lock().serving)
    }

    /// What an answer comes to. A tentative generation's errors are not believed while there is another
    /// one to ask.
    fn judged<T>(
        &self,
        generation: Arc<Generation>,
        call: (Verb, Duration),
        next: Next,
        error: StoreError,
    ) -> Ran<T> {
        let slots = self.lock();
        if !Arc::ptr_eq(&slots.serving, &generation) {
            return match Arc::ptr_eq(&slots.serving.component, &generation.component) {
                // It was made permanent meanwhile: there is nobody else to ask.
                true => Ran::Answered(Err(error)),
                false => Ran::Again(Place::in_generation(&slots.serving)),
            };
        }
        let Some(previous) = &slots.previous else { return Ran::Answered(Err(error)) };
        let before = Place::standing_by(previous);
        let again = Place::in_generation(&slots.serving);
        drop(slots);
        let why = match (error, next) {
            (error @ StoreError::Broken(_), _) => Some(format!("{}: {error}", call.0)),
            (StoreError::Unavailable(_), Next::Same) => return Ran::Again(again),
            // Where storage is away the one before says so too.
            _ => None,
        };
        Ran::Suspect(Suspicion { generation, call, why, before })
    }

    async fn run<T>(
        &self,
        place: Place,
        verb: Verb,
        next: Next,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Ran<T> {
        let began = Instant::now();
        let (generation, stands_by) = (place.generation.clone(), place.stands_by);
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            () = generation.fence.cancelled() => {
                drop(place);
                return Ran::Again(self.enter());
            }
        };
        let took = began.elapsed();
        match answer {
            // Nothing is noted before it is known whose fault it is.
            Err(error) if generation.tentative && is_unsure(&error) => {
                self.judged(generation, (verb, took), next, error)
            }
            answer => {
                if !stands_by {
                    generation.counts.note(verb, took, answer.as_ref().err());
                }
                Ran::Answered(answer)
            }
        }
    }

    /// Holds the second answer against a failure: one that the version before shares is no reason to go
    /// back to it.
    async fn proved<T>(
        &self,
        generation: Arc<Generation>,
        (verb, took): (Verb, Duration),
        why: Option<String>,
        second: impl Future<Output = Ran<T>>,
    ) -> Ran<T> {
        let mut second = pin!(second);
        let guilty = || {
            let Some(why) = &why else { return generation.counts.was_unavailable(verb, took) };
            generation.counts.failed(verb, took);
            let slots = self.lock();
            if Arc::ptr_eq(&slots.serving, &generation) {
                self.trip_now(slots, why.clone());
            }
        };
        let ran = match tokio::time::timeout(PROOF_TIME, &mut second).await {
            Ok(ran) => ran,
            Err(_) if why.is_some() => {
                guilty();
                return second.await;
            }
            Err(_) => second.await,
        };
        match ran {
            Ran::Answered(Err(error)) if is_unsure(&error) => {
                let (store, error_text) = (&*self.name, error.to_string());
                tracing::info!(store, why, error_text, "both versions fail at a call");
                if !generation.shared_told.swap(true, Ordering::Relaxed) {
                    let why = why.as_ref().unwrap_or(&error_text);
                    let text = format!("both versions fail at a call, told once: {why}");
                    generation.component.pen.event(&text);
                }
                self.count("shared failure");
                // It may have been lost with others that are bad: alone it shows.
                match (&why, &error, self.beside(&generation)) {
                    (Some(_), StoreError::Unavailable(_) | StoreError::Busy(_), Some(place)) => {
                        Ran::Again(place)
                    }
                    _ => Ran::Answered(Err(error)),
                }
            }
            Ran::Answered(answer) => {
                guilty();
                Ran::Answered(answer)
            }
            ran => ran,
        }
    }

    /// A place in the generation that stands by while this one serves.
    fn beside(&self, generation: &Arc<Generation>) -> Option<Place> {
        let slots = self.lock();
        let serves = Arc::ptr_eq(&slots.serving, generation);
        slots.previous.as_ref().filter(|_| serves).map(Place::standing_by)
    }

    /// A call that only reads.
    pub(super) async fn read<T, F>(
        &self,
        verb: Verb,
        call: impl Fn(Arc<StoreComponent>) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        T: Send,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let ask = |place: Place| {
            let component = place.generation.component.clone();
            self.run(place, verb, Next::Before, call(component))
        };
        let mut ran = ask(self.enter()).await;
        for _ in 1..MAX_CALLS {
            ran = match ran {
                Ran::Answered(answer) => return answer,
                Ran::Again(place) => ask(place).await,
                Ran::Suspect(Suspicion { generation, call, why, before }) => {
                    self.proved(generation, call, why, ask(before)).await
                }
            };
        }
        ran.answer()
    }

    /// A call that writes to a transaction, as often as a version on probation makes it come to nothing:
    /// what that one has written is taken out again before.
    pub(super) async fn write<T, A, F>(
        &self,
        verb: Verb,
        txn: &Txn,
        arguments: A,
        call: impl Fn(Arc<StoreComponent>, Txn, A) -> F + Send + Sync,
    ) -> Result<T, StoreError>
    where
        T: Send,
        A: Clone + Send + Sync,
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let place = self.enter();
        let component = place.generation.component.clone();
        // Nothing else comes again: its arguments need not be there twice.
        if !place.generation.tentative {
            let only = call(component, txn.clone(), arguments);
            return self.run(place, verb, Next::Before, only).await.answer();
        }
        let ask = |place: Place, next: Next| {
            let (attempt, component) = (txn.attempt(), place.generation.component.clone());
            let call = call(component, attempt.txn(), arguments.clone());
            async move {
                let ran = self.run(place, verb, next, call).await;
                if !matches!(ran, Ran::Answered(Ok(_))) {
                    txn.take_back(&attempt);
                }
                ran
            }
        };
        let mut ran = ask(place, Next::Same).await;
        for _ in 1..MAX_CALLS {
            ran = match ran {
                Ran::Answered(answer) => return answer,
                Ran::Again(place) => ask(place, Next::Before).await,
                Ran::Suspect(Suspicion { generation, call, why, before }) => {
                    self.proved(generation, call, why, ask(before, Next::Before)).await
                }
            };
        }
        ran.answer()
    }

    /// A call that is made once, whatever becomes of it. What a tentative version fails at is held
    /// against it unproved: asking the other would be making it twice.
    pub(super) async fn once<T, F>(
        &self,
        verb: Verb,
        call: impl FnOnce(Arc<StoreComponent>) -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let place = self.enter();
        let component = place.generation.component.clone();
        let ran = self.run(place, verb, Next::Before, call(component)).await;
        if let Ran::Suspect(Suspicion { generation, call, why: Some(why), .. }) = &ran {
            generation.counts.failed(call.0, call.1);
            let slots = self.lock();
            if Arc::ptr_eq(&slots.serving, generation) {
                self.trip_now(slots, why.clone());
            }
        }
        ran.answer()
    }
}

impl Place {
    /// Only while the generation serves or stands by, which the lock holds.
    pub(super) fn in_generation(generation: &Arc<Generation>) -> Self {
        let tokens = [generation.calls.token(), generation.of_component.token()];
        Self { generation: generation.clone(), stands_by: false, _tokens: tokens }
    }

    /// As [`in_generation`](Self::in_generation), in the one that is asked for a second answer.
    pub(super) fn standing_by(generation: &Arc<Generation>) -> Self {
        Self { stands_by: true, ..Self::in_generation(generation) }
    }
}

impl<T> Ran<T> {
    /// For a call that is not made again.
    fn answer(self) -> Result<T, StoreError> {
        match self {
            Self::Answered(answer) => answer,
            Self::Again(_) | Self::Suspect(_) => Err(changing()),
        }
    }
}

/// Whether a version on probation need not be believed when it says so.
fn is_unsure(error: &StoreError) -> bool {
    matches!(error, StoreError::Broken(_) | StoreError::Unavailable(_) | StoreError::Busy(_))
}

fn changing() -> StoreError {
    StoreError::Unavailable("the store component was replaced while the call ran".to_owned())
}
