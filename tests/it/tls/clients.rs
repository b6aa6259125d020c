//! Client certificates: who gets in and who does not.

use rcgen::{
    ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth},
    SanType, date_time_ymd,
};

use super::{Ca, Folder, GET_KEYS, Issued, begin_http2, hear, shake};

/// A certificate that is refused, and the alert that says so.
type Refused = (&'static str, fn(&Ca) -> Option<Issued>, &'static str);

const REFUSED: &[Refused] = &[
    ("none", |_| None, "CertificateRequired"),
    (
        "expired",
        |ca| {
            Some(ca.issue_with(ClientAuth, |params| {
                params.not_after = date_time_ymd(2020, 1, 1);
            }))
        },
        "CertificateExpired",
    ),
    (
        "not good yet",
        |ca| {
            Some(ca.issue_with(ClientAuth, |params| {
                params.not_before = date_time_ymd(4000, 1, 1);
            }))
        },
        "CertificateExpired",
    ),
    (
        "another authority's",
        |_| Some(Ca::new("stranger").for_client()),
        "UnknownCA",
    ),
    (
        "another authority's of the same name",
        |_| Some(Ca::new("authority").for_client()),
        "DecryptError",
    ),
    (
        "for servers",
        |ca| Some(ca.issue(ServerAuth)),
        "UnsupportedCertificate",
    ),
    (
        "NUL in a name",
        |ca| {
            Some(ca.issue_with(ClientAuth, |params| {
                let name = "localhost\0.example.com".try_into().unwrap();
                params.subject_alt_names = vec![SanType::DnsName(name)];
            }))
        },
        "BadCertificate",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_good_client_certificate_gets_in() {
    let ca = Ca::new("authority");
    let files = Folder::with(&ca.for_server());
    files.write("clients", &ca.0.pem());
    let server = files.serve().await;
    let http2 = begin_http2();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for (address, protocol, said) in [
            (server.grpc, &b"h2"[..], &*http2),
            (server.http, b"http/1.1", GET_KEYS),
        ] {
            let tried = async |identity| {
                let client = ca.client(&[version], identity, protocol);
                hear(&mut shake(address, client).await?, said).await
            };
            for (name, identity, alert) in REFUSED {
                let told = tried(identity(&ca)).await;
                let told = told.expect_err(name).to_string();
                assert!(told.contains(alert), "{name}: {told}");
            }
            let heard = tried(Some(ca.for_client())).await.unwrap();
            assert!(!heard.is_empty());
        }
    }
    server.stop().await;
}
