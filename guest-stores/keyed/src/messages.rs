//! Messages: mailbox, UID → two rows. An `f` row holds what never changes (`rows`), a `v` row mod-sequence,
//! flags and properties, some twenty octets: a flag change of a whole mailbox rewrites these alone,
//! without reading anything, and they lie side by side.

use std::mem::take;

use postroom_guest::check::check;
use postroom_guest::codec::{Encode, from_row_of, to_row};
use postroom_guest::{
    Call, CheckAsk, CheckPage, Found, Id, MAX_OCTETS, Message, MessageChange, MessagePlace,
    Messages, New, NewMessage, Page, PageAsk, Property, Result, StoreError, Txn, View,
    encode_fields, get_all, key_after, prefix_end,
};

use crate::Keyed;
use crate::check::MessageRow;
use crate::rows::{SCHEMAS, fixed_row, read_fixed};

/// Rows looked at in one call of check: few enough to be done in a moment, bodies looked up.
const CHECK_ROWS: u32 = 500;

pub const FIXED: u8 = b'f';
pub const VOLATILE: u8 = b'v';

/// What an update changes.
#[derive(Default)]
pub struct Volatile {
    pub modseq: u64,
    pub flags: Vec<String>,
    pub extra: Vec<Property>,
}

encode_fields!(Volatile { modseq, flags, extra });

/// Reads the two rows of a place as one message.
fn join(place: MessagePlace, fixed: &[u8], volatile: &[u8]) -> Result<Message> {
    let Volatile { modseq, flags, extra } = read_volatile(place, volatile)?;
    Ok(Message { modseq, flags, extra, ..read_fixed(place, fixed)? })
}

pub fn read_volatile(place: MessagePlace, row: &[u8]) -> Result<Volatile> {
    let what = || format!("{place} (flags)");
    from_row_of(SCHEMAS, row, |_, input| Volatile::decode(input), what)
}

fn half(place: MessagePlace) -> StoreError {
    StoreError::damaged(format_args!("{place} has only one of its two rows"))
}

/// The beginning of the keys of a mailbox.
fn prefix(part: u8, mailbox: Id) -> Vec<u8> {
    [&[part][..], &mailbox.octets()].concat()
}

pub fn key(part: u8, place: MessagePlace) -> Vec<u8> {
    [&[part][..], &place.octets()].concat()
}

/// Part and place of a key; `None`: not one of ours.
pub fn place_of(key: &[u8]) -> Option<(u8, MessagePlace)> {
    let (part, place) = key.split_first().filter(|(part, _)| [FIXED, VOLATILE].contains(part))?;
    Some((*part, MessagePlace::from_octets(place.try_into().ok()?)))
}

impl Messages for Keyed {
    async fn drop<T: Txn>(&self, _: &Call, txn: &T, mailbox: Id) -> Result<()> {
        for prefix in [prefix(FIXED, mailbox), prefix(VOLATILE, mailbox)] {
            let end = prefix_end(&prefix);
            txn.delete_range(prefix, end)?;
        }
        Ok(())
    }

    async fn insert<T: Txn>(&self, call: &Call, txn: &T, messages: New<T>) -> Result<()> {
        let schema = SCHEMAS.of(call)?;
        for NewMessage { mut row, body } in messages {
            let place = row.place();
            let (flags, extra) = (take(&mut row.flags), take(&mut row.extra));
            let volatile = Volatile { modseq: take(&mut row.modseq), flags, extra };
            txn.put(key(FIXED, place), fixed_row(schema, &row))?;
            txn.put(key(VOLATILE, place), to_row(schema, &volatile))?;
            txn.put_body(row.name, body)?;
        }
        Ok(())
    }

    async fn update<T: Txn>(
        &self,
        call: &Call,
        txn: &T,
        changes: Vec<MessageChange>,
    ) -> Result<()> {
        let schema = SCHEMAS.of(call)?;
        for MessageChange { place, modseq, flags, extra } in changes {
            txn.put(key(VOLATILE, place), to_row(schema, &Volatile { modseq, flags, extra }))?;
        }
        Ok(())
    }

    async fn delete<T: Txn>(&self, _: &Call, txn: &T, places: Vec<MessagePlace>) -> Result<()> {
        for place in places {
            txn.delete(key(FIXED, place))?;
            txn.delete(key(VOLATILE, place))?;
        }
        Ok(())
    }

    async fn select<V: View>(
        &self,
        _: &Call,
        view: &V,
        places: Vec<MessagePlace>,
    ) -> Result<Found<Message>> {
        let keys = places.iter().flat_map(|place| [key(FIXED, *place), key(VOLATILE, *place)]);
        let rows = get_all(view, keys.collect()).await?;
        let message = |(place, pair): (&MessagePlace, &[Option<Vec<u8>>])| match pair {
            [Some(fixed), Some(volatile)] => join(*place, fixed, volatile).map(Some),
            [None, None] => Ok(None),
            _ => Err(half(*place)),
        };
        places.iter().zip(rows.chunks(2)).map(message).collect()
    }

    async fn list<V: View>(
        &self,
        _: &Call,
        view: &V,
        mailbox: Id,
        ask: PageAsk<u32>,
    ) -> Result<Page<Message>> {
        let scan = |part| {
            let prefix = prefix(part, mailbox);
            let end = prefix_end(&prefix);
            let after = ask.after.map(|uid| key_after(key(part, MessagePlace { mailbox, uid })));
            view.scan(after.unwrap_or(prefix), end, ask.limit, MAX_OCTETS)
        };
        let (fixed, volatile) = (scan(FIXED).await?, scan(VOLATILE).await?);
        let mut volatiles = volatile.items.iter().peekable();
        let mut rows = Vec::with_capacity(fixed.items.len());
        for (key, row) in &fixed.items {
            let (_, place) = place_of(key)
                .ok_or_else(|| StoreError::damaged(format_args!("mailbox {mailbox}: {key:?}")))?;
            // A `v` row without its `f` row is no message: check takes it away.
            while volatiles.next_if(|(other, _)| other[1..] < key[1..]).is_some() {}
            match volatiles.next_if(|(other, _)| other[1..] == key[1..]) {
                Some((_, volatile)) => rows.push(join(place, row, volatile)?),
                None if volatiles.peek().is_none() && volatile.more && !rows.is_empty() => break,
                None => return Err(half(place)),
            }
        }
        let more = fixed.more || rows.len() < fixed.items.len();
        Ok(Page { rows, more })
    }

    async fn check<T: Txn>(&self, call: &Call, txn: &T, ask: CheckAsk) -> Result<CheckPage> {
        let judge =
            MessageRow { schema: SCHEMAS.of(call)?, migrated_to: SCHEMAS.migrated_to(call)? };
        check(txn, ask, CHECK_ROWS, &judge).await
    }
}
