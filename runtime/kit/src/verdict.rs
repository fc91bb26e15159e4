//! What a case comes to: the store kept its promises, broke one, or cannot be asked.

use std::fmt;

use crate::error::{Result, StoreError};

/// Longest text of what was found or expected, in characters: a row of 200 KiB helps nobody.
const MAX_SHOWN: usize = 300;

/// What a case, or a step of one, comes to.
pub type Verdict<T = ()> = std::result::Result<T, Stop>;

/// Why a case ends before its end.
#[derive(Clone, PartialEq, Eq)]
pub enum Stop {
    /// The store has broken a promise.
    Broken(Broken),
    /// The case asks for something that this store rightly does not do.
    NotApplicable(String),
}

/// A broken promise.
#[derive(Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its id; of two words where it is the interface's under test: `insert.1`.
    pub promise: &'static str,
    /// How it was broken, in one line.
    pub what: String,
}

impl Broken {
    /// The whole id, when the store of this interface was tested: `users.insert.1`.
    pub fn id(&self, interface: &str) -> String {
        whole_id(self.promise, interface)
    }
}

/// `insert.1` of `users` is `users.insert.1`; an id of three words stays as it is.
pub fn whole_id(id: &str, interface: &str) -> String {
    match id.split('.').count() {
        2 => format!("{interface}.{id}"),
        _ => id.to_owned(),
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(Broken { promise, what }) => write!(f, "[{promise}] is broken: {what}"),
            Self::NotApplicable(why) => write!(f, "not applicable: {why}"),
        }
    }
}

/// For tests, which print it when they fail.
impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.promise, self.what)
    }
}

/// The promise is broken in this way.
pub(crate) fn broken<T>(promise: &'static str, what: impl Into<String>) -> Verdict<T> {
    Err(Stop::Broken(Broken { promise, what: what.into() }))
}

/// The promise is broken unless this holds.
pub(crate) fn holds(
    promise: &'static str,
    condition: bool,
    what: impl FnOnce() -> String,
) -> Verdict {
    match condition {
        true => Ok(()),
        false => broken(promise, what()),
    }
}

/// Promises that a host holds an answer to before anybody else sees it.
const HELD_BY_HOST: [&str; 7] =
    ["list.1", "list.3", "page.1", "select.1", "fetch.1", "check.3", "store.rule.7"];

/// The promise that a host has found broken, where its error says so: `… [list.3] …`.
pub(crate) fn found_by_host(error: &StoreError) -> Option<&'static str> {
    let StoreError::Other(text) = error else { return None };
    HELD_BY_HOST.into_iter().find(|id| text.contains(&format!("[{id}] ")))
}

/// What a call answered that has to succeed. `unsupported` is no excuse: a store in which rows are
/// has taken an insert, and a read is always supported. Only the first insert may be refused.
pub(crate) fn done<T>(promise: &'static str, call: &str, outcome: Result<T>) -> Verdict<T> {
    match outcome {
        Ok(answer) => Ok(answer),
        Err(error) => {
            let promise = found_by_host(&error).unwrap_or(promise);
            broken(promise, format!("{call} answers {}", clip(&error.to_string())))
        }
    }
}

/// An insert was refused for this reason: then the store only reads, and refuses all other writes
/// too, of which these are some.
pub(crate) fn only_reads(
    why: &str,
    others: [(&'static str, &str, Result<()>); 3],
) -> Verdict<std::convert::Infallible> {
    for (promise, call, outcome) in others {
        holds(promise, matches!(outcome, Err(StoreError::Unsupported(_))), || {
            let said = answer(&outcome);
            format!("insert is answered with unsupported: {why}; and {call} with {said}")
        })?;
    }
    Err(Stop::NotApplicable(format!("insert is answered with unsupported: {why}")))
}

/// What was found must be what is expected.
pub(crate) fn same<T: PartialEq + fmt::Debug>(
    promise: &'static str,
    what: &str,
    found: &T,
    expected: &T,
) -> Verdict {
    holds(promise, found == expected, || {
        format!("{what} is {}, expected {}", shown(found), shown(expected))
    })
}

/// As [`same`], of many: says where they differ first.
pub(crate) fn same_rows<T: PartialEq + fmt::Debug>(
    promise: &'static str,
    call: &str,
    found: &[T],
    expected: &[T],
) -> Verdict {
    let pairs = found.iter().zip(expected);
    let differs = pairs.enumerate().find(|(_, (found, expected))| found != expected);
    if let Some((at, (found, expected))) = differs {
        let (found, expected) = (shown(found), shown(expected));
        return broken(
            promise,
            format!("{call} answers row {at} as {found}, expected was {expected}"),
        );
    }
    let (has, wants) = (found.len(), expected.len());
    match has.cmp(&wants) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => {
            let lost = shown(&expected[has]);
            broken(promise, format!("{call} answers {has} rows instead of {wants}; lost is {lost}"))
        }
        std::cmp::Ordering::Greater => {
            let more = shown(&found[wants]);
            broken(
                promise,
                format!("{call} answers {has} rows instead of {wants}; too many is {more}"),
            )
        }
    }
}

/// What a call answered that has nothing to say but ok.
pub(crate) fn answer(outcome: &Result<()>) -> String {
    outcome.as_ref().map_or_else(|error| clip(&error.to_string()), |()| "ok".to_owned())
}

/// A value in one line, not too long.
pub(crate) fn shown(value: &impl fmt::Debug) -> String {
    clip(&format!("{value:?}"))
}

/// A text in one line, not too long.
pub(crate) fn clip(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut clipped: String = line.take(MAX_SHOWN).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        clipped.push('…');
    }
    clipped
}
