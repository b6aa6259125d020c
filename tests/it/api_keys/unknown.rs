//! A key that is not there is looked for once a moment, and is there as soon as it is made.

use std::time::Duration;

use token_authority::{
    clock::boottime,
    domain::{
        api_key::{ApiKeyToken, Bounds, KeyPrefix},
        ids::ApiKeyId,
    },
    proto::InactiveReason,
    storage::{self, api_keys::NewApiKey},
};

use crate::support::{Server, Tenant, both, eventually};

fn token() -> ApiKeyToken {
    ApiKeyToken::mint(KeyPrefix::default(), ApiKeyId::random().unwrap(), &[7; 32])
}

/// Makes a key with an id of the test's choice, as another server of the same database might.
async fn make(server: &Server, tenant: &Tenant, token: &ApiKeyToken) {
    let (user, space) = (tenant.alice.named(), tenant.space.named());
    let db = server.authority.db.reader();
    let owner = storage::standing::standing(db, &user, Some(&space))
        .await
        .unwrap();
    let key = NewApiKey {
        id: &token.id,
        owner: &owner.unwrap(),
        display_name: "a key",
        description: "",
        bounds: &Bounds::default(),
        labels: &[].into(),
        disabled: false,
    };
    let now = server.clock.now();
    let transaction = server.authority.db.begin().await.unwrap();
    storage::api_keys::insert(&transaction, &key, now)
        .await
        .unwrap();
    storage::api_keys::insert_secret(&transaction, &token.id, 1, &token.digest(), now)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
}

both!(
    an_unknown_key_is_remembered_for_a_second_at_most,
    async |server| {
        let tenant = server.tenant("acme").await;
        let token = token();
        let verdict = async || server.verdict(&tenant.boss_token, &token.expose()).await;
        let begun = boottime();
        assert_eq!(verdict().await, Err(InactiveReason::Unknown));
        make(server, &tenant, &token).await;
        let told = verdict().await;
        let late = boottime().saturating_sub(begun) >= Duration::from_secs(1);
        assert!(told == Err(InactiveReason::Unknown) || late, "{told:?}");
        eventually("the key is known", async || verdict().await.is_ok()).await;
    }
);

both!(
    a_key_that_was_just_made_here_is_active_at_once,
    async |server| {
        let tenant = server.tenant("acme").await;
        let token = token();
        let told = server.verdict(&tenant.boss_token, &token.expose()).await;
        assert_eq!(told, Err(InactiveReason::Unknown));
        make(server, &tenant, &token).await;
        server.authority.credentials.note_made(&token.id);
        let told = server.verdict(&tenant.boss_token, &token.expose()).await;
        assert_eq!(told, Ok(()));
    }
);

both!(many_unknown_keys_harm_no_known_one, async |server| {
    let tenant = server.tenant("acme").await;
    let (_, good) = server
        .made_key(&tenant.alice_token, crate::support::key(&[]))
        .await;
    let guesses: Vec<String> = (0..3_000).map(|_| token().expose().to_string()).collect();
    for some in guesses.chunks(255) {
        let mut tokens = some.to_vec();
        tokens.push(good.clone());
        let request = token_authority::proto::BatchIntrospectTokensRequest {
            tokens,
            ..Default::default()
        };
        let told = server.judge_all(&tenant.boss_token, request).await.unwrap();
        let active = told.iter().filter(|told| told.active == Some(true)).count();
        assert_eq!(active, 1);
        assert_eq!(told.last().unwrap().active, Some(true));
    }
});
