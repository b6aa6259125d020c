//! Every method of the contract: it has a rule, and it is there.

use token_authority::proto::{self, MethodRule, method_rule};
use tonic::{Code, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{Engine, as_caller, reason, run_on};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_is_there() {
    run_on(Engine::Sqlite, async |server| {
        let admin = server.admin().await.access_token;
        let channel = server.connect().await;
        for path in proto::METHODS.iter().copied() {
            let answer = call(&channel, path, Some(&admin)).await;
            let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
            let faults = [Code::Unimplemented, Code::Internal, Code::Unknown];
            assert!(!faults.contains(&code), "{path}: {answer:?}");
            if let Err(status) = answer {
                assert!(!reason(&status).is_empty(), "{path}: {status:?}");
                assert!(!status.message().is_empty(), "{path}: {status:?}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_method_and_no_service_is_told_with_a_reason() {
    run_on(Engine::Sqlite, async |server| {
        let channel = server.connect().await;
        for path in [
            "/tokenauthority.v1.TokenService/Nothing",
            "/tokenauthority.v1.UserService/Nothing",
            "/tokenauthority.v1.Nothing/IssueToken",
        ] {
            let status = call(&channel, path, None).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
            assert_eq!(status.message(), "this server has no such method", "{path}");
            assert_eq!(reason(&status), "UNIMPLEMENTED", "{path}");
        }
        let service = "tokenauthority.v1.Nothing".to_owned();
        let asked = HealthCheckRequest { service };
        let status = HealthClient::new(channel).check(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(reason(&status), "RESOURCE_NOT_FOUND");
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
