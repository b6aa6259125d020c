//! A role that many users hold loses a permission: one entry of the log, and every token that names it is dead at once.

use std::time::Instant;

use token_authority::{
    authority::tokens::issue::{self, Wanted},
    domain::ids::UserId,
    proto,
    storage::ConnectionTrait as _,
};

use crate::support::{Count, Server, as_caller, both};

const USERS: Count = Count {
    quick: 2_000,
    full: 100_000,
};
/// Users who hold another role.
const OTHERS: usize = 200;
const BATCH: usize = 256;

/// Makes users who hold a role, without a call for each of them.
pub(crate) async fn users_with(
    server: &Server,
    space: &str,
    role: &str,
    from: usize,
    count: usize,
) {
    let numbers = format!(
        "WITH RECURSIVE numbered (number) AS (SELECT {from} UNION ALL \
         SELECT number + 1 FROM numbered WHERE number < {})",
        from + count - 1
    );
    let id = "'usr_01k000000000000000' || (10000000 + number)";
    let made = [
        format!(
            "INSERT INTO users (user_id, username, email, display_name, space_id, disabled, \
             key_generation, create_time, update_time) {numbers} \
             SELECT {id}, 'many-' || number, '', '', '{space}', FALSE, 0, 1, 1 FROM numbered"
        ),
        format!(
            "INSERT INTO role_assignments (space_id, user_id, role, create_time) {numbers} \
             SELECT '{space}', {id}, '{role}', 1 FROM numbered"
        ),
    ];
    let transaction = server.authority.db.begin().await.unwrap();
    for sql in made {
        let done = transaction.execute_unprepared(&sql).await.unwrap();
        assert_eq!(done.rows_affected(), count as u64);
    }
    transaction.commit().await.unwrap();
}

async fn tokens_of(server: &Server, from: usize, count: usize) -> Vec<String> {
    let mut tokens = Vec::with_capacity(count);
    for number in from..from + count {
        let user = UserId::known(format!("usr_01k000000000000000{}", 10_000_000 + number));
        let issued = issue::for_user(&server.authority, &user, &Wanted::default()).await;
        tokens.push(issued.unwrap().access_token);
    }
    tokens
}

/// How many of the tokens are active.
async fn active(server: &Server, caller: &str, tokens: &[String]) -> usize {
    let mut client = server.tokens().await;
    let mut active = 0;
    for some in tokens.chunks(BATCH) {
        let request = proto::BatchIntrospectTokensRequest {
            tokens: some.to_vec(),
            ..Default::default()
        };
        let answer = client.batch_introspect_tokens(as_caller(caller, request));
        let told = answer.await.unwrap().into_inner().introspections;
        active += told.iter().filter(|told| told.active()).count();
    }
    active
}

both!(
    a_role_that_loses_a_permission_kills_all_its_tokens_with_one_entry,
    async |server| {
        let space = server.space("acme").await;
        let clerk = server
            .role(&space, "clerk", &["orders.read", "orders.write"])
            .await;
        server.role(&space, "driver", &["orders.read"]).await;
        let count = USERS.get();
        users_with(server, space.as_str(), "clerk", 0, count).await;
        users_with(server, space.as_str(), "driver", count, OTHERS).await;
        let clerks = tokens_of(server, 0, count).await;
        let drivers = tokens_of(server, count, OTHERS).await;
        let admin = server.admin().await.access_token;
        assert_eq!(active(server, &admin, &clerks).await, count);
        assert_eq!(active(server, &admin, &drivers).await, OTHERS);

        let before = server.authority.log.head().await.unwrap();
        let operator = server.operator().await;
        let began = Instant::now();
        let effect = operator
            .set_permissions(&space, clerk.as_str(), &["orders.read"])
            .await;
        assert!(effect.unwrap().effective());
        let took = began.elapsed();
        let entries = server.authority.log.head().await.unwrap().0 - before.0;
        assert_eq!(entries, 1, "one entry, however many hold the role");
        let alive = active(server, &admin, &clerks).await;
        assert_eq!(alive, 0);
        assert_eq!(active(server, &admin, &drivers).await, OTHERS);
        eprintln!(
            "{:?}: {entries} entry killed {} of {count} tokens and none of {OTHERS} others; told as effective after {:.3} s",
            server.database.engine(),
            count - alive,
            took.as_secs_f64()
        );
    }
);
