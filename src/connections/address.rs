//! Where a connection comes from.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// The address that a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(SocketAddr);

impl ClientAddress {
    /// The address of a connection's other end.
    pub fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// With the port: no two connections at a time have the same.
    pub fn socket(self) -> SocketAddr {
        self.0
    }

    /// Without the port; an IPv4 address stays one when it comes over IPv6.
    pub fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }

    /// What limits of an address count by: whoever has an IPv6 address has its whole /64.
    pub fn network(self) -> IpAddr {
        match self.ip() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_an_ipv4_address_or_the_half_of_an_ipv6_address() {
        for (address, network) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            let address = SocketAddr::new(address.parse().unwrap(), 1);
            let network: IpAddr = network.parse().unwrap();
            assert_eq!(ClientAddress::new(address).network(), network);
        }
    }
}
