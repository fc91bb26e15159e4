//! A store for tests: the default store to the letter, which commits one sin where its settings say
//! so. The node's tests hold against it what everybody else's calls get meanwhile.
//!
//! | setting | what | without |
//! |---|---|---|
//! | `sin` | one of [`Sin`], such as `trap` | none: a right store |
//! | `account` | only calls of this account sin, 32 hexadecimal digits | all |
//! | `verb` | only this function sins: `message.insert`, `mailbox.list`, `hook.before` | all |
//! | `every` | of those only each so manieth in an instance | each |
//! | `text` | as a hook it sins before deliveries of messages with this text only | all |
//!
//! The same may be written into the file itself, as `written` says; then the settings do not count.

// The default store's own code, not its crate: two components in one would export everything twice.
#[path = "../../keyed/src/check.rs"]
mod check;
mod hook;
#[path = "../../keyed/src/messages.rs"]
mod messages;
mod remembered;
#[path = "../../keyed/src/rows.rs"]
mod rows;
mod sins;
#[cfg(target_arch = "wasm32")]
mod written;

use postroom_guest::{
    Body, Call, CheckAsk, CheckPage, Found, Id, Message, MessageChange, MessagePlace, Messages,
    New, Page, PageAsk, Part, Record, Records, Result, RowPerRecord, Txn, View,
};

use remembered::Remembered;
pub use sins::Sin;
use sins::{UnderWay, due, hold, nonsense, sin};

/// Octets of a body that are remembered for another account.
const MAX_REMEMBERED: u32 = 64 << 10;

/// The default store.
#[derive(Clone, Copy, Debug, Default)]
struct Keyed;

impl RowPerRecord for Keyed {
    const SCHEMA: u8 = rows::SCHEMAS.newest;
}

/// The store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faulty;

postroom_guest::export! {
    Faulty: domains, users, mailboxes, messages, hooks;
    manifest: { "schema": { "reads": [1, 1], "writes": [1, 1] }, "medium": "host", "asks": {} }
}

/// What a function does about its sin before it does what is right: nothing, for sins of the answer.
fn begin<T: Txn>(call: &Call, kind: &str, verb: &str, txn: &T) -> Result<Option<Sin>> {
    let due = due(call, kind, verb);
    if due == Some(Sin::Hold) {
        hold(txn);
    }
    sin(due.unwrap_or_default())?;
    Ok(due)
}

impl<R: Record> Records<R> for Faulty {
    async fn create<T: Txn>(&self, call: &Call, txn: &T) -> Result<()> {
        begin(call, R::KIND, "create", txn)?;
        Records::<R>::create(&Keyed, call, txn).await
    }

    async fn drop<T: Txn>(&self, call: &Call, txn: &T) -> Result<()> {
        begin(call, R::KIND, "drop", txn)?;
        Records::<R>::drop(&Keyed, call, txn).await
    }

    async fn insert<T: Txn>(&self, call: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        begin(call, R::KIND, "insert", txn)?;
        Records::<R>::insert(&Keyed, call, txn, rows).await
    }

    async fn update<T: Txn>(&self, call: &Call, txn: &T, rows: Vec<R>) -> Result<()> {
        begin(call, R::KIND, "update", txn)?;
        Records::<R>::update(&Keyed, call, txn, rows).await
    }

    async fn delete<T: Txn>(&self, call: &Call, txn: &T, names: Vec<R::Name>) -> Result<()> {
        begin(call, R::KIND, "delete", txn)?;
        Records::<R>::delete(&Keyed, call, txn, names).await
    }

    async fn select<V: View>(
        &self,
        call: &Call,
        view: &V,
        names: Vec<R::Name>,
    ) -> Result<Found<R>> {
        let due = due(call, R::KIND, "select");
        sin(due.unwrap_or_default())?;
        let mut found = Records::<R>::select(&Keyed, call, view, names).await?;
        match due.unwrap_or_default() {
            Sin::Wrong => found.rotate_left(1),
            Sin::Other => found.iter_mut().for_each(|row| *row = Remembered::row(call)),
            _ => Remembered::rows(call, found.iter().flatten()),
        }
        Ok(found)
    }

