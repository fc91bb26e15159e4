//! A compact encoding for stored rows: a version octet, then fields in order. Numbers take as many
//! octets as they need (7 bits each, least significant first), texts and lists their length before
//! them. Decoding takes any octets and never panics.

use crate::error::{Result, StoreError};
use crate::records::{Domain, Id, Mailbox, Message, Property, Timestamp, User};
use crate::schema::Schemas;

/// A type that can be a stored row or a part of one.
pub trait Encode: Sized {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes a value from the front; `None`: there is none.
    fn decode(input: &mut &[u8]) -> Option<Self>;
}

/// A row of this version.
pub fn to_row<T: Encode>(version: u8, value: &T) -> Vec<u8> {
    let mut row = vec![version];
    value.encode(&mut row);
    row
}

/// The value of a row. `damaged` when it has another version, is cut short or goes on after the
/// value; `what` names the row.
pub fn from_row<T: Encode>(version: u8, row: &[u8], what: impl FnOnce() -> String) -> Result<T> {
    let only = Schemas { oldest: version, newest: version };
    from_row_of(only, row, |_, input| T::decode(input), what)
}

/// The value of a row of any of some schemas, as `decode` takes it from the octets after the schema's.
/// `damaged` as [`from_row`].
pub fn from_row_of<T>(
    schemas: Schemas,
    row: &[u8],
    decode: impl FnOnce(u8, &mut &[u8]) -> Option<T>,
    what: impl FnOnce() -> String,
) -> Result<T> {
    let problem = match row.split_first() {
        None => "is empty".to_owned(),
        Some((found, _)) if !schemas.has(*found) => {
            let Schemas { oldest, newest } = schemas;
            match oldest == newest {
                true => format!("has schema {found} where {oldest} is read"),
                false => format!("has schema {found} where {oldest} to {newest} are read"),
            }
        }
        Some((schema, mut rest)) => match decode(*schema, &mut rest) {
            Some(value) if rest.is_empty() => return Ok(value),
            Some(_) => "has octets after its end".to_owned(),
            None => "is cut short or no record".to_owned(),
        },
    };
    Err(StoreError::damaged(format_args!("{} {problem}", what())))
}

/// Takes `count` octets from the front.
fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = input.split_at_checked(count)?;
    *input = rest;
    Some(front)
}

impl Encode for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let octet = take(input, 1)?[0];
            let bits = u64::from(octet & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if octet < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

macro_rules! as_u64 {
    ($($number:ty),*) => {$(
        impl Encode for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                u64::from(*self).encode(out);
            }

            fn decode(input: &mut &[u8]) -> Option<Self> {
                u64::decode(input)?.try_into().ok()
            }
        }
    )*};
}
as_u64!(u16, u32);

/// Octets stand for themselves, so that a list of them costs what it holds.
impl Encode for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        Some(take(input, 1)?[0])
    }
}

/// The sign in the lowest bit, so that small numbers of either sign are short.
impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        ((self << 1) ^ (self >> 63)).cast_unsigned().encode(out);
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let bits = u64::decode(input)?;
        Some((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
    }
}

impl Encode for i16 {
    fn encode(&self, out: &mut Vec<u8>) {
        i64::from(*self).encode(out);
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        i64::decode(input)?.try_into().ok()
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::decode(input)?).ok()?;
        String::from_utf8(take(input, length)?.to_vec()).ok()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.len() as u64).encode(out);
        self.iter().for_each(|item| item.encode(out));
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u64::decode(input)?).ok()?;
        // Every item has at least one octet: a forged length does not make room for itself.
        if length > input.len() {
            return None;
        }
        (0..length).map(|_| T::decode(input)).collect()
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                value.encode(out);
            }
        }
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        match u8::decode(input)? {
            0 => Some(None),
            1 => T::decode(input).map(Some),
            _ => None,
        }
    }
}

/// Random octets: a shorter form would gain nothing.
impl Encode for Id {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.octets());
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        take(input, 16)?.try_into().ok().map(Self::from_octets)
    }
}

/// Encodes a record as its fields, in the order in which they stand here.
#[macro_export]
macro_rules! encode_fields {
    ($record:ty { $($field:ident),* $(,)? }) => {
        impl $crate::codec::Encode for $record {
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::codec::Encode::encode(&self.$field, out);)*
            }

            fn decode(input: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: $crate::codec::Encode::decode(input)?),* })
            }
        }
    };
}

encode_fields!(Property { name, value });
encode_fields!(Timestamp { seconds, offset_minutes });
encode_fields!(Domain { name, alias_of, extra });
encode_fields!(User { name, account, alias_of, password, quota_octets, extra });
encode_fields!(Mailbox { id, name, uid_validity, special_use, extra });
encode_fields!(Message {
    name,
    mailbox,
    uid,
    modseq,
    flags,
    internal_date,
    save_date,
    size,
    message_id,
    thread_id,
    from,
    to,
    cc,
    bcc,
    extra,
});
