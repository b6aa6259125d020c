//! What is revoked is inactive in the very next introspection, however it was revoked and whatever else goes on.
//!
//! Each client owns a space, a user, a role and an API key. Again and again it issues a token, sees it active, ends it in one
//! of the ways there are, and asks once more. Beside each client another one asks about the same token without a pause, so
//! that verdicts are on their way while the token dies; none that was asked for after the end may say "active".
//!
//! On PostgreSQL there are three servers: what is ended at one is asked about at the others.
//!
//! The ways take turns: with `TOKEN_AUTHORITY_TEST_FULL` it is 10 000 ends in a row, some 600 in each way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use token_authority::{
    domain::ids::{SpaceId, UserId},
    proto::{
        self, api_key_service_client::ApiKeyServiceClient,
        revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
        token_service_client::TokenServiceClient,
    },
};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::support::{
    Count, Engine, Operator, PASSWORD, Server, as_caller, both, key_request, revocation_of, spawn,
};

const CLIENTS: usize = 6;
const ROLE: &str = "reader";
/// Over all kinds in turn: 10 000 of each would take hours.
const TIMES: Count = Count {
    quick: 340,
    full: 10_000,
};

/// A way to end a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Token,
    Session,
    RevokeToken,
    Rotation,
    User,
    UserEverywhere,
    UserWithKeys,
    ApiKeyByReference,
    ApiKeyRevoked,
    ApiKeyPresented,
    Role,
    RolePermissions,
    RoleUnassigned,
    Space,
    SpaceWithKeys,
    UserDisabled,
    PasswordSet,
}

const KINDS: [Kind; 17] = [
    Kind::Token,
    Kind::Session,
    Kind::RevokeToken,
    Kind::Rotation,
    Kind::User,
    Kind::UserEverywhere,
    Kind::UserWithKeys,
    Kind::ApiKeyByReference,
    Kind::ApiKeyRevoked,
    Kind::ApiKeyPresented,
    Kind::Role,
    Kind::RolePermissions,
    Kind::RoleUnassigned,
    Kind::Space,
    Kind::SpaceWithKeys,
    Kind::UserDisabled,
    Kind::PasswordSet,
];

both!(
    a_revoked_token_is_inactive_in_the_very_next_introspection,
    async |server| {
        let admin = server.admin().await.access_token;
        let times = TIMES.get();
        let others = others(server).await;
        let asked: Vec<&Server> = if others.is_empty() {
            vec![server]
        } else {
            others.iter().collect()
        };
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let asked = asked[number % asked.len()];
            clients.push(Client::new(server, asked, &admin, number).await);
        }
        let begun = Instant::now();
        let turns = Arc::new(AtomicUsize::new(0));
        let looks = Arc::new(AtomicUsize::new(0));
        let mut working = Vec::new();
        for client in clients {
            let (turns, looks) = (Arc::clone(&turns), Arc::clone(&looks));
            working.push(spawn(client.work(times, turns, looks)));
        }
        for client in working {
            client.await.unwrap();
        }
        eprintln!(
            "{:?}: {times} times inactive in the next introspection, {} more beside it, {:.1?}",
            server.database.engine(),
            looks.load(Ordering::Relaxed),
            begun.elapsed(),
        );
        for other in others {
            other.stop().await;
        }
    }
);

async fn others(server: &Server) -> Vec<Server> {
    match server.database.engine() {
        Engine::Sqlite => Vec::new(),
        Engine::Postgres => vec![server.beside().await, server.beside().await],
    }
}

/// What the client beside asks about: a token, and whether it was ended.
type Asked = (String, Arc<AtomicBool>);

struct Client {
    operator: Operator,
    tokens: TokenServiceClient<Channel>,
    /// Where it is asked whether a token is active.
    asked: TokenServiceClient<Channel>,
    beside: TokenServiceClient<Channel>,
    keys: ApiKeyServiceClient<Channel>,
    revocations: RevocationServiceClient<Channel>,
    admin: String,
    space: SpaceId,
    user: UserId,
    key: proto::CreateApiKeyResponse,
}

