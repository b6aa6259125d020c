//! Whether a page takes as long at the end of a long listing as at its beginning. All of it is walked once; then its first
//! page, the one in the middle and the last are asked for again and again.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use token_authority::proto::{
    ListApiKeysRequest, ListApiKeysResponse, ListUsersRequest, ListUsersResponse,
};
use tokio::runtime::Runtime;
use tonic::codegen::Bytes;

use crate::{
    database::Engine,
    load::Load,
    report::{Contender, Table, measure},
    server::{CLERK, SPACE, Server, cores},
};

const USERS: &str = "/tokenauthority.v1.UserService/ListUsers";
const KEYS: &str = "/tokenauthority.v1.ApiKeyService/ListApiKeys";
const LISTED: usize = 100_000;
const PAGE: i32 = 100;
/// Pages that take as long as walking them does, all together.
const PAGES: u32 = 1_000;
const WINDOW: Duration = Duration::from_millis(400);

/// A listing: its path, the request for the page after a token, and what is in the answer.
struct Listing {
    what: &'static str,
    path: &'static str,
    request: fn(String) -> Bytes,
    ids: fn(Bytes) -> (Vec<String>, String),
}

/// 100 000 users, 100 000 keys.
pub(crate) fn listings(engine: Engine, client: &Runtime, table: &mut Table) {
    let server = engine.start();
    // All of them together fill whole pages.
    server.many_users("listed", LISTED - people());
    server.many_api_keys(LISTED - 1);
    for listing in [
        Listing {
            what: "ListUsers",
            path: USERS,
            request: users,
            ids: user_ids,
        },
        Listing {
            what: "ListApiKeys of a space",
            path: KEYS,
            request: |page_token| keys(page_token, ""),
            ids: key_ids,
        },
        Listing {
            what: "ListApiKeys of a user",
            path: KEYS,
            request: |page_token| keys(page_token, CLERK),
            ids: key_ids,
        },
    ] {
        listing.measure(engine, &server, client, table);
    }
}

impl Listing {
    fn measure(&self, engine: Engine, server: &Server, client: &Runtime, table: &mut Table) {
        let what = format!("{}, {}", self.what, engine.name());
        let load = Load::new(client, server.address, self.path, &server.admin, 1);
        let begun = Instant::now();
        let pages = self.walk(&load);
        let walked = begun.elapsed().as_secs_f64() * 1e3 / f64::from(PAGES);
        let [first, middle, last] = [0, pages.len() / 2, pages.len() - 1]
            .map(|page| Arc::<[Bytes]>::from([pages[page].clone()]));
        let measured = measure(vec![
            Contender::new("first", || load.for_a_while(&first, WINDOW)),
            Contender::new("middle", || load.for_a_while(&middle, WINDOW)),
            Contender::new("last", || load.for_a_while(&last, WINDOW)),
        ]);
        let time = |page| 1e3 / measured.per_second(page);
        let times = format!(
            "{:.2} / {:.2} / {:.2} ms",
            time("first"),
            time("middle"),
            time("last")
        );
        table.line(&format!("{what}: first / middle / last page"), &times, "");
        let walked = format!("{walked:.2} ms");
        table.line(&format!("{what}: a page of all {PAGES}"), &walked, "");
        table.at_most(
            &format!("{what}: time of the last page / of the first"),
            measured.ratio("first", "last"),
            1.5,
            "",
        );
    }

    /// Asks for every page, and gives what was asked.
    fn walk(&self, load: &Load<'_>) -> Vec<Bytes> {
        let (mut pages, mut seen) = (Vec::new(), HashSet::new());
        let mut page_token = String::new();
        loop {
            let request = (self.request)(page_token);
            pages.push(request.clone());
            let (ids, next) = (self.ids)(load.once(&request));
            seen.extend(ids);
            if next.is_empty() {
                break;
            }
            page_token = next;
        }
        assert_eq!((pages.len(), seen.len()), (PAGES as usize, LISTED));
        pages
    }
}

/// Who is in the space before.
fn people() -> usize {
    2 + cores() * 8
}

fn users(page_token: String) -> Bytes {
    let request = ListUsersRequest {
        space: SPACE.to_owned(),
        page_size: PAGE,
        page_token,
    };
    request.encode_to_vec().into()
}

fn user_ids(answer: Bytes) -> (Vec<String>, String) {
    let answer = ListUsersResponse::decode(answer).unwrap();
    let ids = answer.users.into_iter().map(|user| user.user_id);
    (ids.collect(), answer.next_page_token)
}

fn keys(page_token: String, user: &str) -> Bytes {
    let request = ListApiKeysRequest {
        space: SPACE.to_owned(),
        user: user.to_owned(),
        page_size: PAGE,
        page_token,
        ..Default::default()
    };
    request.encode_to_vec().into()
}

fn key_ids(answer: Bytes) -> (Vec<String>, String) {
    let answer = ListApiKeysResponse::decode(answer).unwrap();
    let ids = answer.api_keys.into_iter().map(|key| key.api_key_id);
    (ids.collect(), answer.next_page_token)
}
