//! Tests of a store's logic on the build machine: a host of maps ([`Space`]), and the contract that
//! every store must keep ([`contract`]), written against [`contract::RecordSubject`] and
//! [`contract::MessageSubject`] so that the same cases run over a component too.

pub mod contract;
mod rng;
mod sample;
mod space;

pub use rng::Rng;
pub use sample::{Sample, change, message};
pub use space::{Knobs, Space, SpaceBody, SpaceTxn, SpaceView};

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
