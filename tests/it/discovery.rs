//! What tools such as grpcurl find out by themselves: the contract with its comments, and the types of error details.

use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::{Engine, run_on};

/// Symbols, the file that declares them, and a part of a comment in it.
const SYMBOLS: &[(&str, &str, &str)] = &[
    (
        "tokenauthority.v1.TokenService",
        "tokenauthority/v1/token_service.proto",
        "",
    ),
    (
        "tokenauthority.v1.RevocationService.WatchRevocations",
        "tokenauthority/v1/revocation_service.proto",
        "Any replica resumes from any cursor that any replica gave.",
    ),
    (
        "tokenauthority.v1.ErrorReason",
        "tokenauthority/v1/error_reason.proto",
        "UNAUTHENTICATED: no credential was presented.",
    ),
    ("google.rpc.ErrorInfo", "", ""),
    ("google.rpc.BadRequest", "", ""),
    ("google.rpc.RetryInfo", "", ""),
    (
        "google.protobuf.Timestamp",
        "google/protobuf/timestamp.proto",
        "",
    ),
];

/// Asks by one version of reflection for the file of a symbol; its answer is the encoded files.
macro_rules! ask {
    ($version:ident, $channel:expr, $symbol:expr) => {{
        use $version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let symbol = MessageRequest::FileContainingSymbol((*$symbol).to_owned());
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(symbol),
        };
        let mut client = ServerReflectionClient::new($channel.clone());
        let requests = tokio_stream::iter([request]);
        let answers = client.server_reflection_info(requests).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        match answer.message_response.unwrap() {
            MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
            other => panic!("{}: {other:?}", $symbol),
        }
    }};
}

fn declares(file: &FileDescriptorProto, symbol: &str) -> bool {
    let local = symbol.strip_prefix(&format!("{}.", file.package()));
    let first = local.and_then(|local| local.split('.').next());
    first.is_some_and(|name| {
        file.service.iter().any(|service| service.name() == name)
            || file
                .message_type
                .iter()
                .any(|message| message.name() == name)
            || file.enum_type.iter().any(|list| list.name() == name)
    })
}

fn comments_of(file: &FileDescriptorProto) -> String {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations
        .map(prost_types::source_code_info::Location::leading_comments)
        .collect()
}

fn check(symbol: &str, name: &str, comment: &str, encoded: &[Vec<u8>]) {
    let files = encoded
        .iter()
        .map(|encoded| FileDescriptorProto::decode(encoded.as_slice()).unwrap());
    let file = files.into_iter().find(|file| declares(file, symbol));
    let file = file.unwrap_or_else(|| panic!("{symbol} is declared"));
    if !name.is_empty() {
        assert_eq!(file.name(), name);
    }
    let comments = comments_of(&file);
    assert!(comments.contains(comment), "{symbol}: {comments}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_reflection_show_comments_and_error_details() {
    run_on(Engine::Sqlite, async |server| {
        let channel = server.connect().await;
        for (symbol, name, comment) in SYMBOLS {
            let by_v1 = ask!(v1, channel, symbol);
            check(symbol, name, comment, &by_v1);
            let by_v1alpha = ask!(v1alpha, channel, symbol);
            assert_eq!(by_v1, by_v1alpha, "{symbol}");
        }
    })
    .await;
}

/// Every service, method, field and value of the contract has a comment.
#[test]
fn every_service_and_method_has_a_comment() {
    let files = prost_types::FileDescriptorSet::decode(token_authority::proto::DESCRIPTORS)
        .unwrap()
        .file;
    let ours = files
        .iter()
        .filter(|file| file.package() == "tokenauthority.v1");
    let mut checked = 0;
    for file in ours {
        let info = file.source_code_info.as_ref().unwrap();
        // A service is at [6, n], a method at [6, n, 2, m].
        for location in &info.location {
            let path = location.path.as_slice();
            if matches!(path, [6, _] | [6, _, 2, _]) {
                let comment = location.leading_comments();
                assert!(!comment.trim().is_empty(), "{} {path:?}", file.name());
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked}");
}
