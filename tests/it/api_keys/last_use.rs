//! When and from where keys were used.

use token_authority::{authority::last_use, proto};

use crate::support::{both, introspect_request, key, minutes, rotate_key, seconds};

both!(
    a_use_is_told_to_the_minute_with_its_address,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
        let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert_eq!((told.last_use_time, &*told.last_use_address), (None, ""));

        let ask = |address: &str| proto::IntrospectTokenRequest {
            client_address: address.to_owned(),
            ..introspect_request(&token)
        };
        let mut used = server.clock.now().seconds();
        server
            .judge(&tenant.boss_token, ask("192.0.2.1"))
            .await
            .unwrap();
        last_use::write(&server.authority).await.unwrap();
        let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert_eq!(told.last_use_time.unwrap().seconds, used / 60 * 60);
        assert_eq!(told.last_use_address, "192.0.2.1");

        server.clock.advance(minutes(7));
        used = server.clock.now().seconds();
        server
            .judge(&tenant.boss_token, ask("192.0.2.2"))
            .await
            .unwrap();
        last_use::write(&server.authority).await.unwrap();
        let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert_eq!(told.last_use_time.unwrap().seconds, used / 60 * 60);
        assert_eq!(told.last_use_address, "192.0.2.2");
        assert_eq!(told.update_time, told.create_time, "a use is no change");
    }
);

both!(
    calling_and_exchanging_are_uses_and_reading_is_none,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (caller_id, caller) = server
            .made_key(&tenant.alice_token, key(&["authority.self"]))
            .await;
        let (exchanged_id, exchanged) = server.made_key(&tenant.alice_token, key(&[])).await;
        let (idle_id, _) = server.made_key(&tenant.alice_token, key(&[])).await;
        server.who(&caller).await.unwrap();
        server.exchange(&exchanged).await;
        server.get_key(&tenant.alice_token, &idle_id).await.unwrap();
        last_use::write(&server.authority).await.unwrap();
        for (id, used) in [(caller_id, true), (exchanged_id, true), (idle_id, false)] {
            let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
            assert_eq!(told.last_use_time.is_some(), used);
            let address = if used { "127.0.0.1" } else { "" };
            assert_eq!(told.last_use_address, address);
        }
    }
);

both!(
    who_still_uses_the_secret_before_the_rotation_is_seen,
    async |server| {
        let tenant = server.tenant("acme").await;
        let (id, old) = server.made_key(&tenant.alice_token, key(&[])).await;
        let new = server
            .rotate_key(&tenant.alice_token, rotate_key(&id, seconds(3_600)))
            .await
            .unwrap()
            .api_key_token;
        server.verdict(&tenant.boss_token, &new).await.unwrap();
        last_use::write(&server.authority).await.unwrap();
        let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert!(told.last_use_time.is_some());
        assert_eq!(told.previous_secret_last_use_time, None);

        server.clock.advance(minutes(2));
        let used = server.clock.now().seconds() / 60 * 60;
        server.verdict(&tenant.boss_token, &old).await.unwrap();
        last_use::write(&server.authority).await.unwrap();
        let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert_eq!(told.previous_secret_last_use_time.unwrap().seconds, used);
        assert_eq!(told.last_use_time.unwrap().seconds, used);

        // Past its deadline there is no previous secret to speak of.
        server.clock.advance(minutes(60));
        let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
        assert_eq!(
            (
                told.previous_secret_expire_time,
                told.previous_secret_last_use_time
            ),
            (None, None)
        );
    }
);

both!(a_wrong_secret_is_no_use, async |server| {
    let tenant = server.tenant("acme").await;
    let (id, token) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (_, other) = server.made_key(&tenant.alice_token, key(&[])).await;
    let (front, _) = token.rsplit_once('_').unwrap();
    let (_, secret) = other.rsplit_once('_').unwrap();
    assert!(
        server
            .verdict(&tenant.boss_token, &format!("{front}_{secret}"))
            .await
            .is_err()
    );
    last_use::write(&server.authority).await.unwrap();
    let told = server.get_key(&tenant.alice_token, &id).await.unwrap();
    assert_eq!(told.last_use_time, None);
});

both!(a_key_that_is_not_accepted_is_not_used, async |server| {
    let (acme, globex) = (server.tenant("acme").await, server.tenant("globex").await);
    let alice = &acme.alice_token;
    let bound = proto::ApiKey {
        allowed_cidrs: vec!["192.0.2.0/24".to_owned()],
        audiences: vec!["https://orders.example".to_owned()],
        ..key(&["orders.read"])
    };
    let (id, token) = server.made_key(alice, bound).await;
    let ask = |address: &str, audience: &str, scope: &str| proto::IntrospectTokenRequest {
        client_address: address.to_owned(),
        audience: audience.to_owned(),
        required_scopes: vec![scope.to_owned()],
        ..introspect_request(&token)
    };
    let orders = "https://orders.example";
    let from = "192.0.2.1";
    let cases = [
        (&globex.boss_token, ask(from, orders, "orders.read"), false),
        (
            &acme.boss_token,
            ask("198.51.100.1", orders, "orders.read"),
            false,
        ),
        (&acme.boss_token, ask("", orders, "orders.read"), false),
        (
            &acme.boss_token,
            ask(from, "https://other.example", "orders.read"),
            false,
        ),
        (&acme.boss_token, ask(from, orders, "orders.write"), false),
        (&acme.boss_token, ask(from, orders, "orders.read"), true),
    ];
    for (caller, question, used) in cases {
        // As a caller, and for a JWT, it is refused: bound to networks and to another audience.
        assert!(server.who(&token).await.is_err());
        assert!(
            server
                .issue(crate::support::exchange_request(&token))
                .await
                .is_err()
        );
        let told = server.judge(caller, question.clone()).await.unwrap();
        assert_eq!(told.active, Some(used), "{question:?}");
        last_use::write(&server.authority).await.unwrap();
        let told = server.get_key(alice, &id).await.unwrap();
        assert_eq!(told.last_use_time.is_some(), used, "{question:?}");
        assert_eq!(told.last_use_address, if used { from } else { "" });
    }
});
