//! A client that gives up every call at a random moment leaves nothing behind, and loses nothing that it was told.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use token_authority::{
    domain::ids::EventId,
    proto::{
        self, api_key_service_client::ApiKeyServiceClient,
        revocation_service_client::RevocationServiceClient, revocation_subject::Subject,
        token_service_client::TokenServiceClient,
    },
    storage::revocation_log,
};
use tokio::runtime::Handle;
use tonic::transport::Channel;

use crate::support::{
    Count, Dice, Server, as_caller, both, eventually, key_request, postgres, revocation_of, spawn,
};

const CLIENTS: usize = 8;
const CALLS: Count = Count {
    quick: 5_000,
    full: 5_000,
};
/// The longest that a client waits at first.
const LONGEST: Duration = Duration::from_millis(12);
/// It changes between these.
const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(1);

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    entries: Vec<String>,
    keys: Vec<String>,
    dead: Vec<String>,
    given_up: usize,
}

both!(
    calls_that_are_given_up_leave_nothing_behind_and_lose_nothing,
    async |server| {
        let begun = Instant::now();
        let admin = server.admin().await.access_token;
        let space = server.system().await;
        let user = server.user(&space, "ann").await;
        let key = server
            .api_key(&admin, &space, &user, &[])
            .await
            .api_key_token;
        let before = at_rest().await;
        let left = Arc::new(AtomicUsize::new(CALLS.get()));
        let mut calling = Vec::new();
        for seed in 0..CLIENTS as u64 {
            let client = Client {
                tokens: server.tokens().await,
                keys: server.api_keys().await,
                revocations: server.revocations().await,
                admin: admin.clone(),
                key: key.clone(),
                dice: Dice::seeded(seed),
                told: Acknowledged::default(),
            };
            calling.push(spawn(client.call_and_give_up(Arc::clone(&left))));
        }
        let mut all = Vec::new();
        for client in calling {
            all.push(client.await.unwrap());
        }
        let given_up: usize = all.iter().map(|told| told.given_up).sum();
        let acknowledged = CALLS.get() - given_up;
        assert!(given_up > CALLS.get() / 10, "{given_up} given up");
        assert!(acknowledged > CALLS.get() / 10, "{acknowledged} answered");
        nothing_is_left_over(server, &before).await;
        for told in &all {
            everything_is_there(server, &admin, told).await;
        }
        nothing_is_left_over(server, &before).await;
        eprintln!(
            "{:?}: {} calls, {given_up} given up, {acknowledged} answered; nothing left over, every acknowledged \
             write there, {:.1?}",
            server.database.engine(),
            CALLS.get(),
            begun.elapsed(),
        );
    }
);

struct Client {
    tokens: TokenServiceClient<Channel>,
    keys: ApiKeyServiceClient<Channel>,
    revocations: RevocationServiceClient<Channel>,
    admin: String,
    key: String,
    dice: Dice,
    told: Acknowledged,
}

impl Client {
    async fn call_and_give_up(mut self, left: Arc<AtomicUsize>) -> Acknowledged {
        let mut longest = LONGEST;
        let one_less = |left: usize| left.checked_sub(1);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
        {
            let which = self.dice.below(5);
            let mut moment = Dice::seeded(self.dice.below(u64::MAX));
            let answered = tokio::select! {
                () = moment.moment(longest) => false,
                () = self.call(which) => true,
            };
            // What was given up is still done, so that calls take the longer the more of them are. Where they settle is the
            // machine's affair: there are enough of both wherever that is.
            longest = if answered {
                longest * 7 / 8
            } else {
                self.told.given_up += 1;
                longest * 17 / 16
            };
            longest = longest.clamp(LEAST, MOST);
        }
        self.told
    }

    async fn call(&mut self, which: u64) {
        match which {
            0 => self.revoke().await,
            1 => self.make_key().await,
            2 => self.issue_and_revoke().await,
            3 => self.rotate().await,
            _ => {
                self.introspect().await;
            }
        }
    }

    async fn revoke(&mut self) {
        let token = Subject::TokenId(uuid::Uuid::now_v7().to_string());
        let request = as_caller(&self.admin, revocation_of(token, ""));
        let created = self.revocations.create_revocation(request).await.unwrap();
        let event = created.into_inner().event.unwrap();
        self.told.entries.push(event.event_id);
    }

