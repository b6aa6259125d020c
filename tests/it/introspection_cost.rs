//! What an introspection costs: no query where the token is remembered, no memory where it is unknown.
//!
//! So many tokens are introspected that one query for every twentieth would show.

use token_authority::{
    domain::{
        api_key::{ApiKeyToken, KeyPrefix},
        ids::ApiKeyId,
    },
    proto::{self, token_service_client::TokenServiceClient},
    random,
};
use tonic::transport::Channel;

use crate::support::{Engine, as_caller, binary::Binary, key, run_on};

/// How many unknown keys are asked for.
const UNKNOWN: usize = 200_000;
const BATCH: usize = 256;
/// What allocators may keep, whatever the number of keys: less than their texts alone would take.
const GROWTH_MAX: usize = 8 * 1024 * 1024;

async fn batch(channel: Channel, caller: &str, tokens: Vec<String>) -> Vec<Option<bool>> {
    let request = proto::BatchIntrospectTokensRequest {
        tokens,
        ..Default::default()
    };
    let mut client = TokenServiceClient::new(channel);
    let answer = client.batch_introspect_tokens(as_caller(caller, request));
    let told = answer.await.unwrap().into_inner().introspections;
    told.into_iter().map(|told| told.active).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_query_runs_where_a_token_is_remembered() {
    run_on(Engine::Sqlite, async |server| {
        let admin = server.admin().await.access_token;
        let mut keys = server.api_keys().await;
        let created = keys.create_api_key(as_caller(
            &admin,
            proto::CreateApiKeyRequest {
                api_key: Some(proto::ApiKey {
                    display_name: "counted".to_owned(),
                    scopes: vec!["authority.tokens.introspect".to_owned()],
                    ..Default::default()
                }),
                ..Default::default()
            },
        ));
        let key = created.await.unwrap().into_inner().api_key_token;
        let channel = server.connect().await;
        let tokens = vec![admin.clone(), key.clone()];
        let remembered = batch(channel.clone(), &key, tokens.clone()).await;
        assert_eq!(remembered, [Some(true); 2]);

        for caller in [&admin, &key] {
            for token in [&admin, &key] {
                let asking = async {
                    for _ in 0..1_000 {
                        let told = server_introspects(channel.clone(), caller, token).await;
                        assert_eq!(told, Some(true));
                    }
                };
                let (asked, ()) = server.statements_of(asking).await;
                assert!(asked < 1_000 / 20, "{asked} queries");
            }
            let asking = async {
                for _ in 0..10 {
                    let many = vec![tokens.clone(); BATCH / 2].concat();
                    let told = batch(channel.clone(), caller, many).await;
                    assert_eq!(told, [Some(true); BATCH]);
                }
            };
            let (asked, ()) = server.statements_of(asking).await;
            assert!(asked < 10 * 256 / 20, "{asked} queries");
        }

        let queries = || server.authority.db.query_count();
        let before = queries();
        for _ in 0..100 {
            let told = server_introspects(channel.clone(), &admin, &unknown_key()).await;
            assert_eq!(told, Some(false));
        }
        assert!(queries() >= before + 100, "they are counted");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_reads_each_key_that_is_not_remembered_once() {
    run_on(Engine::Sqlite, async |server| {
        let admin = server.admin().await.access_token;
        let mut tokens = Vec::new();
        for number in 0..BATCH / 4 {
            tokens.push(match number % 2 {
                0 => server.made_key(&admin, key(&[])).await.1,
                _ => unknown_key(),
            });
        }
        let many = vec![tokens.clone(); 4].concat();
        let channel = server.connect().await;
        let before = server.authority.db.query_count();
        let told = batch(channel, &admin, many).await;
        let asked = server.authority.db.query_count() - before;
        let wanted = (0..BATCH).map(|number| Some(number % 2 == 0));
        assert!(told.into_iter().eq(wanted));
        let (each, twice) = (tokens.len() as u64, tokens.len() as u64 * 2);
        assert!((each..twice).contains(&asked), "{asked} queries");
    })
    .await;
}

async fn server_introspects(channel: Channel, caller: &str, token: &str) -> Option<bool> {
    let request = proto::IntrospectTokenRequest {
        token: token.to_owned(),
        ..Default::default()
    };
    let mut client = TokenServiceClient::new(channel);
    let answer = client.introspect_token(as_caller(caller, request)).await;
    answer.unwrap().into_inner().introspection.unwrap().active
}

/// A key of the right form and with the right checksum that nobody made.
fn unknown_key() -> String {
    let material = random::bytes().unwrap();
    let id = ApiKeyId::random().unwrap();
    let token = ApiKeyToken::mint(KeyPrefix::default(), id, &material);
    token.expose().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_under_two_hundred_thousand_unknown_keys() {
    let server = Binary::start(&[]).await;
    let token = server.admin_token().await;
    let channel = server.connect().await;
    let some = async || {
        let keys = (0..BATCH).map(|_| unknown_key()).collect();
        let told = batch(channel.clone(), &token, keys).await;
        assert_eq!(told, [Some(false); BATCH]);
    };
    let mut asked = 0;
    let mut warm = 0;
    while asked < UNKNOWN {
        tokio::join!(some(), some(), some(), some());
        asked += 4 * BATCH;
        if asked <= UNKNOWN / 10 {
            warm = server.memory();
        }
    }
    let now = server.memory();
    println!("{asked} unknown keys: from {warm} to {now} bytes");
    assert!(
        now <= warm + GROWTH_MAX,
        "memory grew from {warm} to {now} bytes"
    );
    server.survives(&token).await;
}
