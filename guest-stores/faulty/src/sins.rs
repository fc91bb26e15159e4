//! The sins, and whose call commits one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use postroom_guest::{Call, Message, Result, StoreError, Txn};

#[cfg(target_arch = "wasm32")]
use crate::written;

/// Octets that one call leaks. Small enough that it takes many calls, of which all are answered.
const LEAK: usize = 4 << 20;
/// Handles that one call keeps.
const HELD: usize = 200;
/// Lines that one call prints.
const LINES: usize = 10_000;
/// How long a slow call computes: a write of the default store takes less than a tenth of it.
const SLOW: Duration = Duration::from_millis(8);

/// What is done wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sin {
    /// Nothing.
    #[default]
    None,
    /// The start-up code traps.
    Start,
    /// A call traps.
    Trap,
    /// It ends the program.
    Exit,
    /// It never returns, and works.
    Spin,
    /// It never returns, and does not even let others of its instance go on.
    Sleep,
    /// It computes for longer than a right store takes, and does what is right.
    Slow,
    /// It says that what it needs is not there.
    Away,
    /// It keeps memory when it returns.
    Leak,
    /// It takes memory until there is none.
    Devour,
    /// It calls itself.
    Recurse,
    /// It prints without end, nearly.
    Flood,
    /// It keeps handles when it returns.
    Hold,
    /// It answers rows in another order.
    Wrong,
    /// It answers what is another account's, or a later version's.
    Other,
    /// It does not write the last flag.
    LostFlag,
    /// It answers what is no message.
    Nonsense,
    /// It answers a row more than it was asked for.
    TooMany,
    /// It says that more rows follow none.
    MoreOfNothing,
    /// It refuses a call that comes while another one waits.
    Alone,
    /// As a hook it answers an error that says what it was given.
    Echo,
}

impl Sin {
    const ALL: [(&'static str, Self); 20] = [
        ("start", Self::Start),
        ("trap", Self::Trap),
        ("exit", Self::Exit),
        ("spin", Self::Spin),
        ("sleep", Self::Sleep),
        ("slow", Self::Slow),
        ("away", Self::Away),
        ("leak", Self::Leak),
        ("devour", Self::Devour),
        ("recurse", Self::Recurse),
        ("flood", Self::Flood),
        ("hold", Self::Hold),
        ("wrong", Self::Wrong),
        ("other", Self::Other),
        ("lost-flag", Self::LostFlag),
        ("nonsense", Self::Nonsense),
        ("too-many", Self::TooMany),
        ("more-of-nothing", Self::MoreOfNothing),
        ("alone", Self::Alone),
        ("echo", Self::Echo),
    ];

    /// The sin of a name; a name that is none is a mistake of the test.
    fn named(name: &str) -> Self {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.expect("a known sin").1
    }
}

/// What the settings choose.
pub(crate) struct Chosen {
    pub(crate) sin: Sin,
    account: Option<String>,
    verb: Option<String>,
    every: u64,
    /// As a hook it sins before these deliveries only.
    pub(crate) text: Option<String>,
}

/// What the settings choose, if anything.
pub(crate) fn chosen() -> Option<&'static Chosen> {
    static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
    let read = || {
        let sin = Sin::named(&setting("sin")?);
        let every = setting("every").map_or(1, |text| text.parse().expect("a number"));
        let (account, verb, text) = (setting("account"), setting("verb"), setting("text"));
        Some(Chosen { sin, account, verb, every, text })
    };
    CHOSEN.get_or_init(read).as_ref()
}

#[cfg(target_arch = "wasm32")]
fn setting(name: &str) -> Option<String> {
    written::anything().map_or_else(|| postroom_guest::setting(name), |text| text.of(name))
}

/// Natively it is a right store.
#[cfg(not(target_arch = "wasm32"))]
fn setting(_: &str) -> Option<String> {
    None
}

/// The sin that this call commits.
pub(crate) fn due(call: &Call, kind: &str, verb: &str) -> Option<Sin> {
    /// Calls that could have.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let Chosen { sin, account, verb: chosen_verb, every, text: _ } = chosen()?;
    let meant = account.as_ref().is_none_or(|account| *account == call.account.to_string())
        && chosen_verb.as_ref().is_none_or(|chosen| *chosen == format!("{kind}.{verb}"));
    let due = meant && (CALLS.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(*every);
    due.then_some(*sin)
}

/// Commits those sins that are not of the answer.
pub(crate) fn sin(sin: Sin) -> Result<()> {
    match sin {
        Sin::Away => return Err(StoreError::Unavailable("as the settings say".to_owned())),
        Sin::Trap => panic!("as the settings say"),
        Sin::Exit => std::process::exit(3),
        Sin::Spin => loop {
            std::hint::black_box(0);
        },
        Sin::Sleep => std::thread::sleep(Duration::from_secs(1 << 30)),
        Sin::Slow => {
            let began = Instant::now();
            while began.elapsed() < SLOW {
                std::hint::black_box(0);
            }
        }
        Sin::Leak => leak(LEAK),
        Sin::Devour => loop {
            leak(LEAK);
        },
        Sin::Recurse => assert_ne!(deeper(u64::MAX), 1),
        Sin::Flood => (0..LINES).for_each(|line| println!("line {line}")),
        Sin::None
        | Sin::Start
        | Sin::Hold
        | Sin::Wrong
        | Sin::Other
        | Sin::LostFlag
        | Sin::Nonsense
        | Sin::TooMany
        | Sin::MoreOfNothing
        | Sin::Alone
        | Sin::Echo => {}
    }
    Ok(())
}

/// A call that is under way.
pub(crate) struct UnderWay;

static UNDER_WAY: AtomicBool = AtomicBool::new(false);

impl UnderWay {
    /// Begins one, unless another one is.
    pub(crate) fn begin() -> Result<Self> {
        match UNDER_WAY.swap(true, Ordering::Relaxed) {
            true => Err(StoreError::Busy("another call is under way".to_owned())),
            false => Ok(Self),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.store(false, Ordering::Relaxed);
    }
}

/// Keeps memory for good.
fn leak(octets: usize) {
    static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(vec![1; octets]);
}

/// Recursion without memory of its own, which the compiler cannot turn into a loop.
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == 0 { 0 } else { deeper(depth - 1).wrapping_mul(31) ^ depth }
}

/// Keeps handles for good.
pub(crate) fn hold<T: Txn>(txn: &T) {
    (0..HELD).for_each(|_| std::mem::forget(txn.view()));
}

/// Makes a message something that none can be.
pub(crate) fn nonsense(message: &mut Message) {
    message.modseq = u64::MAX;
    message.flags = vec!["\u{0}".repeat(1000)];
    message.internal_date.offset_minutes = i16::MIN;
}

/// Runs when an instance is made: the component's start-up code.
#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    assert!(chosen().is_none_or(|chosen| chosen.sin != Sin::Start), "as the settings say");
}
