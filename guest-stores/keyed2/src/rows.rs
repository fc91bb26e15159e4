//! The row of what never changes of a message, in two schemas.
//!
//! | schema | a row |
//! |---|---|
//! | 1 | all fields of the record, in their order |
//! | 2 | [`Compact`]: without what the key says and what is in the other row; the name in half its octets; the date of saving as what it is later than the internal date |
//!
//! A list of a mailbox reads all its rows, so it is their size that it costs.

use postroom_guest::codec::{Encode, from_row_of};
use postroom_guest::{
    Id, Message, MessagePlace, Result, Schemas, StoreError, Timestamp, encode_fields,
};

/// Schemas of every row, which is its first octet.
pub const SCHEMAS: Schemas = Schemas { oldest: 1, newest: 2 };

/// A row of schema 2, after the schema's octet.
struct Compact {
    /// Of the place: a row that has come under another key is found out.
    sum: Sum,
    name: Name,
    internal_date: Timestamp,
    saved_after: i64,
    size: u64,
    message_id: Id,
    thread_id: Id,
    from: Vec<String>,
    to: Vec<String>,
    cc: Vec<String>,
    bcc: Vec<String>,
}

encode_fields!(Compact {
    sum,
    name,
    internal_date,
    saved_after,
    size,
    message_id,
    thread_id,
    from,
    to,
    cc,
    bcc,
});

/// FNV-1a of a place.
#[derive(PartialEq)]
struct Sum([u8; 4]);

impl Sum {
    fn of(place: MessagePlace) -> Self {
        let mix = |sum: u32, octet: &u8| (sum ^ u32::from(*octet)).wrapping_mul(0x0100_0193);
        Self(place.octets().iter().fold(0x811c_9dc5, mix).to_be_bytes())
    }
}

impl Encode for Sum {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let (octets, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(Self(*octets))
    }
}

/// A message's name: the host's are 32 hexadecimal digits, others stand as they are.
struct Name(String);

/// Where the length of a name would be: 16 octets follow, which are its digits. No name is so long.
const DIGITS: u64 = 0x7f;
/// Octets of a name in digits.
const NAME_OCTETS: usize = 16;

impl Encode for Name {
    fn encode(&self, out: &mut Vec<u8>) {
        match packed(&self.0) {
            Some(octets) => {
                DIGITS.encode(out);
                out.extend_from_slice(&octets);
            }
            None => self.0.encode(out),
        }
    }

    fn decode(input: &mut &[u8]) -> Option<Self> {
        let mut after = *input;
        if u64::decode(&mut after)? != DIGITS {
            return String::decode(input).map(Self);
        }
        let (octets, rest) = after.split_at_checked(NAME_OCTETS)?;
        *input = rest;
        Some(Self(octets.iter().map(|octet| format!("{octet:02x}")).collect()))
    }
}

/// The octets of 32 lower case hexadecimal digits.
fn packed(name: &str) -> Option<Vec<u8>> {
    let digit = |octet: &u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    let digits: Vec<u8> = name.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let whole = digits.len() == 2 * NAME_OCTETS;
    whole.then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The row of a message without what an update changes.
pub fn fixed_row(schema: u8, message: &Message) -> Vec<u8> {
    let mut row = vec![schema];
    match schema {
        1 => message.encode(&mut row),
        _ => Compact::of(message).encode(&mut row),
    }
    row
}

/// The message of a row.
pub fn read_fixed(place: MessagePlace, row: &[u8]) -> Result<Message> {
    let decode = |schema: u8, input: &mut &[u8]| match schema {
        1 => Message::decode(input),
        _ => Compact::decode(input)?.message(place),
    };
    let message = from_row_of(SCHEMAS, row, decode, || place.to_string())?;
    match message.place() == place {
        true => Ok(message),
        false => Err(StoreError::damaged(format_args!("{place} is another one's row"))),
    }
}

impl Compact {
    fn of(message: &Message) -> Self {
        let message = message.clone();
        Self {
            sum: Sum::of(message.place()),
            name: Name(message.name),
            internal_date: message.internal_date,
            saved_after: message.save_date.wrapping_sub(message.internal_date.seconds),
            size: message.size,
            message_id: message.message_id,
            thread_id: message.thread_id,
            from: message.from,
            to: message.to,
            cc: message.cc,
            bcc: message.bcc,
        }
    }

    /// `None`: it is another place's.
    fn message(self, place: MessagePlace) -> Option<Message> {
        (self.sum == Sum::of(place)).then(|| Message {
            name: self.name.0,
            mailbox: place.mailbox,
            uid: place.uid,
            modseq: 0,
            flags: Vec::new(),
            internal_date: self.internal_date,
            save_date: self.internal_date.seconds.wrapping_add(self.saved_after),
            size: self.size,
            message_id: self.message_id,
            thread_id: self.thread_id,
            from: self.from,
            to: self.to,
            cc: self.cc,
            bcc: self.bcc,
            extra: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> Message {
        Message {
            name: name.to_owned(),
            mailbox: Id::from_u128(7),
            uid: 300,
            modseq: 0,
            flags: Vec::new(),
            internal_date: Timestamp { seconds: 1_700_000_000, offset_minutes: -90 },
            save_date: i64::MIN,
            size: 4_711,
            message_id: Id::from_u128(8),
            thread_id: Id::from_u128(9),
            from: vec!["Anna <anna@a.example>".to_owned()],
            to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            extra: Vec::new(),
        }
    }

    #[test]
    fn both_schemas_read_as_they_were_written_and_the_second_is_smaller() {
        let hosts = "0123456789abcdef0123456789abcdef";
        let longest = "f".repeat(64);
        for name in [hosts, "a", "0123456789ABCDEF0123456789ABCDEF", &hosts[1..], &longest] {
            let message = message(name);
            for schema in [1, 2] {
                let row = fixed_row(schema, &message);
                assert_eq!(read_fixed(message.place(), &row).as_ref(), Ok(&message));
            }
        }
        let octets = |schema| fixed_row(schema, &message(hosts)).len();
        assert_eq!((octets(1), octets(2)), (132, 99));
    }

    #[test]
    fn a_row_under_another_key_is_damage_in_both() {
        let message = message("a");
        let elsewhere = MessagePlace { uid: 301, ..message.place() };
        for schema in [1, 2] {
            assert!(read_fixed(elsewhere, &fixed_row(schema, &message)).is_err());
        }
    }
}
