//! No message shows a secret when it is printed.

use prost_reflect::DescriptorPool;
use token_authority::proto::{self, issue_token_request::Credential};

const SECRET: &str = "hunter2hunter2hunter2";

/// Every message with a secret in it, printed.
fn printed() -> Vec<String> {
    let secret = || SECRET.to_owned();
    let password = proto::PasswordCredential {
        username: "alice".to_owned(),
        password: secret(),
    };
    let issued = proto::IssuedToken {
        access_token: secret(),
        ..Default::default()
    };
    let by_key = proto::IssueTokenRequest {
        credential: Some(Credential::ApiKeyToken(secret())),
        ..Default::default()
    };
    let by_password = proto::IssueTokenRequest {
        credential: Some(Credential::Password(password.clone())),
        ..Default::default()
    };
    vec![
        format!(
            "{:?}",
            proto::CreateApiKeyResponse {
                api_key_token: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::RotateApiKeyResponse {
                api_key_token: secret(),
                ..Default::default()
            }
        ),
        format!("{password:?}"),
        format!("{by_key:?}"),
        format!("{issued:?}"),
        format!(
            "{:?}",
            proto::IntrospectTokenRequest {
                token: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::BatchIntrospectTokensRequest {
                tokens: vec![secret()],
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::RotateTokenRequest {
                access_token: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::RevokeTokenRequest {
                token: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::CreateUserRequest {
                password: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::ChangePasswordRequest {
                current_password: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::ChangePasswordRequest {
                new_password: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::ResetPasswordRequest {
                new_password: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            proto::ResetPasswordResponse {
                generated_password: secret(),
                ..Default::default()
            }
        ),
        // And those that hold one of these.
        format!("{by_password:?}"),
        format!("{:?}", by_password.credential),
        format!(
            "{:?}",
            proto::IssueTokenResponse {
                token: Some(issued.clone())
            }
        ),
        format!(
            "{:?}",
            proto::RotateTokenResponse {
                token: Some(issued),
                effect: None
            }
        ),
    ]
}

#[test]
fn z02_no_secret_is_in_the_debug_of_a_message() {
    for text in printed() {
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("[hidden]"), "{text}");
    }
}

#[test]
fn every_field_that_the_contract_hides_is_among_them() {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    let hidden = pool
        .all_messages()
        .filter(|message| message.package_name() == "tokenauthority.v1")
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter(|field| {
            let redacted = field
                .options()
                .get_field_by_name("debug_redact")
                .map(|value| value.as_bool());
            redacted == Some(Some(true))
        })
        .count();
    assert_eq!(
        hidden,
        printed().len() - 4,
        "a new secret needs a case above"
    );
}

#[test]
fn what_is_no_secret_is_shown() {
    let request = proto::PasswordCredential {
        username: "alice".to_owned(),
        password: SECRET.to_owned(),
    };
    assert!(format!("{request:?}").contains("alice"));
}
