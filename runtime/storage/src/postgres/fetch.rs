//! Reading rows: everything that is wanted in one statement, which sees one state.

use bytes::Bytes;
use tokio_postgres::Error;

use super::known::{Found, Known, Wants};
use crate::{MAX_GET_OCTETS, ScanLimit, key, row};

/// Single rows and the first rows of ranges. Claims and heads have tables of their own: they are
/// changed all the time.
const WANTED: &str = "
SELECT -1 AS n, key, value FROM rows WHERE key = ANY($1)
UNION ALL SELECT -1, key, value FROM heads WHERE key = ANY($1)
UNION ALL SELECT -1, key, value FROM claims WHERE key = ANY($1)
UNION ALL SELECT r.n, x.key, x.value
FROM unnest($2::int4[], $3::bytea[], $4::bytea[]) AS r (n, a, b)
CROSS JOIN LATERAL (
    SELECT key, value FROM rows WHERE key >= r.a AND key < r.b ORDER BY key LIMIT $5
) AS x";

/// As many rows of a range, from its start, as are needed to fill a page: with the octets that each
/// counts for, the last one is the first that does not fit. Two at least: the first is returned whatever
/// its size, the second says that there is more.
const PAGE: &str = "
SELECT key, value, upto FROM (
    SELECT key, value,
        sum(octet_length(key) + octet_length(value) - $4) OVER (ORDER BY key) AS upto,
        octet_length(key) + octet_length(value) - $4 AS own,
        row_number() OVER (ORDER BY key) AS number
    FROM rows WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3
) AS page WHERE upto - own <= $5 OR number <= 2 ORDER BY key";

/// Rows of certain keys; the values only of the first ones, as long as they are within the limit.
const MANY: &str = "
SELECT key, CASE WHEN upto - octet_length(value) <= $2 THEN value END
FROM (SELECT key, value, sum(octet_length(value)) OVER (ORDER BY key) AS upto
    FROM rows WHERE key = ANY($1)) AS many";

/// Spaces, by their heads.
const SPACES: &str = "SELECT key FROM heads WHERE key >= $1 ORDER BY key LIMIT $2";

type Client = deadpool_postgres::Client;

/// Reads what is wanted, of each range the first rows.
pub async fn wanted(client: &Client, wants: &Wants, first: i64) -> Result<Known, Error> {
    let statement = client.prepare_cached(WANTED).await?;
    let keys: Vec<&[u8]> = wants.keys.iter().map(|key| &key[..]).collect();
    let ranges: Vec<&(Bytes, Bytes)> = wants.ranges.iter().collect();
    let numbers: Vec<i32> = (0..ranges.len() as i32).collect();
    let starts: Vec<&[u8]> = ranges.iter().map(|(start, _)| &start[..]).collect();
    let ends: Vec<&[u8]> = ranges.iter().map(|(_, end)| &end[..]).collect();
    let rows = client.query(&statement, &[&keys, &numbers, &starts, &ends, &first]).await?;
    let mut known = Known::default();
    known.rows.extend(wants.keys.iter().map(|key| (key.clone(), None)));
    let mut found = vec![Found::default(); ranges.len()];
    for row in rows {
        let (key, stored) = (octets(&row, 1)?, octets(&row, 2)?);
        match usize::try_from(row.try_get::<_, i32>(0)?) {
            Ok(number) => found[number].rows.push((key, stored)),
            Err(_) => drop(known.rows.insert(key, Some(stored))),
        }
    }
    for (range, mut found) in ranges.into_iter().zip(found) {
        found.rows.sort_unstable();
        found.complete = (found.rows.len() as i64) < first;
        known.ranges.insert(range.clone(), found);
    }
    Ok(known)
}

/// Reads as much of a range as fills a page of a scan of a space.
pub async fn page(
    client: &Client,
    (start, end): (Vec<u8>, Vec<u8>),
    prefix: usize,
    limit: ScanLimit,
) -> Result<Known, Error> {
    let statement = client.prepare_cached(PAGE).await?;
    let most = limit.items as i64 + 1;
    let (apart, within) = ((prefix + row::HEADER) as i32, limit.octets as i64);
    let rows = client.query(&statement, &[&start, &end, &most, &apart, &within]).await?;
    let mut found = Found::default();
    let mut upto = 0;
    for row in &rows {
        found.rows.push((octets(row, 0)?, octets(row, 1)?));
        upto = row.try_get(2)?;
    }
    found.complete = (found.rows.len() as i64) < most && (found.rows.len() < 2 || upto <= within);
    let mut known = Known::default();
    known.ranges.insert((start.into(), end.into()), found);
    Ok(known)
}

/// Reads rows of these keys. `None`: together they have more octets than one look-up may return.
pub async fn many(client: &Client, keys: &Wants) -> Result<Option<Known>, Error> {
    let statement = client.prepare_cached(MANY).await?;
    let wanted: Vec<&[u8]> = keys.keys.iter().map(|key| &key[..]).collect();
    let most = (MAX_GET_OCTETS + keys.keys.len() * row::HEADER) as i64;
    let mut known = Known::default();
    known.rows.extend(keys.keys.iter().map(|key| (key.clone(), None)));
    for row in client.query(&statement, &[&wanted, &most]).await? {
        let Some(stored) = row.try_get::<_, Option<Vec<u8>>>(1)? else { return Ok(None) };
        known.rows.insert(octets(&row, 0)?, Some(stored.into()));
    }
    Ok(Some(known))
}

/// The heads from this key on, without what they say.
pub async fn heads(client: &Client, from: &[u8], limit: i64) -> Result<Vec<Bytes>, Error> {
    let statement = client.prepare_cached(SPACES).await?;
    let rows = client.query(&statement, &[&from, &limit]).await?;
    rows.iter().map(|row| octets(row, 0)).collect()
}

fn octets(row: &tokio_postgres::Row, column: usize) -> Result<Bytes, Error> {
    row.try_get::<_, Vec<u8>>(column).map(Bytes::from)
}

/// Which table has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Everything else.
    Rows,
    /// Heads of spaces.
    Heads,
    /// Claims on slots.
    Claims,
}

impl Table {
    /// Of this raw key.
    pub fn of(raw: &[u8]) -> Self {
        match key::space_of(raw) {
            Some(space) if raw == key::head(space) => Self::Heads,
            None if key::is_claim(raw) => Self::Claims,
            Some(_) | None => Self::Rows,
        }
    }
}