    async fn make_key(&mut self) {
        let request = proto::CreateApiKeyRequest {
            api_key: Some(proto::ApiKey {
                display_name: "one of many".to_owned(),
                ..Default::default()
            }),
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            ..Default::default()
        };
        let made = self.keys.create_api_key(as_caller(&self.admin, request));
        let made = made.await.unwrap().into_inner();
        self.told.keys.push(made.api_key_token);
    }

    async fn issue(&mut self) -> String {
        let issued = self.tokens.issue_token(key_request(&self.key)).await;
        issued.unwrap().into_inner().token.unwrap().access_token
    }

    async fn issue_and_revoke(&mut self) {
        let token = self.issue().await;
        let request = proto::RevokeTokenRequest {
            token: token.clone(),
            wait: None,
        };
        self.tokens.revoke_token(request).await.unwrap();
        self.told.dead.push(token);
    }

    async fn rotate(&mut self) {
        let old = self.issue().await;
        let request = proto::RotateTokenRequest {
            access_token: old.clone(),
            ..Default::default()
        };
        self.tokens.rotate_token(request).await.unwrap();
        self.told.dead.push(old);
    }

    async fn introspect(&mut self) {
        let request = proto::IntrospectTokenRequest {
            token: self.key.clone(),
            ..Default::default()
        };
        let told = self
            .tokens
            .introspect_token(as_caller(&self.admin, request));
        assert!(
            told.await
                .unwrap()
                .into_inner()
                .introspection
                .unwrap()
                .active()
        );
    }
}

/// What is there while nobody asks for anything.
#[derive(Debug, PartialEq, Eq)]
struct AtRest {
    tasks: usize,
}

/// Waits until the number of tasks stands still, and tells it.
async fn at_rest() -> AtRest {
    let mut seen = HashMap::<usize, usize>::new();
    let mut tasks = 0;
    eventually("rest", async || {
        tasks = alive();
        let times = seen.entry(tasks).or_default();
        *times += 1;
        *times == 50
    })
    .await;
    AtRest { tasks }
}

/// How many tasks there are; all are the server's, or serve its clients.
fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn nothing_is_left_over(server: &Server, before: &AtRest) {
    let pool = || server.authority.db.pool_use();
    eventually("every connection is back", async || {
        let pool = pool();
        pool.open == pool.idle
    })
    .await;
    eventually("every task has ended", async || alive() <= before.tasks).await;
    let Some(mut connection) = postgres(&server.database).await else {
        return;
    };
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND pid <> pg_backend_pid() AND state <> 'idle' AND backend_type = 'client backend'";
    eventually("no transaction is open", async || {
        let open: i64 = sqlx::query_scalar(open)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        open == 0
    })
    .await;
    eventually("every entry has its place", async || {
        let inbox: i64 = sqlx::query_scalar("SELECT count(*) FROM revocation_inbox")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        inbox == 0
    })
    .await;
    let all = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND backend_type = 'client backend'";
    eventually("no connection is left over", async || {
        let all: i64 = sqlx::query_scalar(all)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        // The pool's; those of tail, listener, sequencer, lease and barrier; and this one.
        all <= i64::try_from(pool().open).unwrap() + 6
    })
    .await;
}

async fn everything_is_there(server: &Server, admin: &str, told: &Acknowledged) {
    for entry in &told.entries {
        let id = EventId::known(entry.clone());
        let found = revocation_log::find_event(server.authority.db.reader(), &id).await;
        assert!(found.unwrap().is_some(), "{entry}");
    }
    let mut tokens = server.tokens().await;
    for (list, active) in [(&told.keys, true), (&told.dead, false)] {
        for some in list.chunks(100) {
            let request = proto::BatchIntrospectTokensRequest {
                tokens: some.to_vec(),
                ..Default::default()
            };
            let told = tokens.batch_introspect_tokens(as_caller(admin, request));
            for verdict in told.await.unwrap().into_inner().introspections {
                assert_eq!(verdict.active(), active);
            }
        }
    }
}
