//! A subscriber that is cut again and again, while many revoke at once, holds exactly what was committed.

use std::time::Instant;

use futures_util::future::join_all;
use token_authority::proto::{
    RevocationEvent, revocation_subject::Subject, watch_revocations_response::Message,
};

use crate::{
    late_commits::holds_exactly,
    support::{Server, Watching, as_caller, both, revocation_of, spawn},
};

const REVOKERS: usize = 32;
const EACH: usize = 40;
/// After how many messages, besides the first one, each of the subscribers is cut.
const CUT_AFTER: [usize; 6] = [1, 2, 3, 5, 8, 13];

both!(
    a_client_cut_after_every_kth_message_holds_exactly_what_was_committed,
    async |server| {
        let begun = Instant::now();
        let admin = server.admin().await.access_token;
        let revoking = revoke_from_all_sides(server, &admin);
        let subscribers = join_all(CUT_AFTER.map(|cut_after| subscribe(server, &admin, cut_after)));
        let (committed, held) = tokio::join!(revoking, subscribers);
        let last = server.authority.log.catch_up().await.unwrap().position;
        assert_eq!(last.0, committed.len() as u64, "nobody else wrote");
        for (cut_after, (events, cuts)) in CUT_AFTER.into_iter().zip(held) {
            let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
            assert_eq!(
                positions,
                (1..=last.0).collect::<Vec<_>>(),
                "in order, once"
            );
            let ids: Vec<String> = events.into_iter().map(|event| event.event_id).collect();
            assert_eq!(holds_exactly(&ids, &committed), Ok(()));
            eprintln!(
                "{:?}: {} entries of {REVOKERS} revokers, cut {cuts} times, after every {cut_after}. message: \
                 all there, in order, once, {:.1?}",
                server.database.engine(),
                ids.len(),
                begun.elapsed(),
            );
        }
    }
);

/// The ids of the entries that were acknowledged.
async fn revoke_from_all_sides(server: &Server, admin: &str) -> Vec<String> {
    let mut revoking = Vec::new();
    for revoker in 0..REVOKERS {
        let mut revocations = server.revocations().await;
        let admin = admin.to_owned();
        revoking.push(spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..EACH {
                let token = Subject::TokenId(format!("token-{revoker}-{number}"));
                let request = as_caller(&admin, revocation_of(token, ""));
                let created = revocations.create_revocation(request).await.unwrap();
                acknowledged.push(created.into_inner().event.unwrap().event_id);
            }
            acknowledged
        }));
    }
    let mut acknowledged = Vec::new();
    for revoker in revoking {
        acknowledged.extend(revoker.await.unwrap());
    }
    acknowledged
}

/// Holds entries until all have come, over as many streams as it takes; also how often it was cut.
async fn subscribe(
    server: &Server,
    admin: &str,
    cut_after: usize,
) -> (Vec<RevocationEvent>, usize) {
    let (mut held, mut cursor, mut cuts) = (Vec::new(), String::new(), 0);
    while held.len() < REVOKERS * EACH {
        let mut watching = Watching::after(server, admin, &cursor).await;
        let started = watching.message().await;
        assert!(matches!(started.message, Some(Message::Started(_))));
        for _ in 0..cut_after {
            let message = watching.message().await;
            if let Some(Message::Batch(batch)) = message.message {
                held.extend(batch.events);
            }
            cursor = message.cursor;
        }
        cuts += 1;
    }
    (held, cuts)
}
