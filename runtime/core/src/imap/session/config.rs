//! What a session is told of its server, and its limits.

use std::sync::Arc;

use crate::budget::Budget;
use crate::session::Millis;

/// Most octets of one command with its literals, but for APPEND's message: 16,384 UIDs in one set
/// fit more than twice, and it bounds what a connection can make the server hold.
pub const MAX_LINE: usize = 256 * 1024;
/// The same for commands before login and for SASL responses: the largest that is allowed there is
/// an ID of 30 pairs of 30 and 1024 octets (RFC 2971 §3.3), which needs 32 KiB with its quotes.
/// Whoever has not logged in costs no more than this.
pub const MAX_LINE_BEFORE_LOGIN: usize = 36 * 1024;
/// Largest message in octets that APPEND takes: what large mail providers take, with the third that
/// base64 adds.
pub const MAX_MESSAGE_OCTETS: u64 = 64 * 1024 * 1024;
/// Failed logins until the connection is closed: guessing costs a connection for each few.
pub const LOGIN_FAILURES: u32 = 5;
/// Silence until a client that has logged in is logged out: RFC 9051 §5.4 allows no less.
pub const IDLE_TIMEOUT: Millis = Millis(30 * 60 * 1000);
/// Silence until a client that has not logged in is sent away: connections cost, and a program
/// needs no time to think.
pub const LOGIN_TIMEOUT: Millis = Millis(60 * 1000);
/// Longest time from connection to login, silent or not: a connection cannot be kept for nothing.
pub const LOGIN_TOTAL: Millis = Millis(5 * 60 * 1000);

/// What a session is told of its server.
#[derive(Clone, Debug)]
pub struct Config {
    /// STARTTLS is possible.
    pub tls_available: bool,
    /// The connection is under TLS already.
    pub tls_active: bool,
    /// Passwords may be sent without TLS: only where nobody can listen (loopback), or by name.
    pub plaintext_login: bool,
    /// Most octets of a command; see [`MAX_LINE`].
    pub max_line: usize,
    /// Largest message that APPEND takes, in octets; see [`MAX_MESSAGE_OCTETS`].
    pub max_message_octets: u64,
    /// Memory for messages in arrival, shared with the node's other sessions.
    pub budget: Arc<Budget>,
    /// Failed logins until the connection is closed.
    pub login_failures: u32,
    /// Silence until a client that has logged in is logged out.
    pub idle_timeout: Millis,
    /// Silence until one that has not is sent away.
    pub login_timeout: Millis,
    /// What the greeting calls this server.
    pub name: String,
}

/// No TLS, no passwords without it: every permission is given by name. A budget of its own.
impl Default for Config {
    fn default() -> Self {
        Self {
            tls_available: false,
            tls_active: false,
            plaintext_login: false,
            max_line: MAX_LINE,
            max_message_octets: MAX_MESSAGE_OCTETS,
            budget: Arc::default(),
            login_failures: LOGIN_FAILURES,
            idle_timeout: IDLE_TIMEOUT,
            login_timeout: LOGIN_TIMEOUT,
            name: "Postroom".to_owned(),
        }
    }
}
