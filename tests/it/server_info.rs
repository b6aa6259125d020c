//! What the server says of itself to whoever is known to it.

use token_authority::proto::{self, system_service_client::SystemServiceClient};
use tonic::Code;

use crate::support::{Engine, as_caller, both, introspect_request, refused};

both!(a_server_says_what_it_is_and_what_it_takes, async |server| {
    let tenant = server.tenant("acme").await;
    let mut system = SystemServiceClient::new(server.connect().await);
    let request = as_caller(&tenant.alice_token, proto::GetServerInfoRequest {});
    let info = system.get_server_info(request).await.unwrap().into_inner();
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.issuer, "http://localhost:8080");
    let database = match server.database.engine() {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    assert_eq!(info.database, database);
    for (name, limit) in &info.limits {
        assert!(limit.parse::<f64>().unwrap() > 0.0, "{name}: {limit}");
    }
    for name in [
        "page_size_max",
        "request_bytes_max",
        "request_timeout_seconds",
        "token_ttl_seconds_max",
    ] {
        assert!(info.limits.contains_key(name), "{name}");
    }

    // A limit is what is refused beyond it.
    let most: usize = info.limits["batch_introspect_max"].parse().unwrap();
    let mut tokens = server.tokens().await;
    for (count, good) in [(most, true), (most + 1, false)] {
        let request = proto::BatchIntrospectTokensRequest {
            tokens: vec![introspect_request("x").token; count],
            ..Default::default()
        };
        let answer = tokens
            .batch_introspect_tokens(as_caller(&tenant.boss_token, request))
            .await;
        assert_eq!(answer.is_ok(), good, "{count}");
    }
    let anyone = system.get_server_info(proto::GetServerInfoRequest {}).await;
    refused(anyone, Code::Unauthenticated, "CREDENTIALS_MISSING");
});