impl Client {
    async fn new(server: &Server, asked: &Server, admin: &str, number: usize) -> Self {
        let name = format!("client-{number}");
        let space = server.space(&name).await;
        let user = server.user(&space, &name).await;
        server.role(&space, ROLE, &["demo.read"]).await;
        server.assign(&space, &user, ROLE).await;
        Self {
            operator: server.operator().await,
            tokens: server.tokens().await,
            asked: asked.tokens().await,
            beside: asked.tokens().await,
            keys: server.api_keys().await,
            revocations: server.revocations().await,
            admin: admin.to_owned(),
            key: server.api_key(admin, &space, &user, &[]).await,
            space,
            user,
        }
    }

    /// Ends a token in the way whose turn it is, until all clients together have done so often enough.
    async fn work(mut self, times: usize, turns: Arc<AtomicUsize>, looks: Arc<AtomicUsize>) {
        let (asking, asked) = watch::channel::<Option<Asked>>(None);
        let beside = look_beside(self.beside.clone(), self.admin.clone(), asked, looks);
        let beside = spawn(beside);
        loop {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            if turn >= times {
                break;
            }
            let kind = KINDS[turn % KINDS.len()];
            let token = self.issue().await;
            let ended = Arc::new(AtomicBool::new(false));
            asking.send_replace(Some((token.access_token.clone(), Arc::clone(&ended))));
            assert!(self.is_active(&token.access_token).await, "{kind:?}: new");
            self.end(kind, &token).await;
            ended.store(true, Ordering::SeqCst);
            assert!(!self.is_active(&token.access_token).await, "{kind:?}: dead");
            self.restore(kind).await;
        }
        drop(asking);
        beside.await.unwrap();
    }

    async fn issue(&mut self) -> proto::IssuedToken {
        let request = key_request(&self.key.api_key_token);
        let issued = self.tokens.issue_token(request).await.unwrap();
        issued.into_inner().token.unwrap()
    }

    async fn is_active(&mut self, token: &str) -> bool {
        is_active(&mut self.asked, &self.admin, token).await
    }

    async fn end(&mut self, kind: Kind, token: &proto::IssuedToken) {
        let (key, user) = (self.key_id(), self.user.to_string());
        let own = self.space.to_string();
        match kind {
            Kind::Token => {
                let subject = Subject::TokenId(token.token_id.clone());
                self.revoke(subject, &own, true).await;
            }
            Kind::Session => {
                let subject = Subject::SessionId(token.session_id.clone());
                self.revoke(subject, &own, true).await;
            }
            Kind::RevokeToken => self.present(&token.access_token).await,
            Kind::Rotation => self.rotate(&token.access_token).await,
            Kind::User => self.revoke(Subject::UserId(user), &own, true).await,
            Kind::UserEverywhere => self.revoke(Subject::UserId(user), "*", true).await,
            Kind::UserWithKeys => self.revoke(Subject::UserId(user), &own, false).await,
            Kind::ApiKeyByReference => self.revoke(Subject::ApiKeyId(key), "", false).await,
            Kind::ApiKeyRevoked => self.revoke_key(key).await,
            Kind::ApiKeyPresented => self.present(&self.key.api_key_token.clone()).await,
            Kind::Role => {
                let role = Subject::Role(ROLE.to_owned());
                self.revoke(role, &own, true).await;
            }
            Kind::Space => self.revoke(Subject::SpaceId(own), "", true).await,
            Kind::SpaceWithKeys => self.revoke(Subject::SpaceId(own), "", false).await,
            Kind::RolePermissions => {
                let effect = self.operator.set_permissions(&self.space, ROLE, &[]).await;
                assert!(effect.unwrap().effective());
            }
            Kind::RoleUnassigned => {
                let effect = self.operator.unassign(&self.space, &self.user, ROLE).await;
                assert!(effect.unwrap().effective());
            }
            Kind::UserDisabled => {
                let effect = self.operator.set_disabled(&self.user, true).await;
                assert!(effect.unwrap().effective());
            }
            Kind::PasswordSet => {
                let effect = self.operator.set_password(&self.user, PASSWORD).await;
                assert!(effect.unwrap().effective());
            }
        }
    }

