//! What every read means, over any state of the rows.

use std::ops::ControlFlow;

use bytes::Bytes;
use postroom_core::types::{Epoch, Slot, TransactionId};

use super::rows::{BodyRow, ClaimRow, LinkRow, Rows, TransactionRow};
use super::{
    Area, BodyRef, Claim, Claimant, Key, MAX_CLAIMS, MAX_GET_OCTETS, ScanLimit, ScanPage, Space,
    StorageError, key, row,
};

/// As [`Engine::get_many`](super::Engine::get_many).
pub fn get_many(
    rows: &impl Rows,
    space: Space,
    keys: &[Key],
) -> Result<Vec<Option<Bytes>>, StorageError> {
    let (mut values, mut octets) = (Vec::with_capacity(keys.len()), 0);
    for at in keys {
        let value = rows.payload(&key::row(space, at))?;
        octets += value.as_ref().map_or(0, Bytes::len);
        within_one_get(octets)?;
        values.push(value);
    }
    Ok(values)
}

/// That so many octets of values may be returned at once.
pub fn within_one_get(octets: usize) -> Result<(), StorageError> {
    match octets <= MAX_GET_OCTETS {
        true => Ok(()),
        false => Err(StorageError::Limit(format!(
            "the values have {octets} octets or more, at most {MAX_GET_OCTETS} a call"
        ))),
    }
}

/// As [`Engine::scan`](super::Engine::scan).
pub fn scan(
    rows: &impl Rows,
    space: Space,
    range: (Area, &[u8], &[u8]),
    limit: ScanLimit,
) -> Result<ScanPage, StorageError> {
    let (start, end) = key::rows(space, range.0, range.1, range.2);
    let mut page = ScanPage::default();
    if start >= end {
        return Ok(page);
    }
    let (limit, prefix) = (limit.clamped(), key::area_prefix(space));
    let mut octets = 0;
    rows.visit(&start, &end, &mut |raw, stored| {
        octets += raw.len() - prefix + stored.len() - row::HEADER.min(stored.len());
        let first = page.items.is_empty();
        if page.items.len() == limit.items || (octets > limit.octets && !first) {
            page.more = true;
            return Ok(ControlFlow::Break(()));
        }
        let payload = Bytes::copy_from_slice(row::payload(raw, stored)?);
        page.items.push((Bytes::copy_from_slice(&raw[prefix..]), payload));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(page)
}

/// As [`Engine::claimed`](super::Engine::claimed).
pub fn claimed(rows: &impl Rows, slot: Slot) -> Result<Option<(Epoch, Claimant)>, StorageError> {
    let claim = rows.record::<ClaimRow>(&key::claim(slot))?;
    Ok(claim.map(|claim| (claim.epoch, claim.claimant())))
}

/// As [`Engine::claims`](super::Engine::claims).
pub fn claims(rows: &impl Rows, slots: &[Slot]) -> Result<Vec<Option<Claim>>, StorageError> {
    within_claims(slots)?;
    let claim = |slot: &Slot| {
        let claim = rows.record::<ClaimRow>(&key::claim(*slot))?;
        Ok(claim.map(ClaimRow::claim))
    };
    slots.iter().map(claim).collect()
}

/// That so many claims may be asked for at once.
pub fn within_claims(slots: &[Slot]) -> Result<(), StorageError> {
    match slots.len() <= MAX_CLAIMS {
        true => Ok(()),
        false => Err(StorageError::Limit(format!("{} slots, at most {MAX_CLAIMS}", slots.len()))),
    }
}

/// As [`Engine::head`](super::Engine::head).
pub fn head(rows: &impl Rows, space: Space) -> Result<u64, StorageError> {
    let at = key::head(space);
    if let Some(head) = rows.record(&at)? {
        return Ok(head);
    }
    // Whatever a space holds, its head was written with it. An account whose head is not found, but
    // whose rows are, would be taken for a new one.
    rows.visit(&at, &key::after_space(space), &mut |_, _| {
        Err(StorageError::Damaged(format!("{space:?} has lost its head")))
    })?;
    Ok(0)
}

/// As [`Engine::transaction`](super::Engine::transaction).
pub fn transaction(
    rows: &impl Rows,
    space: Space,
    id: TransactionId,
) -> Result<Option<Bytes>, StorageError> {
    let row = rows.record::<TransactionRow>(&key::transaction(space, id))?;
    Ok(row.map(|row| row.result))
}

/// As [`Engine::body`](super::Engine::body).
pub fn body(rows: &impl Rows, space: Space, name: &str) -> Result<Option<BodyRef>, StorageError> {
    let link = rows.record::<LinkRow>(&key::link(space, name))?;
    Ok(link.map(|link| BodyRef { key: link.body, size: link.size, digest: link.digest }))
}

/// Where a linked body is.
pub fn body_row(
    rows: &impl Rows,
    space: Space,
    body: &[u8; 16],
) -> Result<Option<BodyRow>, StorageError> {
    rows.record(&key::body(space, body))
}

/// The octets of a body that is kept in a row.
pub fn body_octets(rows: &impl Rows, space: Space, body: &[u8; 16]) -> Result<Bytes, StorageError> {
    rows.payload(&key::octets(space, body))?.ok_or_else(|| {
        StorageError::Damaged(format!("body {} has lost its octets", hex::encode(body)))
    })
}

/// As [`Engine::spaces`](super::Engine::spaces).
pub fn spaces(
    rows: &impl Rows,
    after: Option<Space>,
    limit: usize,
) -> Result<Vec<Space>, StorageError> {
    let mut spaces = Vec::new();
    let mut from = after.map_or(key::FIRST_SPACE.to_vec(), key::after_space);
    while spaces.len() < limit {
        let mut found = None;
        rows.visit(&from, &key::AFTER_SPACES, &mut |raw, _| {
            found = Some(key::space_of(raw).ok_or_else(|| {
                StorageError::Damaged(format!("key {} belongs to no space", hex::encode(raw)))
            })?);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(space) = found else { break };
        spaces.push(space);
        from = key::after_space(space);
    }
    Ok(spaces)
}

/// The part of a whole body that was asked for, after its digest has been verified where all of
/// it was.
pub fn part(body: &BodyRef, octets: Bytes, at: u64, max: u64) -> Result<Bytes, StorageError> {
    if octets.len() as u64 != body.size {
        return Err(StorageError::Damaged(format!(
            "body {} has {} octets instead of {}",
            hex::encode(body.key),
            octets.len(),
            body.size
        )));
    }
    if at == 0 && max >= body.size {
        verify(body, &octets)?;
    }
    let start = at.min(body.size) as usize;
    let end = at.saturating_add(max).min(body.size) as usize;
    Ok(octets.slice(start..end))
}

/// Holds the octets of a whole body against its digest.
pub fn verify(body: &BodyRef, octets: &[u8]) -> Result<(), StorageError> {
    match *blake3::hash(octets).as_bytes() == body.digest {
        true => Ok(()),
        false => Err(StorageError::Damaged(format!(
            "body {} does not have its digest",
            hex::encode(body.key)
        ))),
    }
}
