//! Text that no name is made of, in every field of text of every method that there is: it is refused, never stumbled over.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use token_authority::proto::{self, revocation_subject::Subject};
use tonic::Code;

use crate::support::{
    Engine, Server, TestDatabase, as_caller, both, call_any, create_key, fields,
    introspect_request, key, metadata_of, password_request, reason, refused, revocation_of,
    rotate_key, rotate_request, seconds,
};

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

/// One good request for each method.
async fn requests(server: &Server, admin: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let (id, token) = server.made_key(admin, key(&[])).await;
    let (spare, _) = server.made_key(admin, key(&[])).await;
    let named = proto::ApiKey {
        api_key_id: id.clone(),
        ..key(&[])
    };
    let paths = [
        "display_name",
        "description",
        "roles",
        "scopes",
        "audiences",
    ]
    .into_iter()
    .chain(["allowed_cidrs", "labels"])
    .map(str::to_owned)
    .collect();
    let update = proto::UpdateApiKeyRequest {
        api_key: Some(named),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let batch = proto::BatchIntrospectTokensRequest {
        tokens: vec![token.clone()],
        ..Default::default()
    };
    let revoke = proto::RevokeTokenRequest {
        token: "nothing".to_owned(),
        ..Default::default()
    };
    let revoke_key = proto::RevokeApiKeyRequest {
        api_key_id: spare,
        ..Default::default()
    };
    let session = Subject::SessionId("a session".replace(' ', "-"));
    let sign_in = password_request("admin", &server.admin_password, "system");
    BTreeMap::from([
        ("IssueToken", sign_in.encode_to_vec()),
        (
            "IntrospectToken",
            introspect_request(&token).encode_to_vec(),
        ),
        ("BatchIntrospectTokens", batch.encode_to_vec()),
        ("RotateToken", rotate_request(admin).encode_to_vec()),
        ("RevokeToken", revoke.encode_to_vec()),
        ("GetCallerIdentity", Vec::new()),
        ("CreateApiKey", create_key(key(&[])).encode_to_vec()),
        ("GetApiKey", Vec::new()),
        ("ListApiKeys", Vec::new()),
        ("UpdateApiKey", update.encode_to_vec()),
        (
            "RotateApiKey",
            rotate_key(&id, seconds(600)).encode_to_vec(),
        ),
        ("RevokeApiKey", revoke_key.encode_to_vec()),
        (
            "CreateRevocation",
            revocation_of(session, "").encode_to_vec(),
        ),
        ("ListRevocations", Vec::new()),
        ("WatchRevocations", Vec::new()),
        ("GetJwks", Vec::new()),
        ("WatchJwks", Vec::new()),
    ])
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

/// What each method says to each text in each field: code, reason and the fields that are blamed.
async fn answers(server: &Server) -> BTreeMap<String, (Code, String, Vec<String>)> {
    let admin = server.admin().await.access_token;
    let requests = requests(server, &admin).await;
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    let channel = server.connect().await;
    let mut answers = BTreeMap::new();
    for path in proto::METHODS.iter().copied() {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        let Some(good) = requests.get(method) else {
            continue;
        };
        let service = pool.get_service_by_name(service).unwrap();
        let method = service
            .methods()
            .find(|known| known.name() == method)
            .unwrap();
        let good = DynamicMessage::decode(method.input(), &**good).unwrap();
        for (what, text) in texts() {
            for (field, message) in with_text(&good, &text) {
                let answer =
                    call_any(&channel, path, as_caller(&admin, message.encode_to_vec())).await;
                let told = match answer {
                    Ok(()) => (Code::Ok, String::new(), Vec::new()),
                    Err(status) => (status.code(), reason(&status), fields(&status)),
                };
                answers.insert(format!("{}.{field}: {what}", method.name()), told);
            }
        }
    }
    assert_eq!(requests.len(), 17, "{requests:?}");
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
        assert!(answers.len() > 300, "{}", answers.len());
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
