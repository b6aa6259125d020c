//! Configurations that are refused, and secrets that are never shown: with the real binary.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use tempfile::TempDir;

use crate::support::binary::{self, Binary};

const SECRET: &str = "hunter2hunter2hunter2hunter2hunter2hunter2AA";

fn said(output: &Output) -> String {
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    said
}

/// Starts a server that must refuse; what it said.
fn refusal(data: &Path, variables: &[(&str, &str)]) -> String {
    let output = binary::serve(data, variables).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success(), "{variables:?}: {said}");
    assert!(!said.contains("hunter2"), "{said}");
    said
}

fn write(directory: &TempDir, name: &str, text: &str, mode: u32) -> String {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_master_key_that_is_none_is_refused_and_not_shown() {
    let files = tempfile::tempdir().unwrap();
    let zeros = format!("{}=", "A".repeat(43));
    let good = format!("{}=", &SECRET[..43]);
    let long = SECRET.to_owned();
    for (name, text, mode, why) in [
        ("missing", None, 0o600, "cannot be read"),
        ("short", Some("aHVudGVyMg=="), 0o600, "32 bytes"),
        ("long", Some(long.as_str()), 0o600, "32 bytes"),
        ("text", Some("hunter2 is no base64"), 0o600, "base64"),
        ("zeros", Some(zeros.as_str()), 0o600, "zeros"),
        ("readable", Some(good.as_str()), 0o644, "mode 0644"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let path = match text {
            Some(text) => write(&files, name, text, mode),
            None => files.path().join(name).to_str().unwrap().to_owned(),
        };
        let first = write(&files, "first", &good, 0o600);
        // One that is none is no better behind one that is.
        for path in [path.clone(), format!("{first},{path}")] {
            let said = refusal(data.path(), &[("TOKEN_AUTHORITY_MASTER_KEY_FILE", &path)]);
            assert!(said.contains(why), "{name}: {said}");
        }
        // Nor is it in a variable.
        if let (Some(text), 0o600) = (text, mode) {
            let said = refusal(data.path(), &[("TOKEN_AUTHORITY_MASTER_KEY", text)]);
            assert!(said.contains(why), "{name}: {said}");
        }
    }
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let data = tempfile::tempdir().unwrap();
    let typo = write(&data, "typo.toml", "[limits]\nconections = 7\n", 0o600);
    for (variable, value, named) in [
        (
            "TOKEN_AUTHORITY_GRPC_LISTEN",
            "0.0.0.0:0",
            "INSECURE_PLAINTEXT",
        ),
        (
            "TOKEN_AUTHORITY_HTTP_LISTEN",
            "[::]:0",
            "INSECURE_PLAINTEXT",
        ),
        (
            "TOKEN_AUTHORITY_ISUER",
            "https://x",
            "TOKEN_AUTHORITY_ISUER",
        ),
        ("TOKEN_AUTHORITY_CONFIG", &typo, "conections"),
        (
            "TOKEN_AUTHORITY_ARGON2_MEMORY_KIB",
            "1024",
            "argon2.memory_kib",
        ),
        (
            "TOKEN_AUTHORITY_ARGON2_ITERATIONS",
            "1",
            "argon2.iterations",
        ),
        (
            "TOKEN_AUTHORITY_DATABASE_URL",
            "mysql://u:hunter2@db",
            "postgres://",
        ),
    ] {
        let said = refusal(data.path(), &[(variable, value)]);
        assert!(said.contains(named), "{variable}: {said}");
    }
    assert!(
        !data.path().join("token-authority.db").exists(),
        "nothing was begun"
    );
}

#[test]
fn config_check_refuses_all_that_serve_would_at_once_and_makes_nothing() {
    let files = tempfile::tempdir().unwrap();
    let in_the_way = write(&files, "file", "", 0o600);
    let folder = format!("{in_the_way}/data");
    let missing = files.path().join("missing");
    let short = write(&files, "short", "hunter2\n", 0o600);
    let readable = write(&files, "readable", "rows the violet kayak\n", 0o644);
    let output = binary::run(
        &["config", "check"],
        &[
            ("TOKEN_AUTHORITY_DATA_DIR", &folder),
            ("TOKEN_AUTHORITY_MASTER_KEY", "hunter2 is no base64"),
            ("TOKEN_AUTHORITY_BOOTSTRAP_PASSWORD_FILE", &short),
            ("TOKEN_AUTHORITY_ARGON2_ITERATIONS", "1"),
            ("TOKEN_AUTHORITY_OPS_LISTEN", "nowhere"),
            ("TOKEN_AUTHORITY_ISUER", "x"),
        ],
    );
    let told = said(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    for part in [
        "file is not a directory",
        "master_key is not one line of base64",
        "bootstrap password: ",
        "argon2.iterations: must be from 2",
        "ops.listen: must be IP:PORT",
        "TOKEN_AUTHORITY_ISUER: is not a setting",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let data = files.path().join("data");
    let data = data.to_str().unwrap();
    for (variable, value, part) in [
        (
            "MASTER_KEY_FILE",
            missing.to_str().unwrap(),
            "cannot be read",
        ),
        ("MASTER_KEY_FILE", &short, "base64"),
        (
            "BOOTSTRAP_PASSWORD_FILE",
            missing.to_str().unwrap(),
            "cannot be read",
        ),
        ("BOOTSTRAP_PASSWORD_FILE", &readable, "mode must be"),
        ("CONFIG", missing.to_str().unwrap(), "cannot be read"),
    ] {
        let variable = format!("TOKEN_AUTHORITY_{variable}");
        let variables = [
            ("TOKEN_AUTHORITY_DATA_DIR", data),
            (variable.as_str(), value),
        ];
        let output = binary::run(&["config", "check"], &variables);
        let told = said(&output);
        assert!(told.contains(part), "{variable}: {told}");
        assert_eq!(output.status.code(), Some(1), "{told}");
        refusal(Path::new(data), &variables[1..]);
        assert!(!Path::new(data).exists(), "{variable}: something was made");
    }
    let good = binary::run(&["config", "check"], &[("TOKEN_AUTHORITY_DATA_DIR", data)]);
    assert!(good.status.success(), "{}", said(&good));
    assert!(!Path::new(data).exists());
}

#[test]
fn migrate_status_and_recover_make_no_database() {
    let files = tempfile::tempdir().unwrap();
    let data = files.path().join("data");
    let variables = [("TOKEN_AUTHORITY_DATA_DIR", data.to_str().unwrap())];
    let status = binary::run(&["migrate", "status"], &variables);
    assert!(status.status.success());
    assert_eq!(said(&status), "no database yet\n");
    let recovered = binary::run(&["recover", "admin"], &variables);
    assert_eq!(recovered.status.code(), Some(1));
    assert!(said(&recovered).contains("no database yet"));
    assert!(!data.exists());
    assert!(binary::run(&["migrate", "up"], &variables).status.success());
    let status = said(&binary::run(&["migrate", "status"], &variables));
    assert!(
        status.contains("applied\t") && !status.contains("pending"),
        "{status}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_failure_and_nothing_to_exchange_is_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    let variables = [("XDG_STATE_HOME", home.path().to_str().unwrap())];
    for arguments in [
        &["token", "introspect", "--file", "/nothing/here"][..],
        &["token", "issue", "--api-key-file", "/nothing/here"],
        &["login", "alice", "--password-file", "/nothing/here"],
        &["key", "list", "--token-file", "/nothing/here"],
        &["config", "check", "--config", "/nothing/here"],
        &["serve", "--config", "/nothing/here"],
    ] {
        let output = binary::run(arguments, &variables);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{arguments:?}: {}",
            said(&output)
        );
        assert!(said(&output).contains("/nothing/here"), "{arguments:?}");
    }
    let output = binary::run(&["token", "issue"], &variables);
    assert_eq!(output.status.code(), Some(2));
    for way in ["--username", "--api-key-file", "token rotate --own"] {
        assert!(said(&output).contains(way), "{}", said(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_password_is_made_once_and_never_said() {
    let server = Binary::start(&[]).await;
    let password = server.admin_password();
    let path = server.data.path().join("bootstrap-password");
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    assert!(password.len() >= 15);
    server.terminate();
    let (_, log, data) = server.ended().await;
    assert!(!log.contains(&password), "{log}");

    let again = Binary::start_in(data, &[]).await;
    assert_eq!(again.admin_password(), password);
    again.admin_token().await;
    fs::remove_file(&path).unwrap();
    again.terminate();
    let (_, _, data) = again.ended().await;
    let third = Binary::start_in(data, &[]).await;
    assert!(!path.exists(), "no other is made");
    drop(third);
}

#[test]
fn a_database_password_is_never_shown() {
    let data = tempfile::tempdir().unwrap();
    let url = "postgres://ta:hunter2@127.0.0.1:1/ta?password=hunter2";
    let file = write(&data, "url", url, 0o600);
    for (variable, value) in [
        ("TOKEN_AUTHORITY_DATABASE_URL", url),
        ("TOKEN_AUTHORITY_DATABASE_URL_FILE", file.as_str()),
    ] {
        for verb in ["show", "check"] {
            let output = binary::run(&["config", verb], &[(variable, value)]);
            let said = said(&output);
            assert!(output.status.success(), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
            assert_eq!(said.contains("[hidden]"), verb == "show", "{said}");
        }
        let verbose = (
            "TOKEN_AUTHORITY_LOG_FILTER",
            "trace,sqlx=trace,sea_orm=trace",
        );
        let said = refusal(data.path(), &[(variable, value), verbose]);
        let reached = "cannot reach the database at 127.0.0.1:1";
        assert!(said.contains(reached), "{said}");
    }
    let key = [("TOKEN_AUTHORITY_MASTER_KEY", SECRET)];
    let shown = said(&binary::run(&["config", "show"], &key));
    assert!(shown.contains("master_key = \"[hidden]\""), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_shows_in_the_process_where_secrets_come_from_files() {
    let files = tempfile::tempdir().unwrap();
    let master_key = format!("{}=", &SECRET[..43]);
    let key_file = write(&files, "key", &master_key, 0o400);
    let password = "hunter2 rows the violet kayak";
    let password_file = write(&files, "password", password, 0o400);
    let server = Binary::start(&[
        ("TOKEN_AUTHORITY_MASTER_KEY_FILE", &key_file),
        ("TOKEN_AUTHORITY_BOOTSTRAP_PASSWORD_FILE", &password_file),
    ])
    .await;
    for name in ["environ", "cmdline"] {
        let path = format!("/proc/{}/{name}", server.id());
        let shown = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        assert!(shown.contains("token-authority") || shown.contains("TOKEN_AUTHORITY"));
        assert!(!shown.contains("hunter2"), "{name}: {shown}");
    }
    server.terminate();
    let (status, log, _data) = server.ended().await;
    assert!(status.success() && !log.contains("hunter2"), "{log}");
}
