//! A moment with the zone in which it was given: INTERNALDATE must be returned as it came.

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z and the zone in which the moment was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since the Unix epoch, UTC.
    pub seconds: i64,
    /// Offset east of UTC in minutes, -1439 to 1439.
    pub offset_minutes: i16,
}

impl Timestamp {
    /// This many seconds after the Unix epoch, in UTC.
    pub const fn utc(seconds: i64) -> Self {
        Self { seconds, offset_minutes: 0 }
    }

    /// The calendar date and clock time in its own zone; `None` outside years -9999 to 9999.
    pub fn local(self) -> Option<time::OffsetDateTime> {
        let offset =
            time::UtcOffset::from_whole_seconds(i32::from(self.offset_minutes) * 60).ok()?;
        time::OffsetDateTime::from_unix_timestamp(self.seconds).ok()?.checked_to_offset(offset)
    }
}
