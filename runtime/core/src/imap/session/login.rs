//! STARTTLS, LOGIN, AUTHENTICATE (RFC 9051 §6.2; SASL: RFC 4422, PLAIN: RFC 4616).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::calls::{Call, Principal, Secret};
use crate::error::StoreError;
use crate::imap::command::{SecretOctets, Tag};
use crate::imap::response::{self, Code};
use crate::session::Action;

use super::errors;
use super::flow::{Done, Waiting};
use super::framing::Framer;
use super::{ImapSession, Phase, Reading};

/// How far a SASL exchange has come.
pub(super) enum Sasl {
    /// PLAIN: the one response is due.
    Plain,
    /// LOGIN: the user's name is due.
    LoginUser,
    /// LOGIN: the password of this user is due.
    LoginPassword(String),
}

impl Sasl {
    /// What the server says before the client's response.
    fn challenge(&self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::LoginUser => "Username:",
            Self::LoginPassword(_) => "Password:",
        }
    }
}

impl ImapSession {
    pub(super) fn start_tls(&mut self, tag: Tag) {
        if !self.may_start_tls() {
            return self.say(Done::bad(tag, "STARTTLS is not available here"));
        }
        self.say(Done::ok(tag, "begin the handshake"));
        self.flush_output();
        self.actions.push_back(Action::StartTls);
        self.reading = Reading::Tls;
        // What came ahead was sent in the clear, perhaps by somebody else than the client.
        self.inbox = bytes::Bytes::new();
    }

    /// Everything begins again, but for the limits (RFC 9051 §6.2.1).
    pub(super) fn tls_established(&mut self) {
        if !matches!(self.reading, Reading::Tls) {
            return;
        }
        self.config.tls_active = true;
        self.reading = Reading::Command;
        self.framer = Framer::new();
    }

    pub(super) fn login(&mut self, tag: Tag, user: String, password: SecretOctets) {
        if !self.may_send_password() {
            return self.without_privacy(tag);
        }
        self.check_password(tag, user, password.0);
    }

    pub(super) fn authenticate(
        &mut self,
        tag: Tag,
        mechanism: &str,
        initial: Option<SecretOctets>,
    ) {
        let sasl = match mechanism {
            "PLAIN" => Sasl::Plain,
            "LOGIN" => Sasl::LoginUser,
            _ => {
                let done = Done::no(tag, "this mechanism is not supported");
                return self.say(done.with(Code::Cannot));
            }
        };
        if !self.may_send_password() {
            return self.without_privacy(tag);
        }
        match initial {
            Some(response) => self.respond(tag, sasl, response.0),
            None => self.challenge(tag, sasl),
        }
    }

    fn without_privacy(&mut self, tag: Tag) {
        let done = Done::no(tag, "not without TLS");
        self.say(done.with(Code::PrivacyRequired));
    }

    fn challenge(&mut self, tag: Tag, sasl: Sasl) {
        response::continuation(self.output.text(), &BASE64.encode(sasl.challenge()));
        self.reading = Reading::Sasl(tag, sasl);
    }

    /// A line that is not a command.
    pub(super) fn line(&mut self, line: &[u8]) {
        match std::mem::replace(&mut self.reading, Reading::Command) {
            Reading::Sasl(tag, _) if line == b"*" => {
                self.say(Done::bad(tag, "cancelled"));
            }
            Reading::Sasl(tag, sasl) => match BASE64.decode(line) {
                Ok(response) => self.respond(tag, sasl, response),
                Err(_) => self.bad(Some(tag), "the response is not base64"),
            },
            Reading::Idle(tag) => self.idle_line(tag, line),
            Reading::Command | Reading::Tls => unreachable!("lines are read in no other state"),
        }
    }

    /// The client's response within SASL.
    fn respond(&mut self, tag: Tag, sasl: Sasl, response: Vec<u8>) {
        match sasl {
            Sasl::Plain => self.plain(tag, &response),
            Sasl::LoginUser => match String::from_utf8(response) {
                Ok(user) => self.challenge(tag, Sasl::LoginPassword(user)),
                Err(_) => self.login_failed(tag, &StoreError::AuthenticationFailed),
            },
            Sasl::LoginPassword(user) => self.check_password(tag, user, response),
        }
    }

    /// `[authzid] NUL authcid NUL passwd`
    fn plain(&mut self, tag: Tag, response: &[u8]) {
        let mut parts = response.split(|&c| c == 0);
        let (Some(acting), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return self.bad(Some(tag), "the response is not one of PLAIN");
        };
        if !acting.is_empty() && acting != user {
            let done = Done::no(tag, "nobody may act for others");
            return self.say(done.with(Code::AuthorizationFailed));
        }
        match String::from_utf8(user.to_vec()) {
            Ok(user) => self.check_password(tag, user, password.to_vec()),
            Err(_) => self.login_failed(tag, &StoreError::AuthenticationFailed),
        }
    }

    fn check_password(&mut self, tag: Tag, user: String, password: Vec<u8>) {
        match String::from_utf8(password) {
            Ok(password) => {
                let call = Call::Login { user, password: Secret(password) };
                self.call(call, Waiting::Login(tag));
            }
            // No password is kept in another encoding.
            Err(_) => self.login_failed(tag, &StoreError::AuthenticationFailed),
        }
    }

    pub(super) fn logged_in(&mut self, tag: Tag, principal: Principal) {
        self.actions.push_back(Action::LoggedIn(principal));
        self.phase = Phase::Authenticated;
        let code = self.capability_code();
        self.say(Done::ok(tag, "logged in").with(code));
    }

    pub(super) fn login_failed(&mut self, tag: Tag, error: &StoreError) {
        self.say(errors::done(tag, error));
        if *error != StoreError::AuthenticationFailed {
            return;
        }
        self.failed_logins += 1;
        if self.failed_logins >= self.config.login_failures {
            self.farewell(None, "too many failed logins");
        }
    }
}
