//! Where a connection comes from.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// The address that a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(SocketAddr);

impl ClientAddress {
    /// The address of a connection's other end.
    pub fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// Without the port; an IPv4 address stays one when it comes over IPv6.
    pub fn ip(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}
