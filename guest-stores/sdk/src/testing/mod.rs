//! Tests of a store's logic on the build machine: a host of maps ([`Space`]), and the conformance
//! kit's cases over a store that is linked natively ([`contract`]). The same cases run over a
//! component: `postroom store check`.

mod native;
mod space;

/// The cases of the kit, and a store under them.
pub mod contract {
    use postroom_kit::cases::damage::{self, Flips};
    use postroom_kit::cases::random::Faults;
    use postroom_kit::records::{Domain, Mailbox, User};

    pub use super::native::Native;
    use super::{Rng, block_on};
    pub use postroom_kit::cases::random;
    pub use postroom_kit::{
        Fault, Host, Knobs, MessageSubject, RecordSubject, Stop, Verdict, cases,
    };

    /// A store that keeps all kinds of record.
    pub trait Whole:
        RecordSubject<Domain> + RecordSubject<User> + RecordSubject<Mailbox> + MessageSubject
    {
    }

    impl<S> Whole for S where
        S: RecordSubject<Domain> + RecordSubject<User> + RecordSubject<Mailbox> + MessageSubject
    {
    }

    /// Holds a long random run for each kind against the model, with and without faults.
    ///
    /// # Panics
    /// When the store answers anything else.
    pub fn random_runs<S: Whole>(subject: impl Fn() -> S) {
        for faults in [Faults::None, Faults::Any] {
            let mut rng = Rng::from_env(1);
            let kept = [
                block_on(random::records::<Domain, _>(&subject(), &mut rng, 2000, faults)),
                block_on(random::records::<User, _>(&subject(), &mut rng, 2000, faults)),
                block_on(random::records::<Mailbox, _>(&subject(), &mut rng, 2000, faults)),
                block_on(random::messages(&subject(), &mut rng, 2000, faults)),
            ];
            assert!(kept.iter().all(Result::is_ok), "{kept:?}");
        }
    }

    /// Damages what the store keeps of each kind, in many ways, and has it checked and repaired.
    ///
    /// # Panics
    /// When the store does not find it, or repairs anything else.
    pub fn damages<S: Whole>(subject: impl Fn() -> S) {
        let mut rng = Rng::from_env(1);
        for _ in 0..20 {
            let kept = [
                block_on(damage::records::<Domain, _>(&subject(), &mut rng, Flips::Sometimes)),
                block_on(damage::records::<User, _>(&subject(), &mut rng, Flips::Sometimes)),
                block_on(damage::records::<Mailbox, _>(&subject(), &mut rng, Flips::Sometimes)),
                block_on(damage::messages(&subject(), &mut rng, Flips::Sometimes)),
            ];
            assert!(kept.iter().all(Result::is_ok), "{kept:?}");
        }
    }
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

/// Makes the tests of a store that keeps all kinds of record over the host's maps and is [`Default`]:
/// each case of the kit for each kind, and long random runs. `store_contract!(MyStore)`.
#[macro_export]
macro_rules! store_contract {
    ($store:ty) => {
        fn subject() -> $crate::testing::contract::Native<$store> {
            Default::default()
        }

        $crate::record_contract!(domains, $crate::Domain, $crate::testing::block_on, subject());
        $crate::record_contract!(users, $crate::User, $crate::testing::block_on, subject());
        $crate::record_contract!(mailboxes, $crate::Mailbox, $crate::testing::block_on, subject());
        $crate::message_contract!(messages, $crate::testing::block_on, subject());

        #[test]
        fn long_random_runs_agree_with_the_model() {
            $crate::testing::contract::random_runs(subject);
        }

        #[test]
        fn damage_of_many_kinds_is_found_and_repaired() {
            $crate::testing::contract::damages(subject);
        }
    };
}
