//! Tests of a store's logic on the build machine: a host of maps ([`Space`]), and the conformance
//! kit's cases over a store that is linked natively ([`contract`]). The same cases run over a
//! component: `postroom store check`.

mod native;
mod space;

/// The cases of the kit, and a store under them.
pub mod contract {
    pub use super::native::Native;
    pub use postroom_kit::cases::random;
    pub use postroom_kit::{
        Fault, Host, Knobs, MessageSubject, RecordSubject, Stop, Verdict, cases,
    };
}

pub use postroom_kit::{Fault, Knobs, Rng, Sample, change, message};
pub use space::{Space, SpaceBody, SpaceTxn, SpaceView};

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs a future to its end.
///
/// # Panics
/// When it waits for something: nothing in this module ever does.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a store over maps has nothing to wait for"),
    }
}
