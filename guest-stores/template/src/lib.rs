//! A store of users: one row for each, under the user's name. Change it into yours.
//!
//! What each function promises is written in `wit/store.wit`; `cargo test` holds the store against it,
//! and `cargo build --release --target wasm32-wasip2` makes the component.

use postroom_guest::check::{Judge, Mend, Problem, Verdict, check};
use postroom_guest::codec::{from_row, to_row};
use postroom_guest::{
    Call, CheckAsk, CheckPage, Found, Item, MAX_OCTETS, Page, PageAsk, Record, Records, Result,
    StoreError, Txn, User, View, get_all, key_after,
};

/// Schema of every row: its first octet. Raise it when rows change, and read the old ones as well.
const SCHEMA: u8 = 1;

/// Rows looked at in one call of check: few enough to be done in a moment.
const CHECK_ROWS: u32 = 1000;

/// The store. It keeps nothing between calls: everything is in the host's storage.
#[derive(Clone, Copy, Debug, Default)]
pub struct MyStore;

postroom_guest::export! {
    MyStore: users;
    manifest: { "schema": { "reads": [1, 1], "writes": 1 }, "medium": "host", "asks": {} }
}

fn read(row: &[u8]) -> Result<User> {
    from_row(SCHEMA, row, || "user".to_owned())
}

/// Which of the users are there, in their order.
async fn present<T: Txn>(txn: &T, users: &[User]) -> Result<Vec<bool>> {
    let keys = users.iter().map(|user| User::key(&user.name)).collect();
    Ok(get_all(&txn.view(), keys).await?.iter().map(Option::is_some).collect())
}

fn put<T: Txn>(txn: &T, users: &[User]) -> Result<()> {
    for user in users {
        txn.put(User::key(&user.name), to_row(SCHEMA, user))?;
    }
    Ok(())
}

impl Records<User> for MyStore {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T) -> Result<()> {
        Ok(txn.delete_range(Vec::new(), None)?)
    }

    async fn insert<T: Txn>(&self, _: &Call, txn: &T, users: Vec<User>) -> Result<()> {
        match present(txn, &users).await?.iter().position(|there| *there) {
            Some(at) => Err(StoreError::AlreadyExists(users[at].name.clone())),
            None => put(txn, &users),
        }
    }

    async fn update<T: Txn>(&self, _: &Call, txn: &T, users: Vec<User>) -> Result<()> {
        match present(txn, &users).await?.iter().position(|there| !*there) {
            Some(at) => Err(StoreError::NotFound(users[at].name.clone())),
            None => put(txn, &users),
        }
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, names: Vec<String>) -> Result<()> {
        for name in &names {
            txn.delete(User::key(name))?;
        }
        Ok(())
    }

    async fn select<V: View>(&self, _: &Call, view: &V, names: Vec<String>) -> Result<Found<User>> {
        let rows = get_all(view, names.iter().map(User::key).collect()).await?;
        rows.into_iter().map(|row| row.map(|row| read(&row)).transpose()).collect()
    }

    async fn list<V: View>(&self, _: &Call, view: &V, ask: PageAsk<String>) -> Result<Page<User>> {
        let start = ask.after.map_or_else(Vec::new, |name| key_after(User::key(&name)));
        let page = view.scan(start, None, ask.limit, MAX_OCTETS).await?;
        let rows = page.items.iter().map(|(_, row)| read(row)).collect::<Result<_>>()?;
        Ok(Page { rows, more: page.more })
    }

    async fn check<T: Txn>(&self, _: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        check(txn, ask, CHECK_ROWS, self).await
    }
}

/// What is wrong with a row: it cannot be read, or it is under another user's key.
impl Judge for MyStore {
    async fn judge<V: View>(&self, _: &V, (key, row): &Item) -> Result<Verdict> {
        let problem = match read(row) {
            Ok(user) if User::key(&user.name) == *key => return Ok(Vec::new().into()),
            Ok(_) => "is under another user's key".to_owned(),
            Err(error) => error.text().to_owned(),
        };
        let (name, mend) = (key.escape_ascii().to_string(), Mend::Remove(vec![key.clone()]));
        Ok(vec![Problem { name, problem, mend }].into())
    }
}
