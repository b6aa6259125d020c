//! Any method, called with a message of bytes.

use std::sync::LazyLock;

use prost::bytes::{Buf as _, BufMut as _};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use token_authority::proto;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// Messages as bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// What the contract says of a method.
pub(crate) fn method_of(path: &str) -> MethodDescriptor {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTORS).unwrap());
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    let service = POOL.get_service_by_name(service).unwrap();
    let mut methods = service.methods();
    methods.find(|known| known.name() == method).unwrap()
}

/// Whether a method answers.
pub(crate) async fn call_any(
    channel: &Channel,
    path: &'static str,
    request: Request<Vec<u8>>,
) -> Result<(), Status> {
    answer_of(channel, path, request).await.map(drop)
}

/// The first answer of a method; nothing where a stream ends without one.
pub(crate) async fn answer_of(
    channel: &Channel,
    path: &'static str,
    request: Request<Vec<u8>>,
) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    let answered = client.server_streaming(request, path, Bytes).await?;
    let first = answered.into_inner().message().await?;
    Ok(first.unwrap_or_default())
}
