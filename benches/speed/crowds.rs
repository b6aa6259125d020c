//! Fills a server's tables without a call for each row. What is made is a copy of what calls made, but for its names, its
//! secrets and its age.

use std::ops::Range;

use token_authority::{
    domain::{
        api_key::{ApiKeyToken, KeyPrefix},
        ids::ApiKeyId,
    },
    random,
    storage::{self, ConnectionTrait as _, Engine},
};

use crate::server::{CLERK, Server};

/// Rows of one statement: PostgreSQL's may take a few seconds only.
const ROWS: usize = 20_000;

const KEY_COLUMNS: &str = "space_id, user_id, prefix, display_name, description, roles, scopes, audiences, allowed_cidrs, \
     labels, disabled, expire_time, space_generation, user_generation, current_secret, update_time";

impl Server {
    /// So many users with the clerk's password, called `kind` and a number; their names.
    pub(crate) fn many_users(&self, kind: &str, count: usize) -> Vec<String> {
        for numbers in portions(count) {
            let numbered = numbered(&numbers);
            let rows = numbers.len();
            let sql = format!(
                "INSERT INTO users (user_id, username, email, display_name, space_id, disabled, \
                 password_hash, key_generation, create_time, update_time) {numbered} \
                 SELECT 'usr_{kind}.' || (10000000 + number), '{kind}.' || number, '', '', \
                 space_id, disabled, password_hash, 0, 1, 1 FROM numbered, users WHERE username = '{CLERK}'"
            );
            self.insert(&[sql], rows);
        }
        (0..count)
            .map(|number| format!("{kind}.{number}"))
            .collect()
    }

    /// So many API keys of the clerk's, whose secrets nobody knows, in an order that has nothing to do with that of
    /// [`Server::known_api_keys`].
    pub(crate) fn many_api_keys(&self, count: usize) {
        let like = self.some_api_key();
        let step = (1_u64 << 60) / count as u64;
        let (id, digest) = match self.authority.db.engine() {
            Engine::Sqlite => (
                format!("printf('%016X', number * {step})"),
                "randomblob(32)",
            ),
            Engine::Postgres => (
                format!("lpad(upper(to_hex(CAST(number AS bigint) * {step})), 16, '0')"),
                "sha256(CAST(CAST(number AS text) AS bytea))",
            ),
        };
        for numbers in portions(count) {
            let numbered = numbered(&numbers);
            let rows = numbers.len();
            let keys = format!(
                "INSERT INTO api_keys (api_key_id, create_time, {KEY_COLUMNS}) {numbered} \
                 SELECT {id}, number + 1, {KEY_COLUMNS} FROM numbered, api_keys WHERE api_key_id = '{like}'"
            );
            let secrets = format!(
                "INSERT INTO api_key_secrets (api_key_id, secret_number, digest, create_time) {numbered} \
                 SELECT {id}, 1, {digest}, 1 FROM numbered"
            );
            self.insert(&[keys, secrets], rows);
        }
        self.gather_statistics();
    }

    /// So many API keys of the clerk's that nobody has asked for yet: the whole of them.
    pub(crate) fn known_api_keys(&self, count: usize) -> Vec<String> {
        let like = self.some_api_key();
        let (keys, ids): (Vec<String>, Vec<_>) = (0..count)
            .map(|_| {
                let number = u64::from_be_bytes(random::bytes().unwrap()) >> 4;
                let id = ApiKeyId::known(format!("{number:016X}"));
                let material = random::bytes().unwrap();
                let token = ApiKeyToken::mint(KeyPrefix::default(), id.clone(), &material);
                (token.expose().to_string(), (id, token.digest()))
            })
            .unzip();
        self.runtime.block_on(async {
            let transaction = self.authority.db.begin().await.unwrap();
            let now = self.authority.clock.now();
            for (id, digest) in &ids {
                let sql = format!(
                    "INSERT INTO api_keys (api_key_id, create_time, {KEY_COLUMNS}) \
                     SELECT '{id}', create_time, {KEY_COLUMNS} FROM api_keys WHERE api_key_id = '{like}'"
                );
                transaction.execute_unprepared(&sql).await.unwrap();
                storage::api_keys::insert_secret(&transaction, id, 1, digest, now)
                    .await
                    .unwrap();
            }
            transaction.commit().await.unwrap();
        });
        keys
    }

    /// The id of a key that was made by a call, and will be copied.
    fn some_api_key(&self) -> String {
        let key = self.new_api_keys(1).remove(0);
        key.split('_').nth(1).unwrap().to_owned()
    }

    fn insert(&self, statements: &[String], rows: usize) {
        self.runtime.block_on(async {
            let transaction = self.authority.db.begin().await.unwrap();
            for sql in statements {
                let made = transaction.execute_unprepared(sql).await.unwrap();
                assert_eq!(made.rows_affected(), rows as u64);
            }
            transaction.commit().await.unwrap();
        });
    }

    /// What PostgreSQL would do by itself before long.
    fn gather_statistics(&self) {
        if self.authority.db.engine() == Engine::Postgres {
            self.runtime.block_on(async {
                let transaction = self.authority.db.begin().await.unwrap();
                for table in ["users", "api_keys", "api_key_secrets"] {
                    let analyze = format!("ANALYZE {table}");
                    transaction.execute_unprepared(&analyze).await.unwrap();
                }
                transaction.commit().await.unwrap();
            });
        }
    }
}

fn portions(count: usize) -> impl Iterator<Item = Range<usize>> {
    let begins = (0..count).step_by(ROWS);
    begins.map(move |begin| begin..count.min(begin + ROWS))
}

fn numbered(numbers: &Range<usize>) -> String {
    let Range { start, end } = numbers;
    format!(
        "WITH RECURSIVE numbered (number) AS (SELECT {start} UNION ALL \
         SELECT number + 1 FROM numbered WHERE number < {end} - 1)"
    )
}
