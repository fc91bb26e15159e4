//! What CAPABILITY says. A word stands here only when it has a transcript among the tests.

use crate::imap::response::Code;

use super::ImapSession;

/// What every session can do, before login and after it: some clients ask only once.
pub(super) const ALWAYS: [&str; 20] = [
    "IMAP4rev1",
    "SASL-IR",
    "LITERAL+",
    "ID",
    "ENABLE",
    "IDLE",
    "NAMESPACE",
    "CHILDREN",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "UNSELECT",
    "UIDPLUS",
    "MOVE",
    "CONDSTORE",
    "ESEARCH",
    "WITHIN",
    "OBJECTID",
    "STATUS=SIZE",
];

impl ImapSession {
    /// The words of CAPABILITY at this moment.
    pub(super) fn capabilities(&self) -> Vec<&'static str> {
        let mut words = ALWAYS.to_vec();
        if self.is_authenticated() {
            return words;
        }
        if self.may_start_tls() {
            words.push("STARTTLS");
        }
        match self.may_send_password() {
            true => words.extend(["AUTH=PLAIN", "AUTH=LOGIN"]),
            false => words.push("LOGINDISABLED"),
        }
        words
    }

    /// The same as a response code.
    pub(super) fn capability_code(&self) -> Code {
        Code::Capability(self.capabilities())
    }

    pub(super) fn may_start_tls(&self) -> bool {
        self.config.tls_available && !self.config.tls_active
    }

    /// Whether a password may come over this connection as it is.
    pub(super) fn may_send_password(&self) -> bool {
        self.config.tls_active || self.config.plaintext_login
    }
}
