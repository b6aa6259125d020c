use rustls::ProtocolVersion;
use token_authority::proto::token_service_client::TokenServiceClient;

use super::{BOTH, Ca, Folder, GET_KEYS, begin_http2, channel, hear, shake};
use crate::support::{
    binary::{self, survives},
    password_request,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_over_tls() {
    let ca = Ca::new("authority");
    let server = Folder::with(&ca.for_server()).serve().await;
    let channel = channel(server.grpc, &ca).await;
    let request = password_request("admin", &server.admin_password, "");
    let mut tokens = TokenServiceClient::new(channel.clone());
    let answer = tokens.issue_token(request).await.unwrap().into_inner();
    survives(channel, &answer.token.unwrap().access_token).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_listeners_speak_tls_1_2_and_1_3_and_say_what_is_spoken_inside() {
    let ca = Ca::new("authority");
    let server = Folder::with(&ca.for_server()).serve().await;
    for (version, spoken) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let http2 = begin_http2();
        for (address, protocol, said, beginning) in [
            (server.grpc, &b"h2"[..], &*http2, &b"\0\0"[..]),
            (server.http, b"http/1.1", GET_KEYS, b"HTTP/1.1 200 "),
        ] {
            let client = ca.client(&[version], None, protocol);
            let mut stream = shake(address, client).await.unwrap();
            let (_, connection) = stream.get_ref();
            assert_eq!(connection.protocol_version(), Some(spoken));
            assert_eq!(connection.alpn_protocol(), Some(protocol));
            let heard = hear(&mut stream, said).await.unwrap();
            assert!(heard.starts_with(beginning), "{heard:?}");
        }
    }
    // Who asks for nothing is not turned away; who asks for something else is.
    let mut silent = shake(server.http, ca.client(BOTH, None, b""))
        .await
        .unwrap();
    let heard = hear(&mut silent, GET_KEYS).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 200 "), "{heard:?}");
    let mut silent = shake(server.grpc, ca.client(BOTH, None, b""))
        .await
        .unwrap();
    let heard = hear(&mut silent, GET_KEYS).await.unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 505 "), "{heard:?}");
    let other = shake(server.grpc, ca.client(BOTH, None, b"http/1.1")).await;
    let told = other.unwrap_err().to_string();
    assert!(told.contains("NoApplicationProtocol"), "{told}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_reaches_a_server_that_asks_for_client_certificates() {
    let ca = Ca::new("authority");
    let files = Folder::with(&ca.for_server());
    let authority = files.write("clients", &ca.0.pem());
    let server = files.serve().await;
    let own = Folder::with(&ca.for_client());
    let stranger = Folder::with(&Ca::new("stranger").for_client());
    let health = |variables: &[(&str, &str)]| {
        let address = format!("https://{}", server.grpc);
        let variables = [&[("TOKEN_AUTHORITY_ADDRESS", address.as_str())], variables].concat();
        let output = binary::run(&["health"], &variables);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let of = |folder: &Folder| (folder.text("certificate"), folder.text("key"));
    let trusted = ("TOKEN_AUTHORITY_CA_FILE", authority.as_str());
    for (folder, exit) in [(&own, 0), (&stranger, 5)] {
        let (certificate, key) = of(folder);
        let (code, told) = health(&[
            trusted,
            ("TOKEN_AUTHORITY_CLIENT_CERTIFICATE_FILE", &certificate),
            ("TOKEN_AUTHORITY_CLIENT_KEY_FILE", &key),
        ]);
        assert_eq!(code, Some(exit), "{told}");
    }
    let (code, told) = health(&[trusted]);
    assert_eq!(code, Some(5), "no certificate: {told}");
    let (code, told) = health(&[]);
    assert_eq!(
        code,
        Some(5),
        "an authority that the machine does not know: {told}"
    );
    server.stop().await;
}