    async fn list<V: View>(
        &self,
        call: &Call,
        view: &V,
        mut ask: PageAsk<R::Name>,
    ) -> Result<Page<R>> {
        let due = due(call, R::KIND, "list");
        sin(due.unwrap_or_default())?;
        let _alone = (due == Some(Sin::Alone)).then(UnderWay::begin).transpose()?;
        ask.limit += u32::from(due == Some(Sin::TooMany));
        let mut page = Records::<R>::list(&Keyed, call, view, ask).await?;
        match due.unwrap_or_default() {
            Sin::Wrong => page.rows.reverse(),
            Sin::Other => page.rows = Remembered::row(call).into_iter().collect(),
            Sin::MoreOfNothing => page = Page { rows: Vec::new(), more: true },
            _ => Remembered::rows(call, page.rows.iter()),
        }
        Ok(page)
    }

    async fn check<T: Txn>(&self, call: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        begin(call, R::KIND, "check", txn)?;
        Records::<R>::check(&Keyed, call, txn, ask).await
    }
}

impl Messages for Faulty {
    async fn create<T: Txn>(&self, call: &Call, txn: &T) -> Result<()> {
        begin(call, "message", "create", txn)?;
        Messages::create(&Keyed, call, txn).await
    }

    async fn drop<T: Txn>(&self, call: &Call, txn: &T, mailbox: Id) -> Result<()> {
        begin(call, "message", "drop", txn)?;
        Messages::drop(&Keyed, call, txn, mailbox).await
    }

    async fn insert<T: Txn>(&self, call: &Call, txn: &T, messages: New<T>) -> Result<()> {
        begin(call, "message", "insert", txn)?;
        Messages::insert(&Keyed, call, txn, messages).await
    }

    async fn update<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        mut changes: Vec<MessageChange>,
    ) -> Result<()> {
        if begin(call, "message", "update", txn)? == Some(Sin::LostFlag) {
            changes.iter_mut().for_each(|change| drop(change.flags.pop()));
        }
        Messages::update(&Keyed, call, txn, changes).await
    }

    async fn delete<T: Txn>(&self, call: &Call, txn: &T, places: Vec<MessagePlace>) -> Result<()> {
        begin(call, "message", "delete", txn)?;
        Messages::delete(&Keyed, call, txn, places).await
    }

    async fn select<V: View>(
        &self,
        call: &Call,
        view: &V,
        places: Vec<MessagePlace>,
    ) -> Result<Found<Message>> {
        let due = due(call, "message", "select");
        sin(due.unwrap_or_default())?;
        let mut found = Messages::select(&Keyed, call, view, places).await?;
        match due.unwrap_or_default() {
            Sin::Wrong => found.rotate_left(1),
            Sin::Nonsense => found.iter_mut().flatten().for_each(nonsense),
            _ => {}
        }
        Ok(found)
    }

    async fn list<V: View>(
        &self,
        call: &Call,
        view: &V,
        mailbox: Id,
        mut ask: PageAsk<u32>,
    ) -> Result<Page<Message>> {
        let due = due(call, "message", "list");
        sin(due.unwrap_or_default())?;
        let _alone = (due == Some(Sin::Alone)).then(UnderWay::begin).transpose()?;
        ask.limit += u32::from(due == Some(Sin::TooMany));
        let mut page = Messages::list(&Keyed, call, view, mailbox, ask).await?;
        match due.unwrap_or_default() {
            Sin::Wrong => page.rows.reverse(),
            Sin::Nonsense => page.rows.iter_mut().for_each(nonsense),
            Sin::MoreOfNothing => page = Page { rows: Vec::new(), more: true },
            _ => {}
        }
        Ok(page)
    }

    async fn fetch<V: View>(
        &self,
        call: &Call,
        view: &V,
        mailbox: Id,
        name: String,
        at: u64,
        max: u64,
    ) -> Result<Option<Part<V::Body>>> {
        let due = due(call, "message", "fetch");
        sin(due.unwrap_or_default())?;
        let part = Messages::fetch(&Keyed, call, view, mailbox, name, at, max).await?;
        match (due.unwrap_or_default(), part) {
            (Sin::Other, Some(_)) => Ok(Remembered::octets(call).map(Part::Octets)),
            (_, Some(Part::Body(body))) if Remembered::wanted() => {
                Remembered::body(call, body.read(0, MAX_REMEMBERED).await?);
                Ok(Some(Part::Body(body)))
            }
            (_, part) => Ok(part),
        }
    }

    async fn settle<V: View>(
        &self,
        call: &Call,
        view: &V,
        mailbox: Id,
        names: Vec<String>,
    ) -> Result<()> {
        sin(due(call, "message", "settle").unwrap_or_default())?;
        Messages::settle(&Keyed, call, view, mailbox, names).await
    }

    async fn check<T: Txn>(&self, call: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        begin(call, "message", "check", txn)?;
        Messages::check(&Keyed, call, txn, ask).await
    }
}
