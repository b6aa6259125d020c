//! TLS 1.2 and 1.3, ended here where it is configured. A client certificate lets a connection in and names nobody: who calls is
//! told by the credential of each call.
//!
//! In reading order: [`acceptor`] (the handshake), [`certificates`] (what it is made with, renewed when the files change),
//! `files` (how they are read, and what of them is refused), `names` (client certificates that are not let in for their names).

pub mod acceptor;
pub mod certificates;
mod files;
mod names;

pub use self::{
    acceptor::{Acceptor, Protocol},
    certificates::Certificates,
};
