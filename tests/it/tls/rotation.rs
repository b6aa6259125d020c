//! Files that change while the server runs.

use token_authority::proto::{
    WatchRevocationsRequest, revocation_service_client::RevocationServiceClient,
};

use super::{BOTH, Ca, Folder, GET_KEYS, channel, hear, presented, shake};
use crate::support::{as_caller, binary::Binary, eventually, span};

fn variables(files: &Folder) -> [(&'static str, String); 2] {
    [
        (
            "TOKEN_AUTHORITY_TLS_CERTIFICATE_FILE",
            files.text("certificate"),
        ),
        ("TOKEN_AUTHORITY_TLS_KEY_FILE", files.text("key")),
    ]
}

/// The stream is told of a revocation that comes after the change, on the connection from before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_get_a_new_certificate_and_open_streams_go_on() {
    let ca = Ca::new("authority");
    let (old, new) = (ca.for_server(), ca.for_server());
    let files = Folder::with(&old);
    // It is asked whether it serves by who trusts what the file holds.
    let variables = variables(&files);
    let variables = variables
        .each_ref()
        .map(|(name, path)| (*name, path.as_str()));
    let server = Binary::start(&variables).await;
    let token = server.admin_token().await;
    let mut revocations = RevocationServiceClient::new(channel(server.grpc, &ca).await);
    let request = WatchRevocationsRequest {
        heartbeat_interval: span(1),
        ..Default::default()
    };
    let opened = revocations
        .watch_revocations(as_caller(&token, request))
        .await;
    let mut stream = opened.unwrap().into_inner();
    stream.message().await.unwrap().expect("it has started");
    assert_eq!(presented(server.grpc, &ca).await, old.der.0);

    files.put(&new);
    eventually("the new certificate", async || {
        presented(server.grpc, &ca).await == new.der.0
    })
    .await;
    assert_eq!(presented(server.http, &ca).await, new.der.0);
    for _ in 0..5 {
        stream.message().await.unwrap().expect("it goes on");
    }

    // What cannot be used changes nothing, however often it is read.
    files.write("certificate", "none");
    server.says("holds no certificate in PEM").await;
    for _ in 0..4 {
        stream.message().await.unwrap().expect("it goes on");
    }
    assert_eq!(presented(server.grpc, &ca).await, new.der.0);
    files.write("certificate", &old.certificate);
    server.says("is not the key of the certificate").await;
    assert_eq!(presented(server.grpc, &ca).await, new.der.0);
    files.write("key", &old.key);
    eventually("the old certificate", async || {
        presented(server.grpc, &ca).await == old.der.0
    })
    .await;
    stream.message().await.unwrap().expect("it goes on");
    server.terminate();
    let (_, log, _data) = server.ended().await;
    let complaints = log
        .lines()
        .filter(|line| line.contains("no certificate in PEM"));
    assert_eq!(complaints.count(), 1, "{log}");
    assert!(!log.contains("PRIVATE KEY"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_an_authority_that_was_taken_away_get_in_no_more() {
    let (ca, next) = (Ca::new("authority"), Ca::new("the next authority"));
    let files = Folder::with(&ca.for_server());
    files.write("clients", &ca.0.pem());
    let server = files.serve().await;
    let gets_in = async |of: &Ca| {
        let client = ca.client(BOTH, Some(of.for_client()), b"http/1.1");
        let shaken = shake(server.http, client).await;
        match shaken {
            Ok(mut stream) => hear(&mut stream, GET_KEYS).await.is_ok(),
            Err(_) => false,
        }
    };
    assert!(gets_in(&ca).await && !gets_in(&next).await);
    files.write("clients", &next.0.pem());
    eventually("the next authority counts", async || gets_in(&next).await).await;
    assert!(!gets_in(&ca).await);
    server.stop().await;
}
