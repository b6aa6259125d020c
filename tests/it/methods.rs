//! Every method of the contract: it has a rule, and says so where it is not there yet.

use token_authority::proto::{self, MethodRule, method_rule};
use tonic::{Code, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::support::{Engine, as_caller, reason, run_on};

/// What is there in full; of `SigningKeyService` the public keys alone are, of `SystemService` all but the replicas.
const SERVICES: [&str; 7] = [
    "TokenService",
    "ApiKeyService",
    "RevocationService",
    "UserService",
    "SpaceService",
    "RoleService",
    "AuditService",
];
const METHODS: [&str; 3] = ["GetJwks", "WatchJwks", "GetServerInfo"];

/// Calls a method with an empty message.
async fn call(channel: &Channel, path: &'static str, token: Option<&str>) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let request = match token {
        Some(token) => as_caller(token, proto::GetServerInfoRequest {}),
        None => tonic::Request::new(proto::GetServerInfoRequest {}),
    };
    let codec = tonic_prost::ProstCodec::<_, proto::GetServerInfoRequest>::default();
    let path = PathAndQuery::from_static(path);
    let answered = client.server_streaming(request, path, codec).await?;
    answered.into_inner().message().await.map(|_| ())
}

fn is_there(path: &str) -> bool {
    let (service, method) = path.rsplit_once('/').unwrap();
    SERVICES.iter().any(|name| service.ends_with(name)) || METHODS.contains(&method)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_is_there_or_says_that_it_is_not() {
    run_on(Engine::Sqlite, async |server| {
        let admin = server.admin().await.access_token;
        let channel = server.connect().await;
        let mut missing = 0;
        for path in proto::METHODS.iter().copied() {
            let answer = call(&channel, path, Some(&admin)).await;
            let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
            let unimplemented = code == Code::Unimplemented;
            assert_eq!(unimplemented, !is_there(path), "{path}: {answer:?}");
            assert!(![Code::Internal, Code::Unknown].contains(&code), "{path}");
            missing += usize::from(unimplemented);
        }
        assert!(missing > 0 && missing < proto::METHODS.len());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_has_a_rule_and_only_public_ones_take_anyone() {
    run_on(Engine::Sqlite, async |server| {
        let channel = server.connect().await;
        for path in proto::METHODS.iter().copied() {
            let rule = method_rule(path).unwrap_or_else(|| panic!("{path} has no rule"));
            let refusal = call(&channel, path, None).await.err();
            let refused = refusal.is_some_and(|status| {
                status.code() == Code::Unauthenticated && reason(&status) == "CREDENTIALS_MISSING"
            });
            assert_eq!(refused, rule != MethodRule::Public, "{path}: {rule:?}");
        }
        assert_eq!(method_rule("/tokenauthority.v1.TokenService/Nothing"), None);
    })
    .await;
}
