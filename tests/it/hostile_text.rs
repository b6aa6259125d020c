//! Text that no name is made of, in every field of text of every method that there is: it is refused, never stumbled over.

use std::{collections::BTreeMap, time::Duration};

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use token_authority::proto;
use tonic::Code;

use crate::{
    support::{
        Engine, Server, TestDatabase, as_caller, both, call_any, fields, key, metadata_of,
        method_of, password_request, reason, refused,
    },
    walk::{World, requests},
};

/// How often it is asked again where the answer is UNAVAILABLE.
const AGAIN: usize = 9;

/// What is put into each field.
fn texts() -> Vec<(&'static str, String)> {
    vec![
        ("NUL", "a\0b".to_owned()),
        ("a newline", "a\r\nb".to_owned()),
        ("a lone combining character", "\u{301}".to_owned()),
        ("bidi controls", "\u{202e}nimda\u{2066}".to_owned()),
        ("beyond the BMP", "\u{1f511}".repeat(20)),
        ("SQL", "' OR 1=1 --".to_owned()),
        ("a long name", "a".repeat(300)),
        ("as much as fits", "\u{e9}".repeat(30_000)),
        ("too much", "a".repeat(1 << 20)),
    ]
}

/// `message` with `text` in one of its fields of text, for each of them.
fn with_text(message: &DynamicMessage, text: &str) -> Vec<(String, DynamicMessage)> {
    let text = || Value::String(text.to_owned());
    let mut made = Vec::new();
    for field in message.descriptor().fields() {
        let set = |value: Value| {
            let mut message = message.clone();
            message.set_field(&field, value);
            message
        };
        let name = field.name();
        if field.is_map() {
            let of = |key: &str, value: Value| {
                Value::Map([(MapKey::String(key.to_owned()), value)].into())
            };
            let long = text();
            made.push((
                format!("{name}.key"),
                set(of(long.as_str().unwrap(), Value::String(String::new()))),
            ));
            made.push((format!("{name}.value"), set(of("label", text()))));
        } else if field.kind() == Kind::String {
            let value = if field.is_list() {
                Value::List(vec![text()])
            } else {
                text()
            };
            made.push((name.to_owned(), set(value)));
        } else if let (Kind::Message(_), false) = (field.kind(), field.is_list()) {
            let inner = message.get_field(&field);
            let inner = with_text(inner.as_message().unwrap(), text().as_str().unwrap());
            made.extend(
                inner
                    .into_iter()
                    .map(|(path, inner)| (format!("{name}.{path}"), set(Value::Message(inner)))),
            );
        }
    }
    made
}

/// A good request for a method, with `text` in each of its fields of text in turn.
pub(crate) async fn requests_with(
    world: &World<'_>,
    path: &str,
    text: &str,
) -> Vec<(String, DynamicMessage)> {
    let input = method_of(path).input();
    let good = requests::message(world, path).await;
    with_text(&DynamicMessage::decode(input, &*good).unwrap(), text)
}

/// What each method says to each text in each field: code, reason and the fields that are blamed.
async fn answers(server: &Server) -> BTreeMap<String, (Code, String, Vec<String>)> {
    let world = World::new(server).await;
    let channel = server.connect().await;
    let mut answers = BTreeMap::new();
    for path in proto::METHODS.iter().copied() {
        for (what, text) in texts() {
            for (field, message) in requests_with(&world, path, &text).await {
                let asked = || as_caller(world.root(), message.encode_to_vec());
                let mut answer = call_any(&channel, path, asked()).await;
                // A busy database may not answer in time. A text that it cannot take looks the same, and does so every time.
                for _ in 0..AGAIN {
                    if !matches!(&answer, Err(status) if status.code() == Code::Unavailable) {
                        break;
                    }
                    answer = call_any(&channel, path, asked()).await;
                }
                let told = match answer {
                    Ok(()) => (Code::Ok, String::new(), Vec::new()),
                    Err(status) => (status.code(), reason(&status), fields(&status)),
                };
                answers.insert(format!("{path}.{field}: {what}"), told);
                // Some of them are sign-ins that fail; the throttle is another test's.
                server.clock.advance(Duration::from_secs(10));
            }
        }
    }
    answers
}

/// What a request with such a text may come to.
fn is_defined(code: Code) -> bool {
    [
        Code::Ok,
        Code::InvalidArgument,
        Code::NotFound,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::AlreadyExists,
    ]
    .contains(&code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_is_more_than_text_on_either_engine() {
    let mut first: Option<BTreeMap<_, _>> = None;
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(database) = TestDatabase::create(engine).await else {
            eprintln!("skipped: TOKEN_AUTHORITY_TEST_POSTGRES names no server");
            continue;
        };
        let server = Server::start(database).await;
        let answers = answers(&server).await;
        assert!(answers.len() > 900, "{}", answers.len());
        let odd: Vec<_> = answers
            .iter()
            .filter(|(_, (code, reason, _))| {
                !is_defined(*code) || (*code == Code::Ok) != reason.is_empty()
            })
            .collect();
        assert!(odd.is_empty(), "{engine:?}: {odd:#?}");
        server.stop().await;
        match &first {
            None => first = Some(answers),
            Some(first) => assert_eq!(*first, answers),
        }
    }
}

both!(
    a_refusal_fits_into_headers_whatever_it_quotes,
    async |server| {
        let admin = server.admin().await.access_token;
        let scopes: Vec<String> = (0..256).map(|number| format!("{number:0>128}")).collect();
        let wanted = proto::IssueTokenRequest {
            scopes: scopes.clone(),
            ..password_request("admin", &server.admin_password, "")
        };
        let issued = server.issue(wanted).await;
        let refusal = refused(issued, Code::PermissionDenied, "EXCEEDS_GRANT");
        assert!(metadata_of(&refusal, "scopes").starts_with(&scopes[0]));

        let path = "\u{1f511}".repeat(10_000);
        let answer = server.update_key(&admin, key(&[]), &[&path]).await;
        let refusal = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&refusal), ["update_mask"]);
    }
);
