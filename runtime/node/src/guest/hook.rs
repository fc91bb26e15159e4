//! A store component as a hook of deliveries.

use async_trait::async_trait;
use postroom_core::error::StoreError;
use postroom_core::hook::{Changes, Delivered, Delivery, Fields, Verdict};
use postroom_core::types::MailboxName;

use super::api::{CallInfo, Hook};
use super::bindings::exports::postroom::store::hooks as wit;
use super::component::StoreComponent;
use super::convert::{broken, id, line};
use super::host::OpenCall;
use super::inspect::HOOKS;
use super::instance::enter;
use super::pool::Verb;
use super::quarantine::Subject;
use crate::storage::{Area, Body, View};

impl StoreComponent {
    /// Whether it can be asked about deliveries.
    pub fn has_hooks(&self) -> bool {
        self.inspection.hooks
    }

    fn hook(&self, name: &'static str) -> Result<Verb, StoreError> {
        match self.has_hooks() {
            true => Ok(Verb { interface: HOOKS, name }),
            false => {
                let why = format!("store component {} exports no {HOOKS}", self.name);
                Err(StoreError::Unsupported(why))
            }
        }
    }
}

#[async_trait]
impl Hook for StoreComponent {
    fn name(&self) -> &str {
        &self.name
    }

    async fn before_delivery(
        &self,
        info: CallInfo,
        view: &View,
        delivery: &Delivery,
        message: Body,
    ) -> Result<Verdict, StoreError> {
        let verb = self.hook("before-delivery")?;
        let asked = to_wit(delivery);
        let attempt = || {
            let (asked, message) = (asked.clone(), message.clone());
            enter(move |inside| {
                Box::pin(async move {
                    let guest = inside.exports.hooks()?;
                    let (call, message) = (inside.info(), inside.body(message)?);
                    guest.call_before_delivery(inside.accessor, call, asked, message).await
                })
            })
        };
        let about = Subject::of(message.digest());
        // It has no view; its body is read through one.
        let call = || OpenCall::reading(info, Area::Message, view).about(about);
        verdict(self.pool.read(verb, call, attempt).await?)
    }

    async fn after_delivery(
        &self,
        info: CallInfo,
        view: &View,
        delivered: &Delivered,
    ) -> Result<(), StoreError> {
        let verb = self.hook("after-delivery")?;
        let about = Subject::of(delivered.message_id);
        let told = wit::Delivered {
            delivery: to_wit(&delivered.delivery),
            mailbox: id(delivered.mailbox.0),
            uid_validity: delivered.uid_validity.0.get(),
            uid: delivered.uid.get(),
            message_id: id(delivered.message_id.0),
            extra: Vec::new(),
        };
        let enter = enter(move |inside| {
            Box::pin(async move {
                let guest = inside.exports.hooks()?;
                guest.call_after_delivery(inside.accessor, inside.info(), told).await
            })
        });
        // As a write: it is not told again.
        let call = OpenCall::reading(info, Area::Message, view).about(about);
        self.pool.write(verb, call, enter).await
    }
}

fn to_wit(delivery: &Delivery) -> wit::Delivery {
    wit::Delivery {
        sender: delivery.sender.clone(),
        user: delivery.user.clone(),
        mailbox: delivery.mailbox.as_str().to_owned(),
        size: delivery.size,
        extra: Vec::new(),
    }
}

/// A verdict, checked.
fn verdict(verdict: wit::Verdict) -> Result<Verdict, StoreError> {
    match verdict {
        wit::Verdict::Accept(changes) => {
            let mailbox = changes.mailbox.map(|name| MailboxName::new(&name)).transpose();
            let fields = changes.fields.iter().map(|field| (&*field.name, &*field.value));
            Ok(Verdict::Accept(Changes {
                mailbox: mailbox.map_err(broken)?,
                fields: Fields::new(fields).map_err(broken)?,
            }))
        }
        wit::Verdict::Refuse(refusal) => Ok(Verdict::Refuse(line(&refusal.text))),
        wit::Verdict::Other(_) => Err(broken("a hook answered a verdict of a later version")),
    }
}
