//! The row of what never changes of a message, in the one schema that there is: all fields of the
//! record, in their order.

use postroom_guest::codec::{from_row, to_row};
use postroom_guest::{Message, MessagePlace, Result, Schemas, StoreError};

/// Schemas of every row, which is its first octet.
pub const SCHEMAS: Schemas = Schemas { oldest: 1, newest: 1 };

/// The row of a message without what an update changes.
pub fn fixed_row(schema: u8, message: &Message) -> Vec<u8> {
    to_row(schema, message)
}

/// The message of a row.
pub fn read_fixed(place: MessagePlace, row: &[u8]) -> Result<Message> {
    let message: Message = from_row(SCHEMAS.newest, row, || place.to_string())?;
    match message.place() == place {
        true => Ok(message),
        false => Err(StoreError::damaged(format_args!("{place} is another one's row"))),
    }
}
