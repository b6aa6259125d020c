//! What a client has seen is reflected wherever it asks next: it gives the cursor as `min_cursor`.

use std::time::Duration;

use token_authority::{
    domain::revocation::Position,
    log::cursor::{Coverage, Cursor, CursorSeal, EntryMark, LogIdentity},
    proto,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    support::{as_caller, both, introspect_request, refused, wire::message},
    transport::{connect, exchange, introspection, with},
};

both!(a_cursor_that_was_seen_is_reflected, async |server| {
    let root = server.admin().await.access_token;
    let victim = server.admin().await.access_token;
    let effect = server.revoke(&victim).await.unwrap();
    let request = proto::IntrospectTokenRequest {
        min_cursor: effect.cursor.clone(),
        ..introspect_request(&victim)
    };
    assert_eq!(
        server.judge(&root, request).await.unwrap().active,
        Some(false)
    );
    let request = proto::BatchIntrospectTokensRequest {
        min_cursor: effect.cursor,
        tokens: vec![victim, root.clone()],
        ..Default::default()
    };
    let told = server.judge_all(&root, request).await.unwrap();
    assert_eq!((told[0].active, told[1].active), (Some(false), Some(true)));
});

both!(a_cursor_that_is_none_is_refused, async |server| {
    let root = server.admin().await.access_token;
    let good = server
        .revoke(&server.admin().await.access_token)
        .await
        .unwrap()
        .cursor;
    let seal = CursorSeal::new(
        &server
            .authority
            .master_keys
            .first()
            .derive("cursors")
            .unwrap(),
    );
    let foreign = seal.seal(&Cursor {
        log: LogIdentity([7; 16]),
        position: Position(1),
        mark: EntryMark::default(),
        coverage: Coverage::PLACE,
    });
    let mut cases = vec![(foreign, Code::FailedPrecondition, "CURSOR_FOREIGN")];
    let changed = format!(
        "{}{}",
        if good.starts_with('A') { 'B' } else { 'A' },
        &good[1..]
    );
    for garbled in [
        "x",
        "🦀",
        "' OR 1=1--",
        &"A".repeat(4_000),
        &good[..good.len() - 1],
        &format!("{good}A"),
        &changed,
        &good.to_uppercase(),
        &root,
    ] {
        cases.push((garbled.to_owned(), Code::InvalidArgument, "CURSOR_INVALID"));
    }
    for (min_cursor, code, why) in cases {
        let request = proto::IntrospectTokenRequest {
            min_cursor: min_cursor.clone(),
            ..introspect_request(&root)
        };
        refused(server.judge(&root, request).await, code, why);
        let request = proto::BatchIntrospectTokensRequest {
            min_cursor,
            tokens: vec![root.clone()],
            ..Default::default()
        };
        refused(server.judge_all(&root, request).await, code, why);
    }
});

both!(a_cursor_of_the_future_is_waited_for, async |server| {
    let root = server.admin().await.access_token;
    let victim = server.admin().await.access_token;
    let head = server.authority.log.head().await.unwrap();
    let future = |ahead| {
        let position = Position(head.0 + ahead);
        server
            .authority
            .log
            .cursor(position, EntryMark::default(), Coverage::PLACE)
    };
    let ask = |ahead, patience| {
        let mut request = as_caller(
            &root,
            proto::IntrospectTokenRequest {
                min_cursor: future(ahead),
                ..introspect_request(&victim)
            },
        );
        request.set_timeout(patience);
        request
    };
    // Both are known by now: the time of the next call goes into waiting alone.
    server.verdict(&root, &victim).await.unwrap();
    // By hand: tonic's clients give up by a timer of their own, just when a server that is a little late answers.
    let call = with(introspection(&root), "grpc-timeout", b"300m");
    let asked = message(ask(1_000, Duration::from_millis(300)).get_ref());
    let (_, told) = exchange(&mut connect(server).await, call, asked).await;
    let answer = Status::from_header_map(&told).map_or(Ok(()), Err);
    let status = refused(answer, Code::Unavailable, "CURSOR_NOT_REACHED");
    assert!(status.get_details_retry_info().is_some());

    let mut client = server.tokens().await;
    // No longer than 5 seconds, whatever the client's time: another server may have reached it.
    let answer = client
        .introspect_token(ask(1_000, Duration::from_secs(20)))
        .await;
    refused(answer, Code::Unavailable, "CURSOR_NOT_REACHED");

    let request = ask(1, Duration::from_secs(20));
    let waiting = client.introspect_token(request);
    let (answer, effect) = tokio::join!(waiting, server.revoke(&victim));
    assert_eq!(effect.unwrap().position, head.0 + 1);
    let told = answer.unwrap().into_inner().introspection.unwrap();
    assert_eq!(told.active, Some(false), "the verdict reflects the entry");
});
