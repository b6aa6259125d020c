//! A server that has lost one of its tasks is no server: it answers nothing and ends, to be started anew.

use token_authority::{authority::Authority, error::Reason};
use tonic::Code;

use crate::support::{Engine, Server, TestDatabase, as_caller, introspect_request, reason};

/// Who answers out of memory looks here first.
async fn refused_by(authority: &Authority) -> Reason {
    let refused = authority.log.applied().await.map(drop);
    refused.unwrap_err().reason()
}

async fn a_server_that_has_lost_a_task_answers_nothing_and_fails(engine: Engine) {
    let Some(database) = TestDatabase::create(engine).await else {
        return;
    };
    let server = Server::start(database).await;
    let admin = server.admin().await.access_token;
    let mut tokens = server.tokens().await;
    let told = tokens.introspect_token(as_caller(&admin, introspect_request(&admin)));
    assert!(told.await.is_ok());

    server.background.begin("the one to be lost", async |_| {
        panic!("as it should");
    });
    server.background.lost().await;
    assert!(!server.authority.log.is_current());
    assert_eq!(
        refused_by(&server.authority).await,
        Reason::DatabaseUnavailable
    );
    let head = server.authority.log.head().await;
    assert!(head.is_err(), "nothing is signed either");
    let told = tokens.introspect_token(as_caller(&admin, introspect_request(&admin)));
    // It says UNAVAILABLE, or is gone already and says nothing.
    let refused = told.await.unwrap_err();
    if !reason(&refused).is_empty() {
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    }

    let failure = server.failed().await;
    assert!(failure.contains("the one to be lost"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_a_task_fails_on_sqlite() {
    a_server_that_has_lost_a_task_answers_nothing_and_fails(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_a_task_fails_on_postgres() {
    a_server_that_has_lost_a_task_answers_nothing_and_fails(Engine::Postgres).await;
}
