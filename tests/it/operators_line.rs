//! Users, spaces and roles from the command line: the real binary against a real server.

use std::{fs, path::PathBuf, process::Output};

use tempfile::TempDir;

use crate::support::{
    PASSWORD,
    binary::{self, Binary},
};

/// Whoever types the lines, signed in as `admin`, with a home of their own.
struct Operator {
    server: Binary,
    home: TempDir,
}

impl Operator {
    async fn signed_in() -> Self {
        let server = Binary::start(&[]).await;
        let home = tempfile::tempdir().unwrap();
        let operator = Self { server, home };
        let password = operator.server.data.path().join("bootstrap-password");
        operator.does(&[
            "login",
            "admin",
            "--password-file",
            password.to_str().unwrap(),
        ]);
        operator
    }

    /// Runs a line; what it printed and how it ended. Its stdin is no terminal.
    fn runs(&self, arguments: &[&str]) -> Output {
        let address = format!("http://{}", self.server.grpc);
        let variables = [
            ("TOKEN_AUTHORITY_ADDRESS", address.as_str()),
            ("XDG_STATE_HOME", self.home.path().to_str().unwrap()),
            ("CARLAS_PASSWORD", PASSWORD),
        ];
        binary::run(arguments, &variables)
    }

    /// Runs a line that must end with this exit code; what it printed.
    fn ends(&self, arguments: &[&str], code: i32) -> String {
        let output = self.runs(arguments);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {complaint}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn does(&self, arguments: &[&str]) -> String {
        self.ends(arguments, 0)
    }

    /// Runs a line of words that must succeed.
    fn says(&self, line: &str) -> String {
        self.does(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.says(&format!("{line} -o json"))).unwrap()
    }

    /// A file of this content.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spaces_roles_and_users_are_made_changed_and_ended() {
    let operator = Operator::signed_in().await;
    operator.does(&[
        "space",
        "create",
        "shop",
        "--name",
        "The shop",
        "--max-token-ttl",
        "1h",
    ]);
    operator
        .says("role create clerk --space shop --permission orders.read --permission orders.write");
    operator.says(
        "user create carla --space shop --email c@shop.example --password-variable CARLAS_PASSWORD",
    );
    operator.says("role assign clerk carla --space shop");
    let held = operator.says("role assignments --space shop --user carla");
    assert_eq!(held.split('\t').nth(1), Some("clerk"), "{held}");

    let sign_in = "token issue --username carla --password-variable CARLAS_PASSWORD --quiet";
    let jwt = operator.file("jwt", &operator.says(sign_in));
    let introspect = ["token", "introspect", "--file", jwt.to_str().unwrap()];
    assert!(
        operator
            .does(&introspect)
            .contains("orders.read,orders.write")
    );

    let narrowed = operator.json("role update clerk --space shop --permission orders.read");
    assert_eq!(narrowed["effect"]["effective"], true, "{narrowed}");
    assert_eq!(
        narrowed["role"]["permissions"],
        serde_json::json!(["orders.read"])
    );
    operator.ends(&introspect, 1);

    let changed = operator.json("user update carla --disable --clear email");
    assert_eq!(changed["user"]["disabled"], true, "{changed}");
    assert!(changed["user"].get("email").is_none(), "{changed}");
    operator.says("user update carla --enable");
    assert!(
        operator.json("user get carla")["user"]
            .get("disabled")
            .is_none()
    );

    let changed =
        operator.json("space update shop --key-prefix sh --clear max-token-ttl --clear name");
    assert_eq!(changed["space"]["keyPrefix"], "sh", "{changed}");
    assert!(changed["space"].get("maxTokenTtl").is_none(), "{changed}");

    let taken = operator.json("role unassign clerk carla --space shop");
    assert_eq!(taken["effect"]["effective"], true, "{taken}");
    assert_eq!(operator.says("role assignments --space shop"), "");
    operator.says("role delete clerk --space shop");
    assert!(
        !operator
            .says("role list --space shop --quiet")
            .contains("clerk")
    );
    operator.says("user create batch --space shop");
    assert_eq!(
        operator
            .says("user list --space shop --quiet")
            .lines()
            .count(),
        2
    );
    operator.says("user delete batch");
    assert_eq!(
        operator
            .says("user list --space shop --quiet")
            .lines()
            .count(),
        1
    );
    let ended = operator.json("space delete shop");
    assert_eq!(ended["effect"]["effective"], true, "{ended}");
    assert!(!operator.says("space list").contains("shop"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_made_up_is_alone_on_stdout() {
    let operator = Operator::signed_in().await;
    operator.says("user create carla");
    let password = operator.says("user reset-password carla --quiet");
    assert_eq!(password.lines().count(), 1, "it and nothing else");
    assert!(password.trim_end().len() >= 15);
    let file = operator.file("password", &password);
    let file = file.to_str().unwrap();
    operator.does(&[
        "token",
        "issue",
        "--username",
        "carla",
        "--password-file",
        file,
        "--quiet",
    ]);
    let chosen = "user reset-password carla --password-variable CARLAS_PASSWORD --quiet";
    assert_eq!(operator.says(chosen), "", "whoever chose it knows it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_changed_password_the_stored_login_is_the_fresh_one() {
    let operator = Operator::signed_in().await;
    operator.says("user create carla --password-variable CARLAS_PASSWORD");
    operator.says("login carla --password-variable CARLAS_PASSWORD");
    let new = operator.file("new", "noch kälter als Schnee im Mai\n");
    let new = new.to_str().unwrap();
    let change = [
        "user",
        "change-password",
        "--current-password-variable",
        "CARLAS_PASSWORD",
        "--password-file",
        new,
    ];
    let printed = operator.does(&change);
    assert!(!printed.contains("eyJ"), "the token is kept, not shown");
    assert!(operator.says("whoami").contains("carla"));
    operator.ends(&change, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_are_those_of_the_other_verbs() {
    let operator = Operator::signed_in().await;
    for (line, code) in [
        ("user get nobody", 4),
        ("space get nowhere", 4),
        ("role delete nothing", 4),
        ("user update admin", 2),
        ("space create X", 2),
        ("user create carla --password-variable NOT_SET", 2),
        ("role create clerk --permission authority.no.such", 2),
    ] {
        operator.ends(&line.split_whitespace().collect::<Vec<_>>(), code);
    }
    operator.says("logout");
    operator.ends(&["user", "list"], 3);
}
