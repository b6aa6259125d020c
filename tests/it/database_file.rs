//! The SQLite file: one server has it, by whatever name another one comes, and what is written is where it will be looked for.

use std::{fs, os::unix::fs::symlink, path::Path};

use token_authority::proto::revocation_subject::Subject;
use tonic::Code;

use crate::support::{
    Engine, Process, Server, TestDatabase, as_caller, eventually, introspect_request,
};

const FILE: &str = "token-authority.db";

async fn on_sqlite() -> Server {
    Server::start(TestDatabase::create(Engine::Sqlite).await.unwrap()).await
}

/// A data directory with what a server over another's file would need.
fn another(server: &Server, connect: impl Fn(&Path, &Path)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = "master-key";
    fs::copy(server.data.path().join(key), folder.path().join(key)).unwrap();
    connect(&server.data.path().join(FILE), &folder.path().join(FILE));
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_refuses_to_start_by_whatever_name_it_comes() {
    let server = on_sqlite().await;
    let linked = another(&server, |there, here| symlink(there, here).unwrap());
    let same = another(&server, |there, here| fs::hard_link(there, here).unwrap());
    fs::remove_file(server.data.path().join(format!("{FILE}.lock"))).unwrap();
    for folder in [linked.path(), same.path(), server.data.path()] {
        let said = Process::start(&server.database, folder).unwrap_err();
        assert!(said.contains("is in use by another process"), "{said}");
    }
    let admin = server.admin().await.access_token;
    assert!(server.introspect(&admin, &admin).await.active());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_file_was_moved_answers_nothing_until_it_is_back() {
    let server = on_sqlite().await;
    let admin = server.admin().await.access_token;
    for (number, name) in [FILE.to_owned(), format!("{FILE}-wal")].iter().enumerate() {
        let place = server.data.path().join(name);
        let elsewhere = server.data.path().join("elsewhere");
        fs::rename(&place, &elsewhere).unwrap();
        // What is written now would be lost at the next start.
        let subject = Subject::TokenId(format!("away-{number}"));
        let refused = server.revoke_by_reference(&admin, subject, "").await;
        assert_eq!(refused.unwrap_err().code(), Code::Unavailable, "{name}");
        eventually("it answers nothing from memory", async || {
            !server.authority.log.is_current()
        })
        .await;
        let mut tokens = server.tokens().await;
        let request = as_caller(&admin, introspect_request(&admin));
        let refused = tokens.introspect_token(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{name}");

        fs::rename(&elsewhere, &place).unwrap();
        eventually("it is back", async || server.authority.log.is_current()).await;
        assert!(server.introspect(&admin, &admin).await.active());
        let subject = Subject::TokenId(format!("back-{number}"));
        let revoked = server.revoke_by_reference(&admin, subject, "").await;
        assert!(revoked.unwrap().effect.unwrap().effective(), "{name}");
    }
    server.stop().await;
}
