//! A cutoff ends what was there before it, and nothing that comes after.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use prost_types::Timestamp;
use token_authority::{
    authority::{
        Call,
        caller::Caller,
        revocations::create::{self, InSpace, Wanted},
    },
    domain::{ids::RoleName, revocation},
    error::Reason,
    proto::{
        self, revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
        token_service_client::TokenServiceClient,
    },
};
use tonic::transport::Channel;

use crate::support::{
    Count, PASSWORD, Server, as_caller, both, key_request, password_request, revocation_of, soon,
    span, spawn,
};

const USERS: usize = 4;
const TIMES: Count = Count {
    quick: 150,
    full: 1_000,
};

both!(a_sign_in_right_after_a_cutoff_is_active, async |server| {
    sign_in_again_and_again(server, None).await;
});

both!(
    a_sign_in_right_after_a_cutoff_that_nobody_waited_for_is_active,
    async |server| {
        sign_in_again_and_again(server, span(0)).await;
    }
);

async fn sign_in_again_and_again(server: &Server, wait: Option<prost_types::Duration>) {
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    let begun = Instant::now();
    let left = Arc::new(AtomicUsize::new(TIMES.get()));
    let mut working = Vec::new();
    for number in 0..USERS {
        let username = format!("user-{number}");
        let user = server.user(&acme, &username).await.to_string();
        let client = Client {
            tokens: server.tokens().await,
            revocations: server.revocations().await,
            admin: admin.clone(),
            user,
            username,
            wait,
        };
        working.push(spawn(client.work(Arc::clone(&left))));
    }
    for client in working {
        client.await.unwrap();
    }
    eprintln!(
        "{:?}: {} sign-ins right after a cutoff (wait {wait:?}) active, {:.1?}",
        server.database.engine(),
        TIMES.get(),
        begun.elapsed(),
    );
}

struct Client {
    tokens: TokenServiceClient<Channel>,
    revocations: RevocationServiceClient<Channel>,
    admin: String,
    user: String,
    username: String,
    wait: Option<prost_types::Duration>,
}

impl Client {
    async fn work(mut self, left: Arc<AtomicUsize>) {
        let mut old = self.sign_in().await;
        let one_less = |left: usize| left.checked_sub(1);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
        {
            let request = proto::CreateRevocationRequest {
                wait: self.wait,
                ..revocation_of(Subject::UserId(self.user.clone()), "acme")
            };
            let request = as_caller(&self.admin, request);
            let cut = self.revocations.create_revocation(request).await.unwrap();
            let effect = cut.into_inner().effect.unwrap();
            let new = self.sign_in().await;
            assert!(self.is_active(&new, &effect.cursor).await, "the new token");
            assert!(!self.is_active(&old, &effect.cursor).await, "the old one");
            old = new;
        }
    }

    async fn sign_in(&mut self) -> String {
        let request = password_request(&self.username, PASSWORD, "");
        let issued = self.tokens.issue_token(request).await.unwrap();
        issued.into_inner().token.unwrap().access_token
    }

    async fn is_active(&mut self, token: &str, min_cursor: &str) -> bool {
        let request = proto::IntrospectTokenRequest {
            token: token.to_owned(),
            min_cursor: min_cursor.to_owned(),
            ..Default::default()
        };
        let told = self
            .tokens
            .introspect_token(as_caller(&self.admin, request))
            .await;
        told.unwrap().into_inner().introspection.unwrap().active()
    }
}

both!(
    an_exchange_right_after_a_cutoff_that_keeps_keys_is_active,
    async |server| {
        let admin = server.admin().await.access_token;
        let acme = server.space("acme").await;
        let user = server.user(&acme, "ann").await;
        let key = server.api_key(&admin, &acme, &user, &[]).await;
        let mut tokens = server.tokens().await;
        let mut old: Option<String> = None;
        for _ in 0..200 {
            let cut = server.revoke_by_reference(&admin, Subject::UserId(user.to_string()), "acme");
            assert_eq!(cut.await.unwrap().effect.unwrap().effective, Some(true));
            let request = key_request(&key.api_key_token);
            let new = tokens.issue_token(request).await.unwrap().into_inner();
            let new = new.token.unwrap().access_token;
            assert!(server.introspect(&admin, &new).await.active());
            if let Some(old) = old.replace(new) {
                assert!(!server.introspect(&admin, &old).await.active());
            }
        }
    }
);

both!(
    sessions_that_began_after_sessions_until_are_spared,
    async |server| {
        let admin = server.admin().await.access_token;
        let acme = server.space("acme").await;
        let user = server.user(&acme, "ann").await.to_string();
        for subject in [Subject::UserId(user), Subject::SpaceId(acme.to_string())] {
            let before = server.sign_in("ann", PASSWORD, "").await.access_token;
            server.clock.advance(Duration::from_mins(1));
            let until = server.clock.now();
            server.clock.advance(Duration::from_mins(1));
            let after = server.sign_in("ann", PASSWORD, "").await.access_token;
            let space = match subject {
                Subject::UserId(_) => "acme",
                _ => "",
            };
            let request = proto::CreateRevocationRequest {
                sessions_until: Some(Timestamp {
                    seconds: until.seconds(),
                    nanos: 0,
                }),
                keep_api_keys: true,
                ..revocation_of(subject, space)
            };
            let mut revocations = server.revocations().await;
            let created = revocations.create_revocation(as_caller(&admin, request));
            created.await.unwrap();
            assert!(!server.introspect(&admin, &before).await.active());
            assert!(server.introspect(&admin, &after).await.active());
        }
    }
);

both!(keep_api_keys_decides_over_api_keys, async |server| {
    let admin = server.admin().await.access_token;
    let acme = server.space("acme").await;
    let user = server.user(&acme, "ann").await;
    let named = Subject::UserId(user.to_string());
    let own = Subject::SpaceId(acme.to_string());
    for (subject, space) in [(named.clone(), "acme"), (named, "*"), (own, "")] {
        for keep_api_keys in [true, false] {
            let key = server
                .api_key(&admin, &acme, &user, &[])
                .await
                .api_key_token;
            let request = proto::CreateRevocationRequest {
                keep_api_keys,
                ..revocation_of(subject.clone(), space)
            };
            let mut revocations = server.revocations().await;
            let created = revocations.create_revocation(as_caller(&admin, request));
            created.await.unwrap();
            let active = server.introspect(&admin, &key).await.active();
            assert_eq!(active, keep_api_keys, "{subject:?} in {space:?}");
        }
    }
});

both!(
    who_was_signed_out_since_it_was_judged_cuts_nobody_off,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (authority, now) = (&server.authority, server.clock.now());
        let good = authority.judge(&tenant.boss_token, now).await.unwrap();
        let good = good.unwrap();
        let caller = Caller {
            credential: good.credential,
            position: good.position,
            call: Arc::new(Call {
                request_id: String::new(),
                client_address: String::new(),
                deadline: None,
            }),
        };
        let wanted = Wanted {
            subject: revocation::Subject::Role(RoleName::known("clerk")),
            space: InSpace::Named(String::new()),
            sessions_until: None,
            keep_api_keys: false,
            reason: revocation::Reason::Administrative,
            comment: String::new(),
        };
        server.revoke(&tenant.boss_token).await;
        let refused = create::create(authority, &caller, wanted, None, soon()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), Reason::CredentialsInvalid);
        let alice = &tenant.alice_token;
        assert!(server.introspect(&tenant.root_token, alice).await.active());
    }
);
