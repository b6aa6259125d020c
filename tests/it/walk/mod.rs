//! Who may call what: every method there is, by every kind of caller there is.
//!
//! The table has one line a method and one letter a caller; a method without a line fails the walk. The thing that each call
//! is about is in the space `acme`, or in none, and it is made anew for each call, so that a call which may is a call which does.

mod neighbours;
pub(crate) mod requests;
mod table;

use token_authority::proto::{self, MethodRule, method_rule};
use tonic::{Code, Status};

use crate::support::{
    Operator, PASSWORD, Server, Tenant, as_caller, both, call_any, key, minutes, password_request,
    reason, seconds,
};

/// The kinds of caller, in the order of the letters in the table.
const CALLERS: [&str; 14] = [
    "nobody",
    "a user without roles",
    "an introspector",
    "an auditor",
    "an admin of the space",
    "an admin of another space",
    "an admin of system",
    "a narrowed JWT of the admin",
    "a JWT of the admin for another audience",
    "an API key with the scope",
    "an API key without it",
    "an expired JWT of the admin",
    "a revoked JWT of the admin",
    "a JWT of a disabled admin",
];

/// A scope that no method asks for.
const OTHER: &str = "authority.tokens.explain";

/// Spaces, and the people in them.
pub(crate) struct World<'a> {
    server: &'a Server,
    operator: Operator,
    acme: Tenant,
    globex: Tenant,
    plain: String,
    introspector: String,
    auditor: String,
    expired: String,
    revoked: String,
    disabled: String,
}

impl<'a> World<'a> {
    /// Two spaces, and the people in them.
    pub(crate) async fn new(server: &'a Server) -> Self {
        let acme = server.tenant("acme").await;
        let short = proto::IssueTokenRequest {
            ttl: Some(seconds(60)),
            ..password_request(&acme.name("boss"), PASSWORD, "")
        };
        let expired = server.issue(short).await.unwrap().access_token;
        server.clock.advance(minutes(2));
        let mut tokens = Vec::new();
        for (name, role) in [
            ("plain", ""),
            ("judge", "introspector"),
            ("reader", "auditor"),
            ("off", "admin"),
        ] {
            let user = server.user(&acme.space, name).await;
            if !role.is_empty() {
                server.assign(&acme.space, &user, role).await;
            }
            tokens.push(server.token_of(name).await);
            if name == "off" {
                server.operator().await.set_disabled(&user, true).await;
            }
        }
        let revoked = server.token_of(&acme.name("boss")).await;
        server.revoke(&revoked).await.unwrap();
        let [plain, introspector, auditor, disabled] = tokens.try_into().unwrap();
        Self {
            operator: server.operator().await,
            globex: server.tenant("globex").await,
            server,
            acme,
            plain,
            introspector,
            auditor,
            expired,
            revoked,
            disabled,
        }
    }

    /// A JWT of the admin of `system`.
    pub(crate) fn root(&self) -> &str {
        &self.operator.token
    }

    /// The credentials, in the order of [`CALLERS`]; those that depend on what the method asks for are made for it.
    async fn credentials(&self, path: &str) -> Vec<Option<String>> {
        let (scope, of_system) = match method_rule(path).unwrap() {
            MethodRule::Permission(scope) | MethodRule::OwnOrPermission(scope) => (scope, false),
            MethodRule::SystemPermission(scope) => (scope, true),
            MethodRule::Public | MethodRule::Authenticated => ("authority.self", false),
        };
        let boss = self.server.token_of(&self.acme.name("boss")).await;
        let maker = if of_system {
            &self.operator.token
        } else {
            &boss
        };
        let (_, with) = self.server.made_key(maker, key(&[scope])).await;
        let (_, without) = self.server.made_key(&boss, key(&[OTHER])).await;
        let narrowed = self.narrowed(&[OTHER], &[]).await;
        let elsewhere = self.narrowed(&[], &["orders"]).await;
        let live = [
            self.plain.clone(),
            self.introspector.clone(),
            self.auditor.clone(),
            boss,
            self.globex.boss_token.clone(),
            self.operator.token.clone(),
            narrowed,
            elsewhere,
            with,
            without,
            self.expired.clone(),
            self.revoked.clone(),
            self.disabled.clone(),
        ];
        std::iter::once(None)
            .chain(live.into_iter().map(Some))
            .collect()
    }

    /// A JWT of the admin, narrowed to scopes or meant for audiences.
    async fn narrowed(&self, scopes: &[&str], audiences: &[&str]) -> String {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let request = proto::IssueTokenRequest {
            scopes: texts(scopes),
            audiences: texts(audiences),
            ..password_request(&self.acme.name("boss"), PASSWORD, "")
        };
        self.server.issue(request).await.unwrap().access_token
    }
}

/// What came of a call, as a letter.
fn letter(answer: &Result<(), Status>) -> char {
    let Err(status) = answer else { return 'o' };
    match (status.code(), &*reason(status)) {
        (Code::NotFound, "RESOURCE_NOT_FOUND") => 'N',
        (Code::PermissionDenied, "PERMISSION_MISSING") => 'P',
        (Code::PermissionDenied, "EXCEEDS_GRANT") => 'E',
        (Code::InvalidArgument, "FIELD_INVALID") => 'I',
        (Code::Unauthenticated, "CREDENTIALS_INVALID") => '-',
        (Code::Unauthenticated, "CREDENTIALS_MISSING") => '0',
        other => panic!("{other:?}: {status:?}"),
    }
}

both!(x01_every_method_refuses_whom_it_must, async |server| {
    let world = World::new(server).await;
    let channel = server.connect().await;
    let mut cases = 0;
    let mut wrong = Vec::new();
    for path in proto::METHODS.iter().copied() {
        let Some(expected) = table::line(path) else {
            wrong.push(format!("{path} has no line"));
            continue;
        };
        let mut found = String::new();
        for credential in world.credentials(path).await {
            let message = requests::message(&world, path).await;
            let request = match &credential {
                Some(token) => as_caller(token, message),
                None => tonic::Request::new(message),
            };
            found.push(letter(&call_any(&channel, path, request).await));
            cases += 1;
        }
        if found != expected {
            wrong.push(format!("{path}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{CALLERS:#?}\n{wrong:#?}");
    assert_eq!(cases, proto::METHODS.len() * CALLERS.len());
    eprintln!("{cases} cases");
});
