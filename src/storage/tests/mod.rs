//! What the door promises, on both engines: SQLite always, PostgreSQL where `TOKEN_AUTHORITY_TEST_POSTGRES` is the URL of a
//! server on which databases may be created.

mod door;
mod schema;
mod server;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, PaginatorTrait};
use tempfile::TempDir;

use super::{
    Database, DatabaseSettings,
    entity::{StringList, spaces},
    migrate_up,
};
use crate::{error::Result, random};

/// A database of a test's own, with the schema applied.
struct Place {
    settings: DatabaseSettings,
    _folder: TempDir,
}

impl Place {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            settings: DatabaseSettings::sqlite(folder.path().join("data/authority.db")),
            _folder: folder,
        }
    }

    async fn postgres() -> Option<Self> {
        let server = postgres_server()?;
        let name = format!("test_{}", random::base62(12).unwrap().to_lowercase());
        let maintenance = Database::open(&DatabaseSettings::postgres(server.as_str()))
            .await
            .unwrap();
        maintenance
            .reader()
            .execute_unprepared(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        maintenance.close().await;
        Some(Self {
            settings: DatabaseSettings::postgres(with_database(&server, &name)),
            _folder: tempfile::tempdir().unwrap(),
        })
    }

    /// One for each engine there is.
    async fn each() -> Vec<Self> {
        let mut places = vec![Self::sqlite()];
        places.extend(Self::postgres().await);
        places
    }

    async fn open(&self) -> Database {
        let database = Database::open(&self.settings).await.unwrap();
        migrate_up(&database).await.unwrap();
        database
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the tests' server is, only the environment knows"
)]
fn postgres_server() -> Option<String> {
    std::env::var("TOKEN_AUTHORITY_TEST_POSTGRES").ok()
}

fn with_database(server: &str, name: &str) -> String {
    let (address, options) = server.split_once('?').unwrap_or((server, ""));
    let scheme = address.find("://").map_or(0, |at| at + 3);
    let host_end = address[scheme..]
        .find('/')
        .map_or(address.len(), |at| scheme + at);
    format!("{}/{name}?{options}", &address[..host_end])
}

fn space(slug: &str) -> spaces::ActiveModel {
    spaces::ActiveModel {
        space_id: Set(format!("spc_{slug}")),
        slug: Set(slug.to_owned()),
        display_name: Set("A space".to_owned()),
        key_prefix: Set("ta".to_owned()),
        max_token_ttl: Set(None),
        max_session_age: Set(None),
        max_api_key_ttl: Set(Some(5)),
        default_audiences: Set(StringList(vec!["a".to_owned(), "b".to_owned()])),
        key_generation: Set(0),
        keys_ended_time: Set(None),
        create_time: Set(1),
        update_time: Set(2),
        delete_time: Set(None),
    }
}

async fn write_space(database: &Database, slug: &str) -> Result<()> {
    let transaction = database.begin().await?;
    space(slug).insert(&transaction).await?;
    transaction.commit().await
}

async fn count_spaces(database: &Database) -> u64 {
    spaces::Entity::find()
        .count(database.reader())
        .await
        .unwrap()
}

/// Polls a future some times and drops it, as a server does with the call of a client that has gone.
async fn poll_and_drop<F: Future>(future: F, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        let mut context = Context::from_waker(Waker::noop());
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
