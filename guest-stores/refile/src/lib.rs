//! A hook: files what a spam filter has marked into a mailbox of its own, and says so in the header.
//!
//! | setting | what | without |
//! |---|---|---|
//! | `field` | the header field that is looked at | `X-Spam-Flag` |
//! | `value` | messages with this value are meant, in any case | `YES` |
//! | `mailbox` | where they go | `Junk` |
//! | `refuse` | why they are refused, instead of being filed | they are filed |
//!
//! `X-Postroom-Refile: Junk` in front of a message says that it was filed here, and by which hook.

use postroom_guest::header::{field, header};
use postroom_guest::{Body, Call, Changes, Delivery, Hooks, Result, Verdict};

/// Octets of a header that are looked at: a filter's verdict stands near its beginning.
const MAX_HEADER_OCTETS: usize = 256 << 10;
/// The field that a filed message gets.
pub const TRACE: &str = "X-Postroom-Refile";

/// The hook.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refile;

postroom_guest::export! {
    Refile: hooks;
    manifest: { "asks": {} }
}

#[cfg(target_arch = "wasm32")]
use postroom_guest::setting;

/// Natively nothing is set.
#[cfg(not(target_arch = "wasm32"))]
fn setting(_: &str) -> Option<String> {
    None
}

fn setting_or(name: &str, default: &str) -> String {
    setting(name).unwrap_or_else(|| default.to_owned())
}

impl Hooks for Refile {
    async fn before_delivery<B: Body>(
        &self,
        _: &Call,
        _: &Delivery,
        message: &B,
    ) -> Result<Verdict> {
        let header = header(message, MAX_HEADER_OCTETS).await?;
        let found = field(&header, &setting_or("field", "X-Spam-Flag"));
        let meant = setting_or("value", "YES");
        if !found.is_some_and(|value| value.eq_ignore_ascii_case(&meant)) {
            return Ok(Verdict::keep());
        }
        if let Some(text) = setting("refuse") {
            return Ok(Verdict::refused(text));
        }
        let mailbox = setting_or("mailbox", "Junk");
        // A name in other letters is told nowhere but in the mailbox.
        let told = mailbox.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' });
        let trace = told.collect::<String>();
        Ok(Verdict::Accept(Changes::none().file_into(mailbox).add(TRACE, trace)))
    }
}
