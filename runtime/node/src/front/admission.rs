//! How many connections there may be: of one protocol in all, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

/// Counts the connections of one protocol over all its listeners.
#[derive(Debug)]
pub struct Connections {
    max: usize,
    max_per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// At most as many entries as there are connections.
    by_network: HashMap<IpAddr, usize>,
}

/// One connection's place; dropping it makes room.
#[derive(Debug)]
pub struct Admission {
    connections: Arc<Connections>,
    network: IpAddr,
}

/// Why a connection is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    TooMany,
    /// There are as many from its address as there may be.
    TooManyFromAddress,
}

impl Refused {
    /// A word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::TooMany => "too-many",
            Self::TooManyFromAddress => "too-many-from-address",
        }
    }
}

impl Connections {
    /// At most `max` at once, and `max_per_address` from one IPv4 address or one /64 of IPv6 (what
    /// one customer has).
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Self { max, max_per_address, counts: Mutex::default() }
    }

    /// A place for a connection.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admission, Refused> {
        let network = network(address);
        let mut counts = self.counts();
        if counts.all >= self.max {
            return Err(Refused::TooMany);
        }
        let own = counts.by_network.get(&network).copied().unwrap_or(0);
        if own >= self.max_per_address {
            return Err(Refused::TooManyFromAddress);
        }
        counts.all += 1;
        counts.by_network.insert(network, own + 1);
        Ok(Admission { connections: self.clone(), network })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counts().all
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing that holds the lock can panic half-way.
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.all -= 1;
        if let Some(own) = counts.by_network.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                counts.by_network.remove(&self.network);
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(connections: &Arc<Connections>, address: &str) -> Result<Admission, Refused> {
        connections.admit(address.parse().expect("an address"))
    }

    #[test]
    fn one_address_cannot_take_all_places_and_places_come_back() {
        let connections = Arc::new(Connections::new(3, 2));
        let first = admit(&connections, "192.0.2.1").expect("room");
        let _second = admit(&connections, "::ffff:192.0.2.1").expect("room");
        assert_eq!(admit(&connections, "192.0.2.1").unwrap_err(), Refused::TooManyFromAddress);
        let _third = admit(&connections, "192.0.2.2").expect("room");
        assert_eq!(admit(&connections, "192.0.2.3").unwrap_err(), Refused::TooMany);
        drop(first);
        assert_eq!(connections.len(), 2);
        admit(&connections, "192.0.2.1").expect("room again");
        assert_eq!(connections.counts().by_network.len(), 2, "no trace of who has left");
    }

    #[test]
    fn one_ipv6_customer_counts_as_one_address() {
        let connections = Arc::new(Connections::new(9, 1));
        let _first = admit(&connections, "2001:db8::1").expect("room");
        let again = admit(&connections, "2001:db8::ffff:1").unwrap_err();
        assert_eq!(again, Refused::TooManyFromAddress);
        admit(&connections, "2001:db8:0:1::1").expect("another network");
    }
}
