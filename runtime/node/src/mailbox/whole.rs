//! A message's octets from a store component, in however small parts it gives them.

use bytes::BytesMut;
use postroom_core::error::StoreError;
use postroom_core::types::MailboxId;

use crate::guest::{CallInfo, Part};
use crate::storage::View;

use super::account::Account;
use super::error::guest;

impl Account {
    /// The whole of a message: a body handle, or its octets, of which there are `size` or fewer.
    /// `None`: the store has none of that name. Nothing is verified here.
    ///
    /// The deadline is that of one call, so that a component that gives an octet at a time costs no
    /// more than one that gives none.
    pub(super) async fn whole(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        name: &str,
        size: u64,
    ) -> Result<Option<Part>, StoreError> {
        guest(self.parts(call, view, mailbox, name, size)).await
    }

    async fn parts(
        &self,
        call: CallInfo,
        view: &View,
        mailbox: MailboxId,
        name: &str,
        size: u64,
    ) -> Result<Option<Part>, StoreError> {
        let mut whole = BytesMut::new();
        loop {
            let (at, name) = (whole.len() as u64, name.to_owned());
            let left = size.saturating_sub(at);
            let messages = &self.env.stores.messages;
            let part = match messages.fetch(call, view, mailbox, name, at, left).await? {
                Some(Part::Octets(part)) => part,
                // A handle is always to the whole body; a name can go between two questions.
                other => return Ok(other),
            };
            let end = part.is_empty() || part.len() as u64 >= left;
            if end && whole.is_empty() {
                // The rule: all at once, and nothing is copied.
                return Ok(Some(Part::Octets(part)));
            }
            whole.extend_from_slice(&part);
            if end {
                return Ok(Some(Part::Octets(whole.freeze())));
            }
        }
    }
}
