//! The shape of every protocol session: octets, answers and time go in; octets and calls come out.
//!
//! One thin driver in node (`front/driver.rs`) performs any session: it feeds each [`Input`], then
//! takes [`Action`]s until there are none. A session has at most one [`Action::Call`] outstanding;
//! while [`Session::wants_octets`] is false the driver leaves octets in the socket.

use bytes::Bytes;

use crate::calls::{Call, Principal, Reply};
use crate::error::StoreError;

/// Milliseconds on a monotonic clock since the connection was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// What happens to a session.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// The client sent octets, cut anywhere.
    Octets(&'a [u8]),
    /// The client will send no more.
    EndOfInput,
    /// The answer to the outstanding call.
    Answer(Result<Reply, StoreError>),
    /// Something happened in the active mailbox: there are changes to ask for.
    Changed,
    /// The TLS handshake asked for by [`Action::StartTls`] is done.
    TlsEstablished,
    /// Nothing but time has passed: the deadline is reached.
    Time,
    /// The node shuts down: say so and close, when the call outstanding (if any) is answered.
    ShuttingDown,
}

/// What a session wants done, in order.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send octets to the client.
    Send(Bytes),
    /// Carry out a call and bring the answer back.
    Call(Call),
    /// Send what is pending, then do a TLS handshake as the server. Octets that the client sent
    /// before it are dropped by the session (a plain-text injection otherwise).
    StartTls,
    /// From now on calls are made for this user; its account is the one that they mean.
    LoggedIn(Principal),
    /// Send what is pending, then close.
    Close,
}

/// A protocol session as a pure state machine.
pub trait Session: Send {
    /// Takes one input at a time that never goes back.
    fn input(&mut self, now: Millis, input: Input<'_>);

    /// The next thing to do; `None`: nothing until the next input.
    fn action(&mut self) -> Option<Action>;

    /// Whether the session has room for octets. False while a command waits for its answer.
    fn wants_octets(&self) -> bool;

    /// When [`Input::Time`] is due at the latest.
    fn deadline(&self) -> Option<Millis>;
}
