//! The store as a hook: it lets everything pass, but for its sin.

use postroom_guest::{
    Body, Call, Changes, Delivered, Delivery, Hooks, Result, StoreError, Verdict,
};

use crate::Faulty;
use crate::sins::{Sin, chosen, due, sin};

/// Octets of a message that are searched for the text of the settings.
const MAX_SEARCHED: u32 = 64 << 10;

/// Whether the settings mean this message.
async fn is_meant<B: Body>(message: &B) -> Result<bool> {
    let Some(text) = chosen().and_then(|chosen| chosen.text.as_ref()) else { return Ok(true) };
    let octets = message.read(0, MAX_SEARCHED).await?;
    Ok(octets.windows(text.len()).any(|window| window == text.as_bytes()))
}

impl Hooks for Faulty {
    async fn before_delivery<B: Body>(
        &self,
        call: &Call,
        delivery: &Delivery,
        message: &B,
    ) -> Result<Verdict> {
        if !is_meant(message).await? {
            return Ok(Verdict::keep());
        }
        let due = due(call, "hook", "before").unwrap_or_default();
        sin(due)?;
        Ok(match due {
            Sin::Wrong => Verdict::Accept(Changes::none().file_into("no//name")),
            Sin::Other => Verdict::Other(Vec::new()),
            Sin::Nonsense => {
                Verdict::Accept(Changes::none().add("X-Faulty", "a\r\nBcc: b@example.org"))
            }
            Sin::Echo => {
                return Err(StoreError::Denied(format!(
                    "{delivery:?} of {} octets",
                    message.size()
                )));
            }
            _ => Verdict::keep(),
        })
    }

    async fn after_delivery(&self, call: &Call, delivered: &Delivered) -> Result<()> {
        let due = due(call, "hook", "after").unwrap_or_default();
        sin(due)?;
        match due {
            Sin::Echo => Err(StoreError::Denied(format!("{delivered:?}"))),
            _ => Ok(()),
        }
    }
}