    /// Gives back what was taken away.
    async fn restore(&mut self, kind: Kind) {
        match kind {
            Kind::RolePermissions => {
                let operator = &self.operator;
                operator
                    .set_permissions(&self.space, ROLE, &["demo.read"])
                    .await;
            }
            Kind::RoleUnassigned => {
                self.operator.assign(&self.space, &self.user, ROLE).await;
            }
            Kind::UserDisabled => {
                self.operator.set_disabled(&self.user, false).await;
            }
            Kind::UserWithKeys
            | Kind::ApiKeyByReference
            | Kind::ApiKeyRevoked
            | Kind::ApiKeyPresented
            | Kind::SpaceWithKeys => self.renew_key().await,
            Kind::Token
            | Kind::Session
            | Kind::RevokeToken
            | Kind::Rotation
            | Kind::User
            | Kind::UserEverywhere
            | Kind::Role
            | Kind::Space
            | Kind::PasswordSet => {}
        }
    }

    async fn renew_key(&mut self) {
        let before = self.key.api_key_token.clone();
        assert!(!self.is_active(&before).await, "the key has ended, too");
        let api_key = proto::ApiKey {
            display_name: "of a client".to_owned(),
            space_id: self.space.to_string(),
            user_id: self.user.to_string(),
            ..Default::default()
        };
        let request = proto::CreateApiKeyRequest {
            api_key: Some(api_key),
            ..Default::default()
        };
        let made = self.keys.create_api_key(as_caller(&self.admin, request));
        self.key = made.await.unwrap().into_inner();
    }

    async fn revoke(&mut self, subject: Subject, space: &str, keep_api_keys: bool) {
        let request = proto::CreateRevocationRequest {
            keep_api_keys,
            ..revocation_of(subject, space)
        };
        let request = as_caller(&self.admin, request);
        let created = self.revocations.create_revocation(request).await.unwrap();
        assert_effective(created.into_inner().effect);
    }

    async fn revoke_key(&mut self, api_key_id: String) {
        let request = proto::RevokeApiKeyRequest {
            api_key_id,
            ..Default::default()
        };
        let revoked = self.keys.revoke_api_key(as_caller(&self.admin, request));
        assert_effective(revoked.await.unwrap().into_inner().effect);
    }

    async fn present(&mut self, token: &str) {
        let request = proto::RevokeTokenRequest {
            token: token.to_owned(),
            wait: None,
        };
        let revoked = self.tokens.revoke_token(request).await.unwrap();
        assert_effective(revoked.into_inner().effect);
    }

    async fn rotate(&mut self, token: &str) {
        let request = proto::RotateTokenRequest {
            access_token: token.to_owned(),
            ..Default::default()
        };
        let rotated = self
            .tokens
            .rotate_token(request)
            .await
            .unwrap()
            .into_inner();
        assert_effective(rotated.effect);
        let new = rotated.token.unwrap().access_token;
        assert!(self.is_active(&new).await, "what came of the rotation");
    }

    fn key_id(&self) -> String {
        self.key.api_key.as_ref().unwrap().api_key_id.clone()
    }
}

/// Asks about the same tokens without a pause, until there are no more.
async fn look_beside(
    mut tokens: TokenServiceClient<Channel>,
    admin: String,
    asked: watch::Receiver<Option<Asked>>,
    looks: Arc<AtomicUsize>,
) {
    while asked.has_changed().is_ok() {
        let Some((token, ended)) = asked.borrow().clone() else {
            tokio::task::yield_now().await;
            continue;
        };
        let was_ended = ended.load(Ordering::SeqCst);
        let active = is_active(&mut tokens, &admin, &token).await;
        assert!(!(was_ended && active), "active after its end");
        looks.fetch_add(1, Ordering::Relaxed);
    }
}

async fn is_active(tokens: &mut TokenServiceClient<Channel>, admin: &str, token: &str) -> bool {
    let request = proto::IntrospectTokenRequest {
        token: token.to_owned(),
        ..Default::default()
    };
    let told = tokens.introspect_token(as_caller(admin, request)).await;
    told.unwrap().into_inner().introspection.unwrap().active()
}

fn assert_effective(effect: Option<proto::RevocationEffect>) {
    let effect = effect.expect("an effect");
    assert_eq!(effect.effective, Some(true));
    assert!(effect.position > 0 && !effect.cursor.is_empty());
}
