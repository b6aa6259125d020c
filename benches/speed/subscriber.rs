//! A subscriber that looks at no more of a message than it must: which kind it is of, its place, and how many entries it has.

use std::{net::SocketAddr, path::Path};

use prost::Message as _;
use token_authority::proto::{self, token_service_client::TokenServiceClient};
use tonic::{
    Request, Streaming,
    client::Grpc,
    codegen::{Bytes, http::uri::PathAndQuery},
    transport::Channel,
};

use crate::{opaque::Opaque, server::sign_in_request};

const PATH: &str = "/tokenauthority.v1.RevocationService/WatchRevocations";
/// Fields of `WatchRevocationsResponse`.
const BATCH: u64 = 3;
const CAUGHT_UP: u64 = 4;
const POSITION: u64 = 7;
/// Of `RevocationEvent`.
const CREATE_TIME: u64 = 8;

/// A stream.
pub(crate) struct Subscriber(Streaming<Bytes>);

/// A message.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) entries: usize,
    pub(crate) position: u64,
    pub(crate) caught_up: bool,
    /// When the first entry was decided, in microseconds since 1970.
    pub(crate) first_time: u64,
}

/// The token of the administrator of a server that keeps its first password in `data`.
pub(crate) async fn administrator(address: SocketAddr, data: &Path) -> String {
    let password = std::fs::read_to_string(data.join("bootstrap-password")).unwrap();
    let mut client = TokenServiceClient::new(connect(address).await);
    let request = sign_in_request("admin", password.trim());
    let issued = client.issue_token(request).await.unwrap();
    issued.into_inner().token.unwrap().access_token
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

impl Subscriber {
    /// A stream on a connection of its own; an empty cursor: from the floor.
    pub(crate) async fn open(address: SocketAddr, token: &str, cursor: &str) -> Self {
        Self::over(connect(address).await, token, cursor).await
    }

    /// The same on this connection.
    pub(crate) async fn over(channel: Channel, token: &str, cursor: &str) -> Self {
        let mut client = Grpc::new(channel);
        client.ready().await.unwrap();
        let asked = proto::WatchRevocationsRequest {
            start_cursor: cursor.to_owned(),
            ..Default::default()
        };
        let mut request = Request::new(Bytes::from(asked.encode_to_vec()));
        let credential = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", credential);
        let path = PathAndQuery::from_static(PATH);
        let opened = client.server_streaming(request, path, Opaque).await;
        Self(opened.unwrap().into_inner())
    }

    pub(crate) async fn next(&mut self) -> Told {
        told(&self.0.message().await.unwrap().unwrap())
    }

    /// Reads to the end of the past. How many entries there were.
    pub(crate) async fn catch_up(&mut self) -> usize {
        let mut entries = 0;
        loop {
            let told = self.next().await;
            entries += told.entries;
            if told.caught_up {
                return entries;
            }
        }
    }
}

fn told(message: &[u8]) -> Told {
    let mut told = Told::default();
    for (field, value) in Fields(message) {
        match (field, value) {
            (BATCH, Value::Bytes(batch)) => {
                told.entries = Fields(batch).count();
                told.first_time = first_time(batch).unwrap_or_default();
            }
            (CAUGHT_UP, _) => told.caught_up = true,
            (POSITION, Value::Number(position)) => told.position = position,
            _ => {}
        }
    }
    told
}

fn first_time(batch: &[u8]) -> Option<u64> {
    let (_, first) = Fields(batch).next()?;
    let time = Fields(first.bytes()).find(|(field, _)| *field == CREATE_TIME)?;
    let part = |wanted| Fields(time.1.bytes()).find(|(field, _)| *field == wanted);
    let number = |part: Option<(u64, Value<'_>)>| part.map_or(0, |(_, value)| value.number());
    Some(number(part(1)) * 1_000_000 + number(part(2)) / 1000)
}

/// The fields of a message, as protobuf writes them. It has numbers, and what has a length.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => 0,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let tag = self.number();
        let number = self.number();
        let value = if tag & 7 == 2 {
            let (bytes, rest) = self.0.split_at(usize::try_from(number).unwrap());
            self.0 = rest;
            Value::Bytes(bytes)
        } else {
            Value::Number(number)
        };
        Some((tag >> 3, value))
    }
}

impl Fields<'_> {
    fn number(&mut self) -> u64 {
        prost::encoding::decode_varint(&mut self.0).unwrap()
    }
}
