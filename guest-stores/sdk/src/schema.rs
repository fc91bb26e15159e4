//! Schemas of rows: which a store reads, and in which one a call writes.

use crate::error::{Result, StoreError};
use crate::records::Call;

/// The property of a call that says in which schema it writes.
const SCHEMA: &str = "schema";
/// The property of a check that brings rows to that schema.
const MIGRATE: &str = "migrate";

/// The schemas that a store reads, and writes as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemas {
    /// The oldest.
    pub oldest: u8,
    /// The one that is written unless another is asked for.
    pub newest: u8,
}

impl Schemas {
    /// Whether rows of this one are read.
    pub fn has(self, schema: u8) -> bool {
        (self.oldest..=self.newest).contains(&schema)
    }

    /// The one in which a call writes. `invalid` when it asks for one that the store does not have.
    pub fn of(self, call: &Call) -> Result<u8> {
        let Some(asked) = call.extra.iter().find(|property| property.name == SCHEMA) else {
            return Ok(self.newest);
        };
        let schema = str::from_utf8(&asked.value).ok().and_then(|text| text.parse().ok());
        schema.filter(|schema| self.has(*schema)).ok_or_else(|| {
            StoreError::Invalid(format!(
                "rows are written in schemas {} to {}, not in {}",
                self.oldest,
                self.newest,
                asked.value.escape_ascii()
            ))
        })
    }

    /// The one to which a check brings all rows; `None`: it leaves them.
    pub fn migrated_to(self, call: &Call) -> Result<Option<u8>> {
        match call.extra.iter().any(|property| property.name == MIGRATE) {
            true => self.of(call).map(Some),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Id, Property};

    #[test]
    fn a_call_writes_what_it_is_told_and_the_newest_otherwise() {
        let schemas = Schemas { oldest: 2, newest: 3 };
        let call = |extra: &[(&str, &str)]| {
            let property = |(name, value): &(&str, &str)| Property {
                name: (*name).to_owned(),
                value: value.as_bytes().to_vec(),
            };
            let extra = extra.iter().map(property).collect();
            Call { account: Id::from_u128(1), transaction: Id::from_u128(2), extra }
        };
        assert_eq!(schemas.of(&call(&[])), Ok(3));
        assert_eq!(schemas.of(&call(&[("colour", "2"), ("schema", "2")])), Ok(2));
        for wrong in ["1", "4", "", "x", "300"] {
            assert!(schemas.of(&call(&[("schema", wrong)])).is_err(), "{wrong}");
        }
        assert_eq!(schemas.migrated_to(&call(&[("schema", "2")])), Ok(None));
        assert_eq!(schemas.migrated_to(&call(&[("schema", "2"), ("migrate", "")])), Ok(Some(2)));
        assert_eq!(schemas.migrated_to(&call(&[("migrate", "")])), Ok(Some(3)));
    }
}
