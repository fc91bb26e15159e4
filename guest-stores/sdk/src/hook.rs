//! What a hook implements: it is asked before and told after deliveries. The promises are those of
//! the WIT.

use std::future::Future;

pub use crate::bindings::hooks::exports::postroom::store::hooks::{
    Changes, Delivered, Delivery, Field, Refusal, Verdict,
};

use crate::error::Result;
use crate::host::{Body, MaybeSend, MaybeSync};
use crate::records::Call;

/// Is asked before a message is delivered, and told after it.
pub trait Hooks: MaybeSend + MaybeSync {
    /// What becomes of a delivery. An error puts it off: the MTA comes again.
    fn before_delivery<B: Body>(
        &self,
        call: &Call,
        delivery: &Delivery,
        message: &B,
    ) -> impl Future<Output = Result<Verdict>> + MaybeSend;

    /// A message was delivered. As it stands nothing is done about it.
    fn after_delivery(
        &self,
        call: &Call,
        delivered: &Delivered,
    ) -> impl Future<Output = Result<()>> + MaybeSend {
        let _ = (call, delivered);
        async { Ok(()) }
    }
}

impl Verdict {
    /// The message goes where it went, as it is.
    pub fn keep() -> Self {
        Self::Accept(Changes::none())
    }

    /// The message is refused for good; the text is for its sender.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refuse(Refusal { text: text.into(), extra: Vec::new() })
    }
}

impl Changes {
    /// None.
    pub fn none() -> Self {
        Self { mailbox: None, fields: Vec::new(), extra: Vec::new() }
    }

    /// Puts the message into this mailbox.
    pub fn file_into(mut self, mailbox: impl Into<String>) -> Self {
        self.mailbox = Some(mailbox.into());
        self
    }

    /// Puts a header field in front of the message, behind those that were named before.
    pub fn add(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.fields.push(Field { name: name.into(), value: value.into() });
        self
    }
}
