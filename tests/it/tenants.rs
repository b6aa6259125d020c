//! What is done in one space is done to that space alone.

use token_authority::{domain::permission::REVOCATIONS_WATCH, proto::revocation_subject::Subject};

use crate::support::{PASSWORD, Watching, both};

both!(a_role_of_another_space_is_another_role, async |server| {
    let root = server.admin().await.access_token;
    let mut members = Vec::new();
    for slug in ["acme", "globex"] {
        let space = server.space(slug).await;
        let role = server.role(&space, "watcher", &[REVOCATIONS_WATCH]).await;
        let user = server.user(&space, slug).await;
        for role in ["watcher", "admin"] {
            server.assign(&space, &user, role).await;
        }
        let token = server.sign_in(slug, PASSWORD, "").await.access_token;
        let key = server.api_key(&token, &space, &user, &[REVOCATIONS_WATCH]);
        let key = key.await.api_key_token;
        server.verdict(&root, &key).await.unwrap();
        let mut watching = Vec::new();
        for caller in [&token, &key] {
            let mut stream = Watching::after(server, caller, "").await;
            stream.until_caught_up().await;
            watching.push(stream);
        }
        members.push((space, role, token, key, watching));
    }
    let globex = members.pop().unwrap();
    let acme = members.pop().unwrap();

    for role in ["watcher", "admin"] {
        let subject = Subject::Role(role.to_owned());
        let created = server.revoke_by_reference(&root, subject, "acme").await;
        created.unwrap();
    }
    let (space, role, ..) = &acme;
    let operator = server.operator().await;
    operator.set_permissions(space, role.as_str(), &[]).await;
    let subject = Subject::SessionId("a-session".to_owned());
    let last = server.revoke_by_reference(&root, subject, "globex").await;
    let last = last.unwrap().event.unwrap().position;

    let (_, _, token, key, watching) = acme;
    assert!(server.verdict(&root, &token).await.is_err());
    server.verdict(&root, &key).await.unwrap();
    for mut stream in watching {
        assert!(stream.closes().await);
    }
    let (_, _, token, key, watching) = globex;
    server.verdict(&root, &token).await.unwrap();
    server.verdict(&root, &key).await.unwrap();
    for mut stream in watching {
        let seen = stream.until_position(last).await;
        assert_eq!(crate::support::events_of(&seen).len(), 1);
    }
});
