//! Files of no use are refused by name, before anything is made.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Ca, Folder};
use crate::support::binary;

#[test]
fn what_cannot_be_used_is_refused_by_check_and_serve_alike() {
    let ca = Ca::new("authority");
    let files = Folder::with(&ca.for_server());
    let other = ca.for_server();
    files.write("clients", &ca.0.pem());
    files.write("other-key", &other.key);
    files.write("empty", "");
    files.write("text", "hunter2");
    files.write("cut", &other.certificate[..200]);
    let bent = other.certificate.replace("MII", "MIA");
    files.write("bent", &bent);
    files.write("readable", &other.key);
    fs::set_permissions(files.path("readable"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(files.path("folder")).unwrap();
    for (certificate, key, clients, why) in [
        ("missing", "key", "", "tls.certificate_file: "),
        ("missing", "key", "", "missing cannot be read"),
        ("folder", "key", "", "it is not a regular file"),
        (
            "empty",
            "key",
            "",
            "tls.certificate_file: holds no certificate in PEM",
        ),
        ("cut", "key", "", "tls.certificate_file: is no PEM"),
        ("bent", "key", "", "tls.certificate_file: cannot be used"),
        ("certificate", "missing", "", "tls.key_file: "),
        (
            "certificate",
            "readable",
            "",
            "has mode 0640, it must be 0400 or 0600",
        ),
        (
            "certificate",
            "text",
            "",
            "tls.key_file: holds no private key",
        ),
        (
            "certificate",
            "certificate",
            "",
            "tls.key_file: holds no private key",
        ),
        (
            "certificate",
            "other-key",
            "",
            "tls.key_file: is not the key of the certificate",
        ),
        ("certificate", "key", "missing", "tls.client_ca_file: "),
        (
            "certificate",
            "key",
            "text",
            "tls.client_ca_file: holds no certificate in PEM",
        ),
        (
            "certificate",
            "key",
            "bent",
            "tls.client_ca_file: cannot be used",
        ),
        ("certificate", "", "", "tls.key_file: must be set"),
        ("", "", "clients", "tls.certificate_file: must be set"),
    ] {
        let path = |name: &str| match name {
            "" => String::new(),
            name => files.text(name),
        };
        let data = tempfile::tempdir().unwrap();
        let begun = data.path().join("data");
        let (certificate, key, clients) = (path(certificate), path(key), path(clients));
        let variables = [
            ("TOKEN_AUTHORITY_TLS_CERTIFICATE_FILE", certificate.as_str()),
            ("TOKEN_AUTHORITY_TLS_KEY_FILE", &key),
            ("TOKEN_AUTHORITY_TLS_CLIENT_CA_FILE", &clients),
            ("TOKEN_AUTHORITY_DATA_DIR", begun.to_str().unwrap()),
        ];
        let checked = binary::run(&["config", "check"], &variables);
        let served = binary::serve(&begun, &variables).output().unwrap();
        for output in [checked, served] {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{why}: {said}");
            assert!(said.contains(why), "{why}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(!begun.exists(), "{why}: something was made");
    }
}

#[test]
fn what_can_be_used_is_taken_beyond_loopback_too() {
    let ca = Ca::new("authority");
    let files = Folder::with(&ca.for_server());
    let (certificate, key) = (files.text("certificate"), files.text("key"));
    let clients = files.write("clients", &ca.0.pem());
    let listen = ("TOKEN_AUTHORITY_GRPC_LISTEN", "0.0.0.0:50051");
    let with_tls = [
        listen,
        ("TOKEN_AUTHORITY_TLS_CERTIFICATE_FILE", &certificate),
        ("TOKEN_AUTHORITY_TLS_KEY_FILE", &key),
        ("TOKEN_AUTHORITY_TLS_CLIENT_CA_FILE", &clients),
    ];
    let checked = |variables| binary::run(&["config", "check"], variables).status;
    assert!(checked(&with_tls).success());
    assert!(!checked(&[listen]).success());
}
